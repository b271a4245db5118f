//! Pages in, a screen out: rates, sorting, the answer to why; and pages that are none.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::model::{Model, Sort};
use super::{Stage, press, view};

fn page(uptime: f64, frames: u64) -> Value {
    json!({
        "version": "0.1.0",
        "uptime_seconds": uptime,
        "pairs": [{
            "pair": "web", "mode": "colo", "modes": { "set": "hybrid", "secondary_lost": false },
            "links": { "primary_in": "up", "secondary_in": "down" },
            "primary": { "frames": frames, "held_frames": 3, "held_bytes": 180 },
            "secondary": { "frames": frames, "held_frames": 0, "held_bytes": 0 },
            "released": { "matched": frames, "ack": 0 },
            "connections": 4, "invariant_violations": 0,
            "checkpoints": {
                "requested": { "mismatch": frames / 100, "timeout": 0 }, "completed": frames / 100,
                "duration_ns": { "p50": 2_000_000, "p99": 4_000_000 },
            },
            "release_latency_ns": { "matched": { "count": frames, "mean": 250_000.0, "p50": 1, "p99": 2 } },
            "flows": {
                "by_held_time": [
                    { "flow": "tcp a > b", "held_seconds": 2.5, "longest_seconds": 0.02, "frames": 1 },
                    { "flow": "udp c > d", "held_seconds": 0.5, "longest_seconds": 0.01, "frames": 0 },
                ],
                "by_mismatches": [{
                    "flow": "udp c > d", "mismatches": 7, "timeouts": 1,
                    "last": { "uptime_seconds": 1.5, "reason": "mismatch", "detail": { "kind": "datagram", "offset": 12 } },
                }],
            },
        }],
        "cores": [{ "core": "0", "busy_seconds": uptime / 4.0, "poll_iterations": { "busy": frames, "idle": 0, "sleep": 0 } }],
        "rings": [], "pools": [{ "pair": "web", "pool": "primary", "fill": 0.25 }],
    })
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, model)).expect("drawn");
    terminal.backend().to_string()
}

fn key(model: &mut Model, code: KeyCode) -> Stage {
    press(model, KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn rates_are_of_the_interval_and_everything_is_on_the_screen() {
    let mut model = Model::new("here".to_owned());
    model.take(Ok(page(10.0, 1_000)));
    model.take(Ok(page(12.0, 5_000)));
    assert!((model.rate(&["primary", "frames"]) - 2_000.0).abs() < 1e-6);
    assert!((model.cores()[0].busy - 0.25).abs() < 1e-6);
    assert_eq!(model.latency().next_back(), Some(250));
    let shown = screen(&model, 130, 40);
    for wanted in [
        "colo top  here  0.1.0 up 12 s",
        "pair web",
        "colo (set: hybrid)",
        "down: secondary_in",
        "2000 frames/s  held 3 frames, 180 bytes",
        "mismatch 20.0",
        "committed 50   20.0 a second",
        "mean 250 µs",
        "25.0 %",
        "hottest flows by held time",
        "tcp a > b",
        "mismatch datagram",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not on\n{shown}");
    }
}

#[test]
fn keys_sort_select_and_ask_why() {
    let mut model = Model::new("here".to_owned());
    model.take(Ok(page(10.0, 1_000)));
    assert_eq!(model.flows()[0].flow, "tcp a > b");
    assert_eq!(key(&mut model, KeyCode::Char('s')), Stage::Goes);
    assert_eq!((model.sort(), model.flows()[0].flow.as_str()), (Sort::Mismatches, "udp c > d"));
    key(&mut model, KeyCode::Char('w'));
    let shown = screen(&model, 130, 40);
    for wanted in [
        "why it last differed",
        "7 mismatches and 1 timeouts",
        "kind             datagram",
        "offset           12",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not on\n{shown}");
    }
    assert_eq!(key(&mut model, KeyCode::Esc), Stage::Goes, "closes the answer first");
    key(&mut model, KeyCode::Down);
    key(&mut model, KeyCode::Down);
    assert_eq!(model.selected(), 1, "not beyond the last");
    key(&mut model, KeyCode::Enter);
    assert!(screen(&model, 130, 40).contains("It has not differed"));
    key(&mut model, KeyCode::Char(' '));
    model.take(Ok(page(20.0, 9_000)));
    assert!(screen(&model, 130, 40).contains("paused") && model.page()["uptime_seconds"] == 10.0);
    assert_eq!(key(&mut model, KeyCode::Char('q')), Stage::Over);
}

#[test]
fn a_page_that_is_missing_or_strange_and_a_small_terminal_are_no_reason_to_panic() {
    let mut model = Model::new("here".to_owned());
    let _ = screen(&model, 80, 24);
    model.take(Err("no colo answers".to_owned()));
    assert!(screen(&model, 80, 24).contains("no colo answers"));
    for strange in
        [json!(null), json!([]), json!({ "pairs": [{ "flows": 7 }], "cores": [{}] }), page(5.0, 10)]
    {
        model.take(Ok(strange));
        for code in [KeyCode::Char('p'), KeyCode::Char('w'), KeyCode::Down, KeyCode::Char('s')] {
            key(&mut model, code);
        }
        for (width, height) in [(130, 40), (80, 24), (20, 5), (1, 1)] {
            let _ = screen(&model, width, height);
        }
    }
}
