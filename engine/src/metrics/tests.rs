//! The rules of the text format, every label value, the histogram's arithmetic, and a server that garbage cannot harm.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn sample() -> Snapshot {
    let mut pair = PairSnapshot { pair: "0".to_owned(), ..PairSnapshot::default() };
    pair.primary.frames = 7;
    pair.released.matched = 5;
    pair.secondary.dropped.over_budget = 3;
    pair.verdicts.udp.mismatch = 2;
    pair.checkpoints.requested.queue_full = 1;
    pair.checkpoints.completed = 1;
    pair.checkpoints.last_commit_unix = Some(Duration::from_millis(1_700_000_000_500));
    pair.checkpoints.duration_ns.saturating_record(2_000_000);
    for ns in [10_000, 60_000, 400_000_000, 5_000_000_000] {
        pair.release_latency.matched.saturating_record(ns);
    }
    pair.links = vec![
        Link { port: "primary_in", state: LinkState::Up },
        Link { port: "secondary_in", state: LinkState::Down },
    ];
    let core =
        CoreSnapshot { core: "0".to_owned(), busy: Duration::from_millis(1500), ..CoreSnapshot::default() };
    let ring =
        RingSnapshot { pair: "0".to_owned(), ring: "rx0>shard0 primary".to_owned(), bursts: 3, capacity: 64 };
    let pool = PoolSnapshot {
        core: "0".to_owned(),
        pool: "quote\"d\\ \n".to_owned(),
        free: 9,
        capacity: 10,
        pair: "0".to_owned(),
    };
    Snapshot {
        uptime: Duration::from_secs(3),
        pairs: vec![pair],
        cores: vec![core],
        rings: vec![ring],
        pools: vec![pool],
    }
}

/// Series → value, after checking what promtool would.
fn checked(text: &str) -> BTreeMap<String, f64> {
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let mut series = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty() && helps.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert!(helps.contains(name), "TYPE without HELP: {line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("colo_") || name.starts_with("process_"), "{line}");
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(legal), "{line}");
        } else {
            let (labelled, value) = line.rsplit_once(' ').expect(line);
            let name = labelled.split('{').next().expect(line);
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"));
            assert!(types.contains_key(family.unwrap_or(name)), "no TYPE before {line}");
            let value = value.parse().expect(line);
            assert!(series.insert(labelled.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    series
}

#[test]
fn the_text_format_keeps_the_rules() {
    let series = checked(&render(&sample()));
    assert_eq!(series.get("colo_frames_received_total{pair=\"0\",side=\"primary\"}"), Some(&7.0));
    assert_eq!(series.get("colo_link_up{pair=\"0\",port=\"secondary_in\"}"), Some(&0.0));
    assert_eq!(series.get("colo_core_busy_seconds_total{core=\"0\"}"), Some(&1.5));
    assert_eq!(series.get("colo_last_checkpoint_timestamp_seconds{pair=\"0\"}"), Some(&1_700_000_000.5));
    assert!(series.keys().any(|name| name.starts_with("process_resident_memory_bytes")));
    assert!(series.keys().any(|name| name.starts_with("colo_build_info{version=\"0.")));
}

#[test]
fn an_engine_without_pairs_or_cores_can_be_scraped() {
    let series = checked(&render(&Snapshot::default()));
    assert!(series.keys().any(|name| name.starts_with("colo_build_info")));
}

#[test]
fn every_known_label_value_is_there_from_the_start() {
    let fresh =
        Snapshot { pairs: vec![PairSnapshot { pair: "0".to_owned(), ..Default::default() }], ..sample() };
    let series = checked(&render(&fresh));
    let expect = |name: &str, labels: &[(&str, &[&str])]| {
        let mut wanted = vec![format!("{name}{{pair=\"0\"")];
        for (label, values) in labels {
            let each = |start: &String| {
                values.iter().map(|value| format!("{start},{label}=\"{value}\"")).collect::<Vec<_>>()
            };
            wanted = wanted.iter().flat_map(each).collect();
        }
        for one in &wanted {
            assert_eq!(series.get(&format!("{one}}}")), Some(&0.0), "{one}");
        }
        let prefix = format!("{name}{{");
        assert_eq!(series.keys().filter(|key| key.starts_with(&prefix)).count(), wanted.len(), "{name}");
    };
    let sides: (&str, &[&str]) = ("side", &["primary", "secondary"]);
    let reasons: &[&str] = &["mismatch", "timeout", "queue_full", "table_full", "periodic", "operator"];
    expect("colo_frames_received_total", &[sides]);
    expect("colo_bytes_received_total", &[sides]);
    expect("colo_held_frames", &[sides]);
    expect("colo_held_bytes", &[sides]);
    expect("colo_fragments_held", &[sides]);
    expect("colo_datagrams_reassembled_total", &[sides]);
    expect("colo_datagrams_malformed_total", &[sides]);
    expect("colo_fragments_refused_total", &[sides]);
    expect("colo_frames_released_total", &[("why", &["matched", "ack", "pass", "flush"])]);
    let dropped: &[&str] = &["matched", "pass", "flush", "stale", "duplicate", "over_budget"];
    expect("colo_frames_dropped_total", &[sides, ("reason", dropped)]);
    let verdicts: &[&str] = &["release", "hold", "drop", "mismatch", "timeout"];
    expect(
        "colo_compare_verdicts_total",
        &[("protocol", &["tcp", "udp", "icmp", "other"]), ("verdict", verdicts)],
    );
    expect("colo_checkpoints_requested_total", &[("reason", reasons)]);
    expect("colo_checkpoints_absorbed_total", &[("reason", reasons)]);
    expect("colo_checkpoints_completed_total", &[]);
    expect("colo_release_latency_seconds_count", &[("why", &["matched", "ack", "flush"])]);
    expect("colo_connections_refused_total", &[]);
    expect("colo_pair_busy_seconds_total", &[]);
    expect("colo_peers_refused_total", &[]);
    expect("colo_window_clamped_total", &[]);
    expect("colo_reading_stops_total", &[]);
    expect("colo_port_lost_frames_total", &[("port", &["primary_in", "secondary_in", "out"])]);
    expect("colo_invariant_violations_total", &[]);
    for name in ["records", "skipped", "write_errors"] {
        expect(&format!("colo_diverged_{name}_total"), &[]);
    }
    expect("colo_mode_switches_total", &[("mode", &["colo", "passive", "off"])]);
    expect("colo_secondary_lost", &[]);
    expect("colo_flows_quarantined_total", &[]);
    assert_eq!(series.get("colo_mode{pair=\"0\",mode=\"passive\"}"), Some(&0.0));
    assert_eq!(series.get("colo_mode{pair=\"0\",mode=\"colo\"}"), Some(&1.0));
}

#[test]
fn several_pairs_have_series_and_readiness_of_their_own() {
    let two = || {
        let mut two = sample();
        let twin = |name: &str| PairSnapshot { pair: name.to_owned(), ..sample().pairs.remove(0) };
        two.pairs = vec![twin("web"), twin("db")];
        two.pairs[0].links[1].state = LinkState::Up;
        for name in ["web", "db"] {
            let pool = two.pools[0].clone();
            two.pools.push(PoolSnapshot { pair: name.to_owned(), ..pool });
        }
        two
    };
    let series = checked(&render(&two()));
    for name in ["web", "db"] {
        let frames = format!("colo_frames_received_total{{pair=\"{name}\",side=\"primary\"}}");
        assert_eq!(series.get(&frames), Some(&7.0), "{frames}");
    }
    let server = server(Arc::new(two));
    assert!(ask(&server, b"GET /readyz HTTP/1.1\r\n\r\n").ends_with("waiting for secondary_in of db\n"));
}

#[test]
fn buckets_are_cumulative_and_a_bound_is_within_its_bucket() {
    let series = checked(&render(&sample()));
    let bucket = |bound: &str| {
        let key = format!("colo_release_latency_seconds_bucket{{pair=\"0\",why=\"matched\",le=\"{bound}\"}}");
        *series.get(&key).expect(&key)
    };
    let bounds = [
        "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
        "0.2", "0.4", "1", "3", "+Inf",
    ];
    let counts: Vec<f64> = bounds.iter().map(|bound| bucket(bound)).collect();
    assert!(counts.windows(2).all(|pair| pair[0] <= pair[1]), "{counts:?}");
    assert_eq!((bucket("0.00005"), bucket("0.0001")), (1.0, 2.0));
    assert_eq!((bucket("0.2"), bucket("0.4"), bucket("3"), bucket("+Inf")), (2.0, 3.0, 3.0, 4.0));
    assert_eq!(series.get("colo_release_latency_seconds_count{pair=\"0\",why=\"matched\"}"), Some(&4.0));
    let sum = series["colo_release_latency_seconds_sum{pair=\"0\",why=\"matched\"}"];
    assert!((sum - 5.400_07).abs() < 0.005, "{sum}");
}

#[test]
fn counts_become_floating_point_exactly() {
    for (count, float) in
        [(0, 0.0), (1, 1.0), (1 << 40, 1_099_511_627_776.0), ((1 << 53) - 1, 9_007_199_254_740_991.0)]
    {
        assert_eq!(family::float(count).to_bits(), f64::to_bits(float));
    }
}

#[test]
fn status_has_percentiles_and_all_counters() {
    let status = status_json(&sample());
    let pair = &status["pairs"][0];
    assert_eq!(pair["released"]["matched"], 5);
    assert_eq!(pair["secondary"]["dropped"]["over_budget"], 3);
    assert_eq!(pair["links"]["secondary_in"], "down");
    assert_eq!(pair["release_latency_ns"]["matched"]["count"], 4);
    let p50 = pair["release_latency_ns"]["matched"]["p50"].as_u64().expect("a number");
    assert!((60_000..60_100).contains(&p50), "{p50}");
    assert_eq!(pair["release_latency_ns"]["ack"]["max"], 0);
}

#[test]
fn status_has_shares_and_the_most_telling_flows() {
    use crate::flow::{Addresses, FlowKey, Selector, VlanTags};
    use crate::verdict::{Cause, Detail, MismatchKind, Reason, Scene};
    let ports = Selector::Ports { source: 80, destination: 9 };
    let addresses = Addresses::V4 { source: 0x0a00_0001, destination: 0x0a00_0002 };
    let flow = FlowKey::new(addresses, VlanTags::default(), 6, ports);
    let detail = Detail::Mismatch {
        kind: MismatchKind::Payload,
        offset: 7,
        primary: Some(3),
        secondary: None,
        scene: Scene::default(),
    };
    let last =
        Cause { reason: Reason::Mismatch, at: pmd_tap::Nanos(2_500_000_000), flow: Some(flow), detail };
    let mut snapshot = sample();
    let (held, longest) = (Duration::from_millis(150), Duration::from_millis(40));
    snapshot.pairs[0].flows.held.push(HeldFlow { flow, held, longest, frames: 2 });
    snapshot.pairs[0].flows.differing.push(DifferingFlow { flow, mismatches: 4, timeouts: 1, last });
    let status = status_json(&snapshot);
    let flows = &status["pairs"][0]["flows"];
    assert_eq!(flows["by_held_time"][0]["flow"], "tcp 10.0.0.1:80 > 10.0.0.2:9");
    assert_eq!(flows["by_held_time"][0]["held_seconds"], 0.15);
    let differing = &flows["by_mismatches"][0];
    assert_eq!((&differing["mismatches"], &differing["timeouts"]), (&4.into(), &1.into()));
    assert_eq!(differing["last"]["detail"]["kind"], "payload");
    assert_eq!(differing["last"]["detail"]["offset"], 7);
    assert_eq!(differing["last"]["uptime_seconds"], 2.5);
    assert_eq!(status["cores"][0]["busy_share"], 0.5);
    assert_eq!(status["rings"][0]["fill"], 3.0 / 64.0);
    assert_eq!(status["pools"][0]["fill"], 0.1);
}

fn server(source: Source) -> MetricsServer {
    MetricsServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), source).expect("a free port")
}

fn ask(server: &MetricsServer, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // The server may refuse before it has read everything.
    let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_server_serves_its_pages() {
    let server = server(Arc::new(sample));
    let metrics = ask(&server, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body) = metrics.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    checked(body);
    let head_only = ask(&server, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head_only.starts_with("HTTP/1.1 200") && head_only.ends_with("\r\n\r\n"), "{head_only}");
    assert!(ask(&server, b"GET /healthz HTTP/1.1\n\n").ends_with("\r\n\r\nok\n"));
    assert!(ask(&server, b"GET /readyz HTTP/1.1\r\n\r\n").ends_with("waiting for secondary_in\n"));
    let status = ask(&server, b"GET /status HTTP/1.1\r\n\r\n");
    let body = status.split_once("\r\n\r\n").expect("a head").1;
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON")["pairs"][0]["pair"], "0");
}

#[test]
fn the_server_refuses_what_it_does_not_know() {
    let server = server(Arc::new(sample));
    let status = |request: &[u8]| ask(&server, request).lines().next().unwrap_or_default().to_owned();
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert!(ask(&server, b"GET /x HTTP/1.1\r\n\r\n").ends_with("/metrics, /healthz, /readyz and /status\n"));
    assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status(b"hello\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(b"\xff\xfe\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(b""), "HTTP/1.1 400 Bad Request");
    let long = [b"GET /".as_slice(), &[b'a'; 9000]].concat();
    assert_eq!(status(&long), "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(status(b"GET /healthz HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn a_silent_client_does_not_keep_the_server() {
    let server = server(Arc::new(sample));
    let _silent = TcpStream::connect(server.address()).expect("a connection");
    let started = std::time::Instant::now();
    assert!(ask(&server, b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_source_that_panics_is_told_and_survived() {
    let server = server(Arc::new(|| panic!("on purpose")));
    assert!(ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 500"));
    assert!(ask(&server, b"GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
}

#[test]
fn a_taken_port_is_one_sentence_and_a_dropped_server_frees_its_own() {
    let first = server(Arc::new(sample));
    let address = first.address();
    let error = MetricsServer::start(address, Arc::new(sample)).expect_err("taken").to_string();
    let start = format!("cannot serve metrics on {address}: Address already in use");
    assert!(error.starts_with(&start) && error.ends_with("or --metrics off"), "{error}");
    drop(first);
    assert!(MetricsServer::start(address, Arc::new(sample)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_request_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = http::head_ends(&bytes);
        let _ = http::parse(&bytes);
        let _ = http::parse(&[b"GET /".as_slice(), &bytes].concat());
    }
}
