//! From what the threads count to one snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::control::{ControlCounters, Differing, Held, ModeCounters, reason_cell};
use super::diverged::DivergedCounts;
use super::meters::Meters;
use super::publish::Published;
use super::rings::Rings;
use super::shared::{PortRole, Shared};
use crate::fragments::FragmentCounts;
use crate::metrics::{
    ClassFrames, CoreSnapshot, DifferingFlow, Dropped, FlowsSnapshot, HeldFlow, Link, LinkState,
    ModesSnapshot, PairSnapshot, PoolSnapshot, Released, Reloads, RingSnapshot, RulesSnapshot, SideSnapshot,
    Snapshot, Verdicts,
};
use crate::side::Side;
use crate::stats::{ByRule, Counters};
use crate::verdict::Reason;

/// Everything that a snapshot of a pair is made of.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) rings: Arc<Rings>,
    pub(super) cores: Vec<Arc<Mutex<Published>>>,
    pub(super) control: Arc<Mutex<ControlCounters>>,
    pub(super) max_frames: usize,
    pub(super) diverged: Option<Arc<DivergedCounts>>,
    pub(super) meters: Meters,
}

/// What is counted of all pairs.
pub(super) fn snapshot<'a>(pairs: impl Iterator<Item = &'a Scrape>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    pairs.for_each(|pair| pair.add_to(&mut snapshot));
    snapshot
}

impl Scrape {
    /// Adds what is counted of the pair.
    fn add_to(&self, snapshot: &mut Snapshot) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.shared.clock.now();
        snapshot.uptime = now.since(pmd_tap::Nanos::ZERO);
        let mut pair = PairSnapshot {
            pair: self.name.clone(),
            connections_refused: control.connections_refused,
            peers_refused: control.refused,
            links: links(&control),
            checkpoints: control.checkpoints,
            modes: modes(control.modes),
            flows: flows(&control.flows.held, &control.flows.differing),
            diverged: self.diverged.as_ref().map(|counts| counts.snapshot()).unwrap_or_default(),
            lost: self.meters.read(),
            ..PairSnapshot::default()
        };
        for reason in Reason::ALL {
            *reason_cell(&mut pair.checkpoints.absorbed, reason) += self.shared.lost_causes(reason);
        }
        let mut forgiven = ByRule::default();
        for (index, core) in self.cores.iter().enumerate() {
            let published = core.lock().unwrap_or_else(PoisonError::into_inner);
            let counters = published.counters.clone();
            for (sum, part) in [
                (&mut pair.release_latency.matched, &published.latency.matched),
                (&mut pair.release_latency.ack, &published.latency.ack),
                (&mut pair.release_latency.flush, &published.latency.flush),
            ] {
                // Same bounds on both sides, so this cannot fail.
                let _ = sum.add(part);
            }
            drop(published);
            add_counters(&mut pair, &counters);
            forgiven.add(&counters.forgiven);
            self.add_core(snapshot, index, &counters);
        }
        pair.rules = self.rules(&forgiven);
        snapshot.pairs.push(pair);
    }

    fn rules(&self, forgiven: &ByRule) -> RulesSnapshot {
        let (set, _) = self.shared.rules.current();
        let [done, refused] = self.shared.rules.reloads();
        RulesSnapshot {
            count: u64::try_from(set.len()).unwrap_or(u64::MAX),
            masked: set.masked().map(|place| ((place + 1).to_string(), forgiven.of(place))).collect(),
            reloads: Reloads { done, refused },
        }
    }

    /// Rounds of every thread for this pair: cores as far as they are published, then the control thread.
    pub(super) fn beats(&self) -> Vec<u64> {
        let rounds = |core: &Arc<Mutex<Published>>| {
            let published = core.lock().unwrap_or_else(PoisonError::into_inner);
            published.counters.busy_polls + published.counters.idle_polls
        };
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).beats;
        self.cores.iter().map(rounds).chain([control]).collect()
    }

    fn add_core(&self, snapshot: &mut Snapshot, index: usize, counters: &Counters) {
        let core = index.to_string();
        // A thread works for all pairs: its time is the sum.
        if snapshot.cores.len() <= index {
            snapshot.cores.push(CoreSnapshot { core: core.clone(), ..CoreSnapshot::default() });
        }
        let thread = &mut snapshot.cores[index];
        thread.busy += Duration::from_nanos(counters.busy_ns);
        thread.polls.busy += counters.busy_polls;
        thread.polls.idle += counters.idle_polls;
        thread.polls.sleep += counters.sleeps;
        let plan = self.rings.plan();
        let capacity = u64::try_from(self.max_frames).unwrap_or(u64::MAX);
        for side in Side::BOTH {
            if plan.input_core[side] == index {
                snapshot.pools.push(PoolSnapshot {
                    pair: self.name.clone(),
                    core: core.clone(),
                    pool: side.label().to_owned(),
                    free: capacity.saturating_sub(counters.frames_out[side]),
                    capacity,
                });
            }
            if let Some(ring) = self.rings.shard_input(index, side) {
                snapshot.rings.push(RingSnapshot {
                    pair: self.name.clone(),
                    ring: format!("core{}>core{index} {side}", plan.input_core[side]),
                    bursts: u64::try_from(ring.len()).unwrap_or(0),
                    capacity: u64::try_from(ring.capacity()).unwrap_or(0),
                });
            }
        }
    }
}

/// Flows that a page shows of each kind.
const SHOWN_FLOWS: usize = 16;

fn flows(held: &[Held], differing: &[Differing]) -> FlowsSnapshot {
    let of_held = |known: &Held| {
        let Held { flow, time, longest, frames, .. } = *known;
        HeldFlow { flow, held: time, longest, frames }
    };
    let of_differing = |known: &Differing| {
        let Differing { flow, mismatches, timeouts, last } = *known;
        DifferingFlow { flow, mismatches, timeouts, last }
    };
    let mut shown = FlowsSnapshot {
        held: held.iter().map(of_held).collect(),
        differing: differing.iter().map(of_differing).collect(),
    };
    shown.held.sort_by_key(|known| std::cmp::Reverse((known.held, known.longest)));
    shown
        .differing
        .sort_by_key(|known| std::cmp::Reverse((known.mismatches + known.timeouts, known.last.at)));
    shown.held.truncate(SHOWN_FLOWS);
    shown.differing.truncate(SHOWN_FLOWS);
    shown
}

fn modes(counters: ModeCounters) -> ModesSnapshot {
    let history = counters.history.into_iter();
    ModesSnapshot {
        conduct: counters.conduct,
        switches: counters.switches,
        settings: counters.settings,
        history: history.map(|it| (it.at.since(pmd_tap::Nanos::ZERO), it.to, it.why.label())).collect(),
        is_secondary_lost: counters.is_secondary_lost,
        pace: counters.pace,
    }
}

fn links(control: &ControlCounters) -> Vec<Link> {
    [PortRole::Primary, PortRole::Secondary, PortRole::Out]
        .into_iter()
        .zip(control.up)
        .map(|(role, up)| Link {
            port: role.label(),
            state: if up { LinkState::Up } else { LinkState::Down },
        })
        .chain(control.backend.map(|link| Link { port: link.name, state: link.state }))
        .collect()
}

fn add_counters(pair: &mut PairSnapshot, counters: &Counters) {
    for (sum, side) in [(&mut pair.primary, Side::Primary), (&mut pair.secondary, Side::Secondary)] {
        add_side(sum, side, counters);
    }
    let Released { matched, ack, pass, flush } = counters.released;
    pair.released.matched += matched;
    pair.released.ack += ack;
    pair.released.pass += pass;
    pair.released.flush += flush;
    let Dropped { matched, pass, flush, stale, duplicate, over_budget } = counters.dropped;
    let dropped = &mut pair.secondary.dropped;
    dropped.matched += matched;
    dropped.pass += pass;
    dropped.flush += flush;
    dropped.stale += stale;
    dropped.duplicate += duplicate;
    dropped.over_budget += over_budget;
    let verdicts = &mut pair.verdicts;
    for (sum, part) in [
        (&mut verdicts.tcp, counters.verdicts.tcp),
        (&mut verdicts.udp, counters.verdicts.udp),
        (&mut verdicts.icmp, counters.verdicts.icmp),
        (&mut verdicts.other, counters.verdicts.other),
    ] {
        let Verdicts { release, hold, drop, mismatch, timeout } = part;
        sum.release += release;
        sum.hold += hold;
        sum.drop += drop;
        sum.mismatch += mismatch;
        sum.timeout += timeout;
    }
    pair.busy += Duration::from_nanos(counters.busy_ns);
    pair.reading_stops += counters.reading_stops;
    pair.lost.add(counters.lost);
    pair.window_clamped += counters.window_clamped;
    pair.quarantined += counters.quarantined;
    pair.connections += counters.connections;
    pair.invariant_violations += counters.violations;
}

fn add_side(sum: &mut SideSnapshot, side: Side, counters: &Counters) {
    sum.frames += counters.received[side];
    sum.bytes += counters.received_bytes[side];
    sum.bad_checksums += counters.bad_checksums[side];
    let ClassFrames { arp, nd, mld, igmp, lldp, other, malformed } = counters.class_frames[side];
    sum.classes.arp += arp;
    sum.classes.nd += nd;
    sum.classes.mld += mld;
    sum.classes.igmp += igmp;
    sum.classes.lldp += lldp;
    sum.classes.other += other;
    sum.classes.malformed += malformed;
    sum.held_frames += counters.held_frames[side];
    sum.held_bytes += counters.held_bytes[side];
    let FragmentCounts { held, held_bytes, reassembled, malformed, refused } = counters.fragments[side];
    sum.held_frames += held;
    sum.held_bytes += held_bytes;
    sum.fragments.held += held;
    sum.fragments.held_bytes += held_bytes;
    sum.fragments.reassembled += reassembled;
    sum.fragments.malformed += malformed;
    sum.fragments.refused += refused;
}
