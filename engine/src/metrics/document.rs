//! docs/METRICS.md, made from what `/metrics` shows; a test keeps it so. `COLO_WRITE=1 cargo test -p colo-engine --lib
//! metrics::document` writes it again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::*;

/// Labels whose values belong to an installation, not to the program.
const FREE_LABELS: [&str; 8] = ["pair", "core", "ring", "pool", "rule", "port", "version", "commit"];

const HEAD: &str = "\
# Metrics

What `/metrics` shows, made from the code by `COLO_WRITE=1 cargo test -p colo-engine --lib metrics::document`.

All label values in this table are there from the start, with 0. `pair`, `core`, `ring`, `pool`, `rule` and `port` are named
by the installation. No metric has a label for a connection: single flows are at `/status` and in `colo top`. A scrape adds up
what the cores have copied out; the data plane does nothing for it.

Alerts over these metrics: [RUNBOOK.md](RUNBOOK.md). Dashboards: [grafana](../grafana/README.md).
";

/// One metric as the document has it.
#[derive(Default)]
struct Row {
    kind: String,
    help: String,
    labels: Vec<(String, Vec<String>)>,
    bounds: Vec<String>,
}

/// An engine with one of everything that a label can name.
fn installation() -> Snapshot {
    let name = || "a".to_owned();
    let mut pair = PairSnapshot { pair: name(), ..PairSnapshot::default() };
    pair.rules.masked = vec![(name(), 0)];
    pair.links = vec![Link { port: "a", state: LinkState::Up }];
    let core = CoreSnapshot { core: name(), ..CoreSnapshot::default() };
    let ring = RingSnapshot { pair: name(), ring: name(), ..RingSnapshot::default() };
    let pool = PoolSnapshot { pair: name(), core: name(), pool: name(), ..PoolSnapshot::default() };
    Snapshot {
        pairs: vec![pair],
        cores: vec![core],
        rings: vec![ring],
        pools: vec![pool],
        ..Snapshot::default()
    }
}

fn rows(page: &str) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            rows.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            rows.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let series = line.rsplit_once(' ').expect(line).0;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|family| rows.contains_key(*family)).unwrap_or(name);
            add_labels(rows.get_mut(family).expect(line), labels.trim_end_matches('}'));
        }
    }
    rows
}

fn add_labels(row: &mut Row, labels: &str) {
    for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
        let value = value.trim_matches('"').to_owned();
        if label == "le" {
            if !row.bounds.contains(&value) {
                row.bounds.push(value);
            }
            continue;
        }
        let place = row.labels.iter().position(|(known, _)| known == label).unwrap_or_else(|| {
            row.labels.push((label.to_owned(), Vec::new()));
            row.labels.len() - 1
        });
        let values = &mut row.labels[place].1;
        if !FREE_LABELS.contains(&label) && !values.contains(&value) {
            values.push(value);
        }
    }
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    let mut buckets = String::new();
    text.push_str("\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, row) in rows(&render(&installation())) {
        let label = |(label, values): &(String, Vec<String>)| {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            if values.is_empty() { label.clone() } else { format!("{label}: {}", values.join(", ")) }
        };
        let labels: Vec<_> = row.labels.iter().map(label).collect();
        let _ = writeln!(text, "| `{name}` | {} | {} | {} |", row.kind, labels.join("; "), row.help);
        if !row.bounds.is_empty() {
            let _ = writeln!(buckets, "- `{name}`: {}", row.bounds.join(", "));
        }
    }
    let _ = writeln!(text, "\n## Buckets\n\nUpper bounds, seconds.\n\n{}", buckets.trim_end());
    text
}

#[test]
fn the_document_says_what_the_page_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let made = document();
    if std::env::var_os("COLO_WRITE").is_some() {
        std::fs::write(&path, &made).expect("docs can be written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == made, "docs/METRICS.md is not what the code shows; COLO_WRITE=1 writes it again");
}

#[test]
fn the_page_has_what_operators_were_promised() {
    let rows = rows(&render(&installation()));
    let labels = |name: &str| {
        let row = rows.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        row.labels.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(",")
    };
    for (name, wanted) in [
        ("colo_build_info", "version,commit"),
        ("colo_frames_received_total", "pair,side"),
        ("colo_bytes_received_total", "pair,side"),
        ("colo_frames_released_total", "pair,why"),
        ("colo_frames_dropped_total", "pair,side,reason"),
        ("colo_compare_verdicts_total", "pair,protocol,verdict"),
        ("colo_checkpoints_requested_total", "pair,reason"),
        ("colo_checkpoints_completed_total", "pair"),
        ("colo_checkpoint_duration_seconds", "pair"),
        ("colo_last_checkpoint_timestamp_seconds", "pair"),
        ("colo_release_latency_seconds", "pair,why"),
        ("colo_mode", "pair,mode"),
        ("colo_mode_switches_total", "pair,mode"),
        ("colo_connections", "pair"),
        ("colo_held_frames", "pair,side"),
        ("colo_held_bytes", "pair,side"),
        ("colo_pool_free_frames", "pair,core,pool"),
        ("colo_ring_bursts", "pair,ring"),
        ("colo_core_busy_seconds_total", "core"),
        ("colo_poll_iterations_total", "core,state"),
        ("colo_window_clamped_total", "pair"),
        ("colo_invariant_violations_total", "pair"),
        ("process_cpu_seconds_total", ""),
    ] {
        assert_eq!(labels(name), wanted, "{name}");
    }
}
