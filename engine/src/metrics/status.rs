//! A snapshot as JSON: the page at `/status`, with percentiles that Prometheus buckets cannot give.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::family::float;
use super::render::{COMMIT, VERSION, sides};
use super::snapshot::{
    DifferingFlow, HeldFlow, LinkState, ModesSnapshot, PairSnapshot, SideSnapshot, Snapshot,
};
use crate::modes::Conduct;
use crate::reason::DetailFields;

/// The object at `/status`. Times are in the unit their name ends with.
pub fn status_json(snapshot: &Snapshot) -> Value {
    let cores = snapshot.cores.iter().map(|core| {
        json!({
            "core": core.core,
            "busy_seconds": core.busy.as_secs_f64(),
            "busy_share": share(core.busy, snapshot.uptime),
            "poll_iterations": object(core.polls.by_label()),
        })
    });
    let rings = snapshot.rings.iter();
    let rings =
        rings.map(|ring| json!({ "pair": ring.pair, "ring": ring.ring, "bursts": ring.bursts, "capacity": ring.capacity, "fill": fill(ring.bursts, ring.capacity) }));
    let pools = snapshot.pools.iter().map(
        |pool| json!({ "pair": pool.pair, "core": pool.core, "pool": pool.pool, "free": pool.free, "capacity": pool.capacity, "fill": fill(pool.capacity.saturating_sub(pool.free), pool.capacity) }),
    );
    json!({
        "version": VERSION,
        "commit": COMMIT,
        "uptime_seconds": snapshot.uptime.as_secs_f64(),
        "pairs": snapshot.pairs.iter().map(pair).collect::<Vec<_>>(),
        "cores": cores.collect::<Vec<_>>(),
        "rings": rings.collect::<Vec<_>>(),
        "pools": pools.collect::<Vec<_>>(),
    })
}

/// Count, percentiles (nearest rank) and maximum of recorded nanoseconds; zeros when nothing was recorded.
pub fn percentiles_json(recorded: &Histogram<u64>) -> Value {
    json!({
        "count": recorded.len(),
        "p50": recorded.value_at_quantile(0.5),
        "p90": recorded.value_at_quantile(0.9),
        "p99": recorded.value_at_quantile(0.99),
        "p999": recorded.value_at_quantile(0.999),
        "max": recorded.max(),
    })
}

/// The same with the mean, of which readers make means over intervals.
fn latency_json(recorded: &Histogram<u64>) -> Value {
    let mut told = percentiles_json(recorded);
    told["mean"] = json!(recorded.mean());
    told
}

fn pair(pair: &PairSnapshot) -> Value {
    let checkpoints = &pair.checkpoints;
    let links = pair.links.iter().map(|link| {
        let state = match link.state {
            LinkState::Up => "up",
            LinkState::Down => "down",
        };
        (link.port, state)
    });
    let verdicts = pair.verdicts.by_label().map(|(protocol, counts)| (protocol, object(counts.by_label())));
    let latency = pair.release_latency.by_label();
    let [primary, secondary] = sides(pair).map(|(_, counts)| side(counts));
    json!({
        "pair": pair.pair,
        "mode": pair.modes.conduct.label(),
        "modes": modes(&pair.modes),
        "flows": {
            "by_held_time": pair.flows.held.iter().map(held_flow).collect::<Vec<_>>(),
            "by_mismatches": pair.flows.differing.iter().map(differing_flow).collect::<Vec<_>>(),
        },
        "quarantined": pair.quarantined,
        "busy_seconds": pair.busy.as_secs_f64(),
        "links": object(links),
        "primary": primary,
        "secondary": secondary,
        "released": object(pair.released.by_label()),
        "verdicts": object(verdicts),
        "checkpoints": {
            "requested": object(checkpoints.requested.by_label()),
            "absorbed": object(checkpoints.absorbed.by_label()),
            "completed": checkpoints.completed,
            "overdue": checkpoints.overdue,
            "abandoned": checkpoints.abandoned,
            "duration_ns": percentiles_json(&checkpoints.duration_ns),
            "last_commit_unix_seconds": checkpoints.last_commit_unix.map(|time| time.as_secs_f64()),
        },
        "release_latency_ns": object(latency.map(|(why, recorded)| (why, latency_json(recorded))).into_iter()),
        "rules": {
            "count": pair.rules.count,
            "unsafe": !pair.rules.masked.is_empty(),
            "masked_differences": pair.rules.masked.iter().map(|(rule, count)| (rule.clone(), json!(count))).collect::<Map<_, _>>(),
            "reloads": object(pair.rules.reloads.by_label()),
        },
        "connections": pair.connections,
        "connections_refused": pair.connections_refused,
        "peers_refused": pair.peers_refused,
        "window_clamped": pair.window_clamped,
        "reading_stops": pair.reading_stops,
        "port_lost_frames": object(pair.lost.by_label().into_iter()),
        "diverged": {
            "records": pair.diverged.records,
            "skipped": pair.diverged.skipped,
            "write_errors": pair.diverged.write_errors,
        },
        "invariant_violations": pair.invariant_violations,
    })
}

/// A time as a share of another, 0–1.
fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// How full something is, 0–1.
fn fill(used: u64, capacity: u64) -> f64 {
    if capacity == 0 { 0.0 } else { float(used) / float(capacity) }
}

fn held_flow(known: &HeldFlow) -> Value {
    json!({
        "flow": known.flow.to_string(),
        "held_seconds": known.held.as_secs_f64(),
        "longest_seconds": known.longest.as_secs_f64(),
        "frames": known.frames,
    })
}

fn differing_flow(known: &DifferingFlow) -> Value {
    json!({
        "flow": known.flow.to_string(),
        "mismatches": known.mismatches,
        "timeouts": known.timeouts,
        "last": {
            "uptime_seconds": known.last.at.since(pmd_tap::Nanos::ZERO).as_secs_f64(),
            "reason": known.last.reason.label(),
            "detail": DetailFields::from(&known.last.detail),
        },
    })
}

/// What is set, what is done, and how that came.
fn modes(modes: &ModesSnapshot) -> Value {
    let (set, pace) = (&modes.settings, &modes.pace);
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let switches = Conduct::ALL.into_iter().zip(modes.switches);
    let history = modes
        .history
        .iter()
        .map(|(at, to, why)| json!({ "uptime_seconds": at.as_secs_f64(), "mode": to.label(), "why": why }));
    json!({
        "set": set.mode.label(),
        "policy": set.policy.label(),
        "passive_limit_ms": ms(set.passive_limit),
        "passive_leave_limit_ms": ms(set.passive_leave_limit),
        "passive_count": set.passive_count,
        "passive_count_max": set.passive_count_max,
        "passive_interval_ms": ms(set.passive_interval),
        "checkpoint_delay_ms": ms(pace.delay),
        "min_checkpoint_interval_ms": ms(pace.min_interval),
        "max_checkpoint_interval_ms": pace.max_interval.map(ms),
        "secondary_lost": modes.is_secondary_lost,
        "switches": object(switches.map(|(conduct, count)| (conduct.label(), count))),
        "history": history.collect::<Vec<_>>(),
    })
}

fn side(side: &SideSnapshot) -> Value {
    json!({
        "frames": side.frames,
        "bytes": side.bytes,
        "dropped": object(side.dropped.by_label()),
        "bad_checksums": side.bad_checksums,
        "classes": object(side.classes.by_label()),
        "held_frames": side.held_frames,
        "held_bytes": side.held_bytes,
    })
}

fn object<V: Into<Value>>(entries: impl Iterator<Item = (&'static str, V)>) -> Value {
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>())
}
