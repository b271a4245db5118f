//! Runs of both comparers side by side: medians over the rounds and their quotients, as Markdown.

use std::fmt::Write as _;

use crate::frames::Protocol;
use crate::load::cpu::float;
use crate::load::engine::{Kind, Transport};
use crate::load::outcome::{Outcome, micros, rounded};
use crate::load::shape::{Shape, Writes};

/// All runs of one load.
#[derive(Debug)]
pub struct Row<'a> {
    /// The scenario.
    pub scenario: &'a str,
    /// Over what.
    pub transport: Transport,
    /// What.
    pub shape: &'a Shape,
    runs: Vec<&'a Outcome>,
}

/// The runs of one comparer.
#[derive(Debug)]
pub struct Column<'a>(Vec<&'a Outcome>);

/// Runs by their load, in the order in which the loads first came.
pub fn rows(outcomes: &[Outcome]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for run in outcomes {
        let scenario = run.scenario.as_deref().unwrap_or("load");
        let own = |row: &&mut Row<'_>| {
            row.scenario == scenario && row.transport == run.transport && *row.shape == run.shape
        };
        if let Some(row) = rows.iter_mut().find(own) {
            row.runs.push(run);
        } else {
            rows.push(Row { scenario, transport: run.transport, shape: &run.shape, runs: vec![run] });
        }
    }
    rows
}

impl<'a> Row<'a> {
    /// One comparer's runs.
    pub fn of(&self, kind: Kind) -> Column<'a> {
        Column(self.runs.iter().copied().filter(|run| run.engine == kind).collect())
    }

    /// What is loaded, for people.
    pub fn title(&self) -> String {
        let shape = self.shape;
        let protocol = if shape.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
        let flows = if shape.flows == 1 { "1 flow".to_owned() } else { format!("{} flows", shape.flows) };
        let mut title = format!("{protocol} {} B, {flows}, {}", shape.frame, self.transport.name());
        let mut more = |text: String| {
            title.push_str(", ");
            title.push_str(&text);
        };
        if let Some(rate) = shape.rate {
            more(format!("{rate}/s"));
        } else {
            more(format!("{} on the way", shape.window));
        }
        if shape.skew > 0 {
            more(format!("secondary {} behind", shape.skew));
        }
        if shape.late_us > 0 {
            more(format!("secondary {} µs late", shape.late_us));
        }
        if shape.reorder > 0.0 {
            more(format!("{} % out of order by {}", shape.reorder * 100.0, shape.reorder_depth));
        }
        if shape.mismatch > 0.0 {
            more(format!("{} % differ", shape.mismatch * 100.0));
        }
        if shape.writes == Writes::Single {
            more("a write a frame".to_owned());
        }
        title
    }
}

impl Column<'_> {
    /// Whether there is no run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Median of a figure over the runs that have it.
    pub fn median(&self, figure: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<f64> = self.0.iter().filter_map(|run| figure(run)).collect();
        all.sort_by(f64::total_cmp);
        let (low, high) = (all.get(all.len().checked_sub(1)? / 2)?, all.get(all.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    /// Sum of a count over the runs.
    pub fn sum(&self, count: impl Fn(&Outcome) -> u64) -> u64 {
        self.0.iter().map(|run| count(run)).sum()
    }
}

/// Processor time of a run, ns a pair.
pub fn cpu(run: &Outcome) -> Option<f64> {
    run.cpu.filter(|_| run.pairs > 0).map(|cpu| cpu.ns_per_pair)
}

/// Figures of a scenario's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Work alone: the comparer stood still while it was written to.
    Work,
    /// As fast as it goes.
    Throughput,
    /// At fixed times.
    Latency,
    /// What goes wrong.
    Faults,
}

/// A table for each scenario.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let rows = rows(outcomes);
    let mut text = String::new();
    let mut done: Vec<&str> = Vec::new();
    for row in &rows {
        if done.contains(&row.scenario) {
            continue;
        }
        done.push(row.scenario);
        let own: Vec<&Row<'_>> = rows.iter().filter(|other| other.scenario == row.scenario).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "### {}\n", row.scenario);
        let view = view(row);
        text.push_str(head(view));
        for row in own {
            let (colo, qemu) = (row.of(Kind::Colo), row.of(Kind::Qemu));
            let _ = writeln!(text, "| {} | {} |", row.title(), cells(view, &colo, &qemu).join(" | "));
        }
        text.push('\n');
    }
    text
}

fn view(row: &Row<'_>) -> View {
    match row.shape {
        shape if shape.gated => View::Work,
        _ if row.scenario.starts_with("fault") => View::Faults,
        shape if shape.rate.is_some() => View::Latency,
        _ => View::Throughput,
    }
}

fn head(view: View) -> &'static str {
    match view {
        View::Work => {
            "| load | CPU a pair: colo, ns | QEMU, ns | quotient | of it in the kernel: colo | QEMU |\n\
             |---|---:|---:|---:|---:|---:|\n"
        }
        View::Throughput => {
            "| load | CPU a pair: colo, ns | QEMU, ns | quotient | pairs/s: colo | QEMU | quotient | \
             memory: colo | QEMU | faults: colo | QEMU |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n"
        }
        View::Latency => {
            "| load | p50 µs: colo | QEMU | p99 µs: colo | QEMU | p99.9 µs: colo | QEMU | cores: colo | QEMU | \
             faults: colo | QEMU |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n"
        }
        View::Faults => "| load | colo | QEMU |\n|---|---|---|\n",
    }
}

fn cells(view: View, colo: &Column<'_>, qemu: &Column<'_>) -> Vec<String> {
    let both = |figure: &dyn Fn(&Outcome) -> Option<f64>, show: &dyn Fn(f64) -> String| {
        [colo, qemu].map(|column| column.median(figure).map_or_else(|| "–".to_owned(), show))
    };
    let quotient = |over: &Column<'_>, under: &Column<'_>, figure: &dyn Fn(&Outcome) -> Option<f64>| {
        let pair = over.median(figure).zip(under.median(figure)).filter(|(_, under)| *under > 0.0);
        pair.map_or_else(|| "–".to_owned(), |(over, under)| format!("{:.1}×", over / under))
    };
    let whole = |value: f64| format!("{value:.0}");
    let latency =
        |at: fn(&Outcome) -> u64| both(&|run| Some(float(at(run))), &|ns| format!("{:.1}", ns / 1e3));
    let speed = |run: &Outcome| Some(run.pairs_per_second);
    let work = || [both(&cpu, &whole).to_vec(), vec![quotient(qemu, colo, &cpu)]].concat();
    match view {
        View::Work => {
            let kernel = |run: &Outcome| run.cpu.map(|cpu| 100.0 * cpu.system_ns_per_pair / cpu.ns_per_pair);
            [work(), both(&kernel, &|share| format!("{share:.0} %")).to_vec()].concat()
        }
        View::Throughput => {
            let memory = |run: &Outcome| run.memory.map(|memory| float(memory.peak >> 20));
            let mut cells = work();
            cells.extend(both(&speed, &rounded));
            cells.push(quotient(colo, qemu, &speed));
            cells.extend(both(&memory, &|mib| format!("{mib:.0} MiB")));
            cells.extend([faults(colo), faults(qemu)]);
            cells
        }
        View::Latency => {
            let mut cells = latency(|run| run.latency_ns.p50).to_vec();
            cells.extend(latency(|run| run.latency_ns.p99));
            cells.extend(latency(|run| run.latency_ns.p999));
            cells.extend(both(&|run| run.cpu.map(|cpu| cpu.cores), &|cores| format!("{cores:.2}")));
            cells.extend([faults(colo), faults(qemu)]);
            cells
        }
        View::Faults => vec![story(colo), story(qemu)],
    }
}

/// What went wrong in all runs.
fn faults(column: &Column<'_>) -> String {
    if column.is_empty() {
        return "–".to_owned();
    }
    let kinds = [
        (column.sum(|run| run.faults.lost), "lost"),
        (column.sum(|run| run.faults.duplicates), "twice"),
        (column.sum(|run| run.faults.out_of_order), "out of order"),
        (column.sum(|run| run.faults.altered), "altered"),
        (column.sum(|run| run.faults.unmatched), "unmatched"),
        (column.sum(|run| run.false_requests), "false requests"),
        (column.sum(|run| run.stalls), "stalls"),
    ];
    let sent = float(column.sum(|run| run.sent)).max(1.0);
    let share = |count| {
        let percent = 100.0 * float(count) / sent;
        if percent >= 0.1 { format!(" ({percent:.1} %)") } else { String::new() }
    };
    let some = kinds.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = some.map(|(count, kind)| format!("{count} {kind}{}", share(count))).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// What went wrong, and what came back nevertheless.
fn story(column: &Column<'_>) -> String {
    let figures = column.median(|run| Some(run.pairs_per_second)).map(rounded);
    let p99 = column.0.first().map(|run| micros(run.latency_ns.p99));
    let settings = column.0.first().map_or_else(Vec::new, |run| run.settings.clone());
    let Some((speed, p99)) = figures.zip(p99) else { return "–".to_owned() };
    let with = if settings.is_empty() { String::new() } else { format!(" (`{}`)", settings.join("`, `")) };
    format!("{}; {speed} pairs/s, p99 {p99} µs{with}", faults(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::books::Faults;
    use crate::load::outcome::{Cpu, Latency};

    fn run(engine: Kind, ns: f64, gated: bool) -> Outcome {
        Outcome {
            scenario: Some("work".to_owned()),
            engine,
            transport: Transport::Unix,
            settings: Vec::new(),
            shape: Shape { gated, ..Shape::default() },
            pairs: 1000,
            seconds: 1.0,
            pairs_per_second: 1e9 / ns,
            sent: 1000,
            faults: Faults { lost: if engine == Kind::Qemu { 30 } else { 0 }, ..Faults::default() },
            stalls: 0,
            requests: 0,
            false_requests: 0,
            commits: 0,
            latency_ns: Latency::default(),
            cpu: Some(Cpu {
                ns_per_pair: ns,
                user_ns_per_pair: ns / 2.0,
                system_ns_per_pair: ns / 2.0,
                cores: 1.0,
            }),
            memory: None,
            driver_ns_per_pair: 1.0,
            frames_per_write: 1.0,
            frames_per_read: 1.0,
        }
    }

    #[test]
    fn medians_stand_beside_their_quotient() {
        let runs = [
            run(Kind::Colo, 100.0, true),
            run(Kind::Qemu, 2000.0, true),
            run(Kind::Colo, 900.0, true),
            run(Kind::Qemu, 2500.0, true),
            run(Kind::Colo, 200.0, true),
            run(Kind::Qemu, 2100.0, true),
        ];
        let text = markdown(&runs);
        assert!(text.contains("| 200 | 2100 | 10.5× | 50 % | 50 % |"), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
        let two = [run(Kind::Colo, 100.0, true), run(Kind::Colo, 200.0, true)];
        assert_eq!(rows(&two)[0].of(Kind::Colo).median(cpu), Some(150.0));
        assert_eq!(rows(&two)[0].of(Kind::Qemu).median(cpu), None);
    }

    #[test]
    fn faults_are_summed_and_named() {
        let text = markdown(&[run(Kind::Colo, 100.0, false), run(Kind::Qemu, 2000.0, false)]);
        assert!(text.contains("| none | 30 lost (3.0 %) |"), "{text}");
        assert!(text.contains("20.0×"), "{text}");
    }
}
