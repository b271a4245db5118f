//! What it looks like. Draws a model and changes nothing in it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};
use serde_json::Value;

use super::model::{FlowRow, Model, Sort, number, word};

const KEYS: &str = " q quit  s sort  ↑↓ select  w why  p pair  space pause ";

/// The whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let cores = u16::try_from(model.cores().len()).unwrap_or(u16::MAX).clamp(1, 8);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(cores + 3),
        Constraint::Min(4),
    ]);
    let [head, pair, middle, below, flows] = areas.areas(frame.area());
    frame.render_widget(heading(model), head);
    frame.render_widget(pair_block(model), pair);
    let [causes, latency] =
        Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)]).areas(middle);
    frame.render_widget(checkpoints(model), causes);
    draw_latency(frame, model, latency);
    let [left, right] = Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)]).areas(below);
    frame.render_widget(core_table(model), left);
    frame.render_widget(fills(model), right);
    draw_flows(frame, model, flows);
    if model.is_explaining()
        && let Some(row) = model.flows().get(model.selected())
    {
        explain(frame, row);
    }
}

fn heading(model: &Model) -> Paragraph<'_> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("colo top", bold), Span::raw(format!("  {}", model.source()))];
    if let Some(error) = model.error() {
        spans.push(Span::styled(format!("  {error}"), Style::new().fg(Color::Red)));
    } else {
        let up = number(&model.page()["uptime_seconds"]);
        spans.push(Span::raw(format!("  {} up {up:.0} s", word(&model.page()["version"]))));
    }
    if model.is_paused() {
        spans.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    Paragraph::new(Line::from(spans))
}

fn pair_block(model: &Model) -> Paragraph<'_> {
    let pair = model.shown();
    let links = pair["links"].as_object().into_iter().flatten();
    let down: Vec<_> = links.filter(|(_, state)| *state != "up").map(|(port, _)| port.as_str()).collect();
    let links = if down.is_empty() {
        Span::styled("all up", Style::new().fg(Color::Green))
    } else {
        Span::styled(format!("down: {}", down.join(", ")), Style::new().fg(Color::Red))
    };
    let lost = pair["modes"]["secondary_lost"] == true;
    let mode = format!("{} (set: {})", word(&pair["mode"]), word(&pair["modes"]["set"]));
    let mode = Span::styled(
        mode,
        Style::new().fg(if pair["mode"] == "colo" { Color::Green } else { Color::Yellow }),
    );
    let lost =
        if lost { Span::styled("  SECONDARY LOST", Style::new().fg(Color::Red)) } else { Span::raw("") };
    let side = |name: &str| {
        let held = &pair[name];
        format!(
            "{name:<10} {:>10.0} frames/s  held {} frames, {} bytes",
            model.rate(&[name, "frames"]),
            held["held_frames"],
            held["held_bytes"]
        )
    };
    let released: f64 = model.rates(&["released"]).iter().map(|(_, rate)| rate).sum();
    let lines = vec![
        Line::from(vec![Span::raw("mode "), mode, lost, Span::raw("   links "), links]),
        Line::from(side("primary")),
        Line::from(side("secondary")),
        Line::from(format!(
            "released   {released:>10.0} frames/s  connections {}, books out of balance {}",
            pair["connections"], pair["invariant_violations"]
        )),
    ];
    let several = model.pairs().len();
    let title = format!(" pair {} ({several} in all) ", word(&pair["pair"]));
    Paragraph::new(lines).block(Block::bordered().title(title))
}

fn checkpoints(model: &Model) -> Paragraph<'_> {
    let counts = &model.shown()["checkpoints"];
    let mut rates = model.rates(&["checkpoints", "requested"]);
    rates.sort_by(|one, other| other.1.total_cmp(&one.1));
    let reason = |(name, rate): &(String, f64)| format!("{name} {rate:.1}");
    let (first, rest) = rates.split_at(rates.len().min(3));
    let line = |part: &[(String, f64)]| part.iter().map(reason).collect::<Vec<_>>().join("   ");
    let duration = |at: &str| number(&counts["duration_ns"][at]) / 1e6;
    let lines = vec![
        Line::from(line(first)),
        Line::from(line(rest)),
        Line::from(format!(
            "committed {}   {:.1} a second",
            counts["completed"],
            model.rate(&["checkpoints", "completed"])
        )),
        Line::from(format!("duration p50 {:.1} ms, p99 {:.1} ms", duration("p50"), duration("p99"))),
    ];
    Paragraph::new(lines).block(Block::bordered().title(" checkpoints a second, by reason "))
}

fn draw_latency(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let recorded = &model.shown()["release_latency_ns"]["matched"];
    let last = model.latency().next_back().unwrap_or(0);
    let ms = |at: &str| number(&recorded[at]) / 1e6;
    let title = format!(
        " release latency: mean {last} µs; since the start p50 {:.2} ms, p99 {:.2} ms ",
        ms("p50"),
        ms("p99")
    );
    let width = usize::from(area.width.saturating_sub(2));
    let skip = model.latency().count().saturating_sub(width);
    let data: Vec<_> = model.latency().skip(skip).collect();
    let line = Sparkline::default().data(&data).style(Style::new().fg(Color::Cyan));
    frame.render_widget(line.block(Block::bordered().title(title)), area);
}

fn core_table(model: &Model) -> Table<'_> {
    let cores = model.cores();
    let rows = cores.into_iter().map(|core| {
        let [busy, idle, sleep] = core.polls;
        Row::new([
            core.core,
            format!("{:.1} %", 100.0 * core.busy),
            format!("{busy:.0}"),
            format!("{idle:.0}"),
            format!("{sleep:.0}"),
        ])
    });
    let widths = [5, 9, 10, 10, 10].map(Constraint::Length);
    let head =
        Row::new(["core", "busy", "work/s", "idle/s", "sleep/s"]).style(Style::new().fg(Color::DarkGray));
    Table::new(rows, widths).header(head).block(Block::bordered().title(" cores (a shard each) "))
}

fn fills(model: &Model) -> Table<'_> {
    let pair = &model.shown()["pair"];
    let list = |name: &str| model.page()[name].as_array().map_or(&[][..], Vec::as_slice).iter();
    let of_pair = |one: &&Value| one["pair"] == *pair;
    let pools =
        list("pools").filter(of_pair).map(|pool| ("pool", word(&pool["pool"]), number(&pool["fill"])));
    let rings =
        list("rings").filter(of_pair).map(|ring| ("ring", word(&ring["ring"]), number(&ring["fill"])));
    let rows = pools
        .chain(rings)
        .map(|(kind, name, fill)| Row::new([kind.to_owned(), name, format!("{:.1} %", 100.0 * fill)]));
    let widths = [Constraint::Length(5), Constraint::Min(20), Constraint::Length(9)];
    let head = Row::new(["what", "which", "full"]).style(Style::new().fg(Color::DarkGray));
    Table::new(rows, widths).header(head).block(Block::bordered().title(" pools and rings "))
}

fn draw_flows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let rows = model.flows().into_iter().map(|row| {
        let last = row.last.as_ref().map_or_else(String::new, |last| {
            let kind = last["detail"]["kind"].as_str().or(last["detail"]["waits_for"].as_str());
            format!("{} {}", word(&last["reason"]), kind.unwrap_or_default())
        });
        Row::new([
            row.flow,
            format!("{:.2}", row.held_seconds),
            format!("{:.1}", 1e3 * row.longest_seconds),
            row.frames.to_string(),
            row.mismatches.to_string(),
            row.timeouts.to_string(),
            last,
        ])
    });
    let widths = [
        Constraint::Min(30),
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(22),
    ];
    let head = Row::new(["flow", "held s", "longest ms", "frames", "differed", "timeouts", "last"])
        .style(Style::new().fg(Color::DarkGray));
    let by = match model.sort() {
        Sort::HeldTime => "held time",
        Sort::Mismatches => "mismatches",
    };
    let block = Block::bordered().title(format!(" hottest flows by {by} ")).title_bottom(KEYS);
    let table = Table::new(rows, widths).header(head).block(block);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(model.selected()));
}

/// Why a flow last differed.
fn explain(frame: &mut Frame<'_>, row: &FlowRow) {
    let mut lines = vec![Line::from(row.flow.clone())];
    match &row.last {
        None => lines.push(Line::from("It has not differed, as far as is remembered; its frames waited.")),
        Some(last) => {
            lines.push(Line::from(format!(
                "{} at {:.3} s after the start; {} mismatches and {} timeouts in all",
                word(&last["reason"]),
                number(&last["uptime_seconds"]),
                row.mismatches,
                row.timeouts
            )));
            for (key, value) in last["detail"].as_object().into_iter().flatten() {
                lines.push(Line::from(format!("{key:<16} {}", word(value))));
            }
            lines.push(Line::from("Every byte of it: colo compare --diverged FILE, then colo explain FILE."));
        }
    }
    let area = frame.area();
    let height = u16::try_from(lines.len() + 4).unwrap_or(u16::MAX).min(area.height);
    let (width, y) = (area.width.saturating_sub(8), (area.height - height) / 2);
    let place = Rect { x: area.x + 4, y: area.y + y, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" why it last differed ").title_bottom(" w or Esc closes ");
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}
