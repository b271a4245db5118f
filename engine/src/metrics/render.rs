//! A snapshot as the Prometheus text format: names, help, labels, buckets.
//!
//! Each function below is one group of metrics; what a metric means is its help text and nowhere else.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;

use super::family::{Bound, Family};
use super::snapshot::{LinkState, PairSnapshot, SideSnapshot, Snapshot};
use crate::modes::Conduct;

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit of this build, when the build was told by `COLO_COMMIT`.
pub const COMMIT: &str = match option_env!("COLO_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

const fn us(us: u64, seconds: f64) -> Bound {
    Bound { ns: us * 1_000, seconds }
}

/// 0.4 s is our timeout, 3 s is QEMU's.
const RELEASE_BOUNDS: [Bound; 15] = [
    us(50, 50e-6),
    us(100, 100e-6),
    us(250, 250e-6),
    us(500, 500e-6),
    us(1_000, 1e-3),
    us(2_500, 2.5e-3),
    us(5_000, 5e-3),
    us(10_000, 10e-3),
    us(25_000, 25e-3),
    us(50_000, 50e-3),
    us(100_000, 0.1),
    us(200_000, 0.2),
    us(400_000, 0.4),
    us(1_000_000, 1.0),
    us(3_000_000, 3.0),
];

/// From an idle guest over a unix socket (1–3 ms) to a large one over a slow link.
const CHECKPOINT_BOUNDS: [Bound; 12] = [
    us(1_000, 1e-3),
    us(2_500, 2.5e-3),
    us(5_000, 5e-3),
    us(10_000, 10e-3),
    us(25_000, 25e-3),
    us(50_000, 50e-3),
    us(100_000, 0.1),
    us(250_000, 0.25),
    us(500_000, 0.5),
    us(1_000_000, 1.0),
    us(2_500_000, 2.5),
    us(10_000_000, 10.0),
];

/// The page at `/metrics`.
pub fn render(snapshot: &Snapshot) -> String {
    let mut families = vec![build()];
    families.extend(traffic(&snapshot.pairs));
    families.extend(checkpoints(&snapshot.pairs));
    families.extend(fragments(&snapshot.pairs));
    families.extend(super::ports::ports(&snapshot.pairs));
    families.extend(latency(&snapshot.pairs));
    families.extend(state(&snapshot.pairs));
    families.extend(policy(&snapshot.pairs));
    families.extend(diverged(&snapshot.pairs));
    families.extend(cores(snapshot));
    let mut families: Vec<MetricFamily> = families.into_iter().filter_map(Family::finish).collect();
    families.extend(ProcessCollector::for_self().collect());
    // Only a family without name or series is refused, and there is none.
    prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

pub(super) fn sides(pair: &PairSnapshot) -> [(&'static str, &SideSnapshot); 2] {
    [("primary", &pair.primary), ("secondary", &pair.secondary)]
}

fn build() -> Family {
    let mut info =
        Family::gauge("colo_build_info", "Always 1; version and commit of this build are its labels.");
    info.count(&[("version", VERSION), ("commit", COMMIT)], 1);
    info
}

fn traffic(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut frames = Family::counter("colo_frames_received_total", "Frames received from a VM.");
    let mut bytes = Family::counter("colo_bytes_received_total", "Bytes of the frames received from a VM.");
    let mut released =
        Family::counter("colo_frames_released_total", "Primary frames that left, by why they could leave.");
    let mut dropped = Family::counter(
        "colo_frames_dropped_total",
        "Frames that will never leave, by reason; 0 for the primary.",
    );
    let mut verdicts =
        Family::counter("colo_compare_verdicts_total", "Decisions of the comparer, by protocol.");
    let mut clamped = Family::counter(
        "colo_window_clamped_total",
        "Primary frames that left with a lower TCP window, because the secondary did not offer as much.",
    );
    for one in pairs {
        let pair = ("pair", one.pair.as_str());
        clamped.count(&[pair], one.window_clamped);
        for (side, counts) in sides(one) {
            let side = ("side", side);
            frames.count(&[pair, side], counts.frames);
            bytes.count(&[pair, side], counts.bytes);
            for (reason, count) in counts.dropped.by_label() {
                dropped.count(&[pair, side, ("reason", reason)], count);
            }
        }
        for (why, count) in one.released.by_label() {
            released.count(&[pair, ("why", why)], count);
        }
        for (protocol, counts) in one.verdicts.by_label() {
            for (verdict, count) in counts.by_label() {
                verdicts.count(&[pair, ("protocol", protocol), ("verdict", verdict)], count);
            }
        }
    }
    vec![frames, bytes, released, dropped, verdicts, clamped]
}

fn fragments(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut held = Family::gauge(
        "colo_fragments_held",
        "IP fragments that wait for the rest of their datagram; they are among the frames held.",
    );
    let mut reassembled =
        Family::counter("colo_datagrams_reassembled_total", "Datagrams put together from fragments.");
    let mut malformed = Family::counter(
        "colo_datagrams_malformed_total",
        "Datagrams whose fragments overlap, contradict each other, are too long or hide their transport header.",
    );
    let mut refused = Family::counter(
        "colo_fragments_refused_total",
        "Fragments that found no room to wait for the rest of their datagram.",
    );
    for one in pairs {
        for (side, counts) in sides(one) {
            let (labels, counts) = ([("pair", one.pair.as_str()), ("side", side)], counts.fragments);
            held.count(&labels, counts.held);
            reassembled.count(&labels, counts.reassembled);
            malformed.count(&labels, counts.malformed);
            refused.count(&labels, counts.refused);
        }
    }
    vec![held, reassembled, malformed, refused]
}

fn checkpoints(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut requested =
        Family::counter("colo_checkpoints_requested_total", "Checkpoints asked for, by reason.");
    let mut absorbed = Family::counter(
        "colo_checkpoints_absorbed_total",
        "Causes answered by a checkpoint that was already asked for or due, by reason.",
    );
    let mut completed = Family::counter("colo_checkpoints_completed_total", "Checkpoints committed.");
    let mut overdue = Family::counter(
        "colo_checkpoints_overdue_total",
        "Times that a checkpoint did not come within checkpoint_deadline of asking for it.",
    );
    let mut abandoned = Family::counter(
        "colo_checkpoints_abandoned_total",
        "Checkpoints begun for which nothing left: nobody can say whether they were committed.",
    );
    let mut duration = Family::histogram(
        "colo_checkpoint_duration_seconds",
        "Time from asking for a checkpoint to its commit.",
    );
    let mut last = Family::gauge(
        "colo_last_checkpoint_timestamp_seconds",
        "Unix time of the last commit; 0 when there was none.",
    );
    for one in pairs {
        let (pair, counts) = (("pair", one.pair.as_str()), &one.checkpoints);
        for (reason, count) in counts.requested.by_label() {
            requested.count(&[pair, ("reason", reason)], count);
        }
        for (reason, count) in counts.absorbed.by_label() {
            absorbed.count(&[pair, ("reason", reason)], count);
        }
        completed.count(&[pair], counts.completed);
        overdue.count(&[pair], counts.overdue);
        abandoned.count(&[pair], counts.abandoned);
        duration.distribution(&[pair], &counts.duration_ns, &CHECKPOINT_BOUNDS);
        last.value(&[pair], counts.last_commit_unix.map_or(0.0, |time| time.as_secs_f64()));
    }
    vec![requested, absorbed, completed, overdue, abandoned, duration, last]
}

fn latency(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut latency = Family::histogram(
        "colo_release_latency_seconds",
        "Time from the arrival of a primary frame to its release, by why it could leave.",
    );
    for one in pairs {
        for (why, recorded) in one.release_latency.by_label() {
            latency.distribution(&[("pair", &one.pair), ("why", why)], recorded, &RELEASE_BOUNDS);
        }
    }
    vec![latency]
}

fn state(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut mode = Family::gauge("colo_mode", "1 for the mode the pair is in, 0 for the others.");
    let mut switches = Family::counter("colo_mode_switches_total", "Changes to a mode since the start.");
    let mut lost = Family::gauge(
        "colo_secondary_lost",
        "1 while everything passes because the secondary is gone; a checkpoint brings it back.",
    );
    let mut quarantined = Family::counter(
        "colo_flows_quarantined_total",
        "Times that a flow that keeps differing was put aside: it waits for checkpoints, the others stay compared.",
    );
    let mut connections = Family::gauge("colo_connections", "Entries of the connection table.");
    let mut refused = Family::counter(
        "colo_connections_refused_total",
        "New connections that found the table full; their frames were held.",
    );
    let mut peers = Family::counter(
        "colo_peers_refused_total",
        "Connections closed because the other end broke the framing protocol.",
    );
    let mut stops = Family::counter(
        "colo_reading_stops_total",
        "Times that a bound stopped the reading of the primary's input until a commit.",
    );
    let mut frames = Family::gauge("colo_held_frames", "Frames held now.");
    let mut bytes = Family::gauge("colo_held_bytes", "Bytes of the frames held now.");
    let mut up = Family::gauge("colo_link_up", "1 when somebody is at the other end of a port.");
    let mut violations = Family::counter(
        "colo_invariant_violations_total",
        "Times the books did not balance (received = released + held + dropped); must be 0.",
    );
    for one in pairs {
        let pair = ("pair", one.pair.as_str());
        for (conduct, count) in Conduct::ALL.into_iter().zip(one.modes.switches) {
            let labels = [pair, ("mode", conduct.label())];
            mode.count(&labels, u64::from(conduct == one.modes.conduct));
            switches.count(&labels, count);
        }
        lost.count(&[pair], u64::from(one.modes.is_secondary_lost));
        quarantined.count(&[pair], one.quarantined);
        connections.count(&[pair], one.connections);
        refused.count(&[pair], one.connections_refused);
        peers.count(&[pair], one.peers_refused);
        stops.count(&[pair], one.reading_stops);
        for (side, counts) in sides(one) {
            frames.count(&[pair, ("side", side)], counts.held_frames);
            bytes.count(&[pair, ("side", side)], counts.held_bytes);
        }
        for link in &one.links {
            up.count(&[pair, ("port", link.port)], u64::from(link.state == LinkState::Up));
        }
        violations.count(&[pair], one.invariant_violations);
    }
    vec![mode, switches, lost, quarantined, connections, refused, peers, stops, frames, bytes, up, violations]
}

fn policy(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut classes = Family::counter(
        "colo_class_frames_total",
        "Frames outside the comparison of IP flows, by class: what becomes of them is said by class.CLASS.",
    );
    let mut bad = Family::counter(
        "colo_bad_checksums_total",
        "Frames received with a wrong checksum; 0 unless verify_checksums says to count them.",
    );
    let mut rules = Family::gauge("colo_rules", "Rules in force.");
    let mut masked = Family::counter(
        "colo_masked_differences_total",
        "Differences that a rule's payload mask forgave, by the rule's number: content that was not compared.",
    );
    let mut reloads = Family::counter(
        "colo_config_reloads_total",
        "Times that the configuration was read again, by what came of it.",
    );
    for one in pairs {
        let pair = ("pair", one.pair.as_str());
        for (side, counts) in sides(one) {
            bad.count(&[pair, ("side", side)], counts.bad_checksums);
            for (class, count) in counts.classes.by_label() {
                classes.count(&[pair, ("side", side), ("class", class)], count);
            }
        }
        rules.count(&[pair], one.rules.count);
        for (rule, count) in &one.rules.masked {
            masked.count(&[pair, ("rule", rule)], *count);
        }
        for (outcome, count) in one.rules.reloads.by_label() {
            reloads.count(&[pair, ("outcome", outcome)], count);
        }
    }
    vec![classes, bad, rules, masked, reloads]
}

fn diverged(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut records = Family::counter(
        "colo_diverged_records_total",
        "Mismatches and timeouts written to the diverged file.",
    );
    let mut skipped = Family::counter(
        "colo_diverged_skipped_total",
        "Mismatches and timeouts not written down: too many of one epoch, or the writer was behind.",
    );
    let mut errors = Family::counter(
        "colo_diverged_write_errors_total",
        "Records that the diverged file's file system did not take.",
    );
    for one in pairs {
        let pair = ("pair", one.pair.as_str());
        records.count(&[pair], one.diverged.records);
        skipped.count(&[pair], one.diverged.skipped);
        errors.count(&[pair], one.diverged.write_errors);
    }
    vec![records, skipped, errors]
}

fn cores(snapshot: &Snapshot) -> Vec<Family> {
    let mut free = Family::gauge(
        "colo_pool_free_frames",
        "Frames that an input may still receive before its bound stops it.",
    );
    let mut frames = Family::gauge(
        "colo_pool_frames",
        "Frames of an input that may be in the engine at a time (max_held_frames).",
    );
    for pool in &snapshot.pools {
        let labels =
            [("pair", pool.pair.as_str()), ("core", pool.core.as_str()), ("pool", pool.pool.as_str())];
        free.count(&labels, pool.free);
        frames.count(&labels, pool.capacity);
    }
    let mut waiting = Family::gauge("colo_ring_bursts", "Bursts waiting in a ring between cores.");
    let mut room = Family::gauge("colo_ring_capacity_bursts", "Bursts a ring between cores can hold.");
    for ring in &snapshot.rings {
        let labels = [("pair", ring.pair.as_str()), ("ring", ring.ring.as_str())];
        waiting.count(&labels, ring.bursts);
        room.count(&labels, ring.capacity);
    }
    let mut busy = Family::counter(
        "colo_core_busy_seconds_total",
        "Time a core spent on iterations that found something.",
    );
    let mut polls =
        Family::counter("colo_poll_iterations_total", "Iterations of a poll loop, by what they found.");
    for core in &snapshot.cores {
        busy.value(&[("core", &core.core)], core.busy.as_secs_f64());
        for (state, count) in core.polls.by_label() {
            polls.count(&[("core", &core.core), ("state", state)], count);
        }
    }
    let mut own = Family::counter(
        "colo_pair_busy_seconds_total",
        "Time that cores spent on a pair, in iterations that found something.",
    );
    for pair in &snapshot.pairs {
        own.value(&[("pair", &pair.pair)], pair.busy.as_secs_f64());
    }
    vec![free, frames, waiting, room, busy, polls, own]
}
