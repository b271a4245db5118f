//! A comparer that is slow and plain: it remembers every position, scans every list, and knows the true stream offsets,
//! so it has no sequence arithmetic, no spans, no wheel. It judges by the words of the specification alone.

mod datagrams;
mod tcp;

use colo_engine::side::{BySide, Side};

use crate::drive::{COMMIT_AFTER_NS, COMPARE_TIMEOUT_NS, Log, Verdict, Why};
use crate::traffic::{Sent, What};
use datagrams::Datagrams;
use tcp::Tcp;

/// A frame that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) frame: usize,
    pub(crate) at_ns: u64,
    pub(crate) what: T,
}

/// What a flow decides. Requests are the lifecycle's business, so a flow only names causes.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) causes: Vec<Why>,
}

#[expect(clippy::large_enum_variant)]
enum Compared {
    Nothing,
    Tcp(Tcp),
    Datagrams(Datagrams),
}

struct FlowState {
    compared: Compared,
    timeout_reported: bool,
}

impl FlowState {
    /// The oldest frame that waits, primary first.
    fn oldest(&self) -> Option<(u64, Side, usize)> {
        let heads = match &self.compared {
            Compared::Nothing => return None,
            Compared::Tcp(tcp) => [
                tcp.held_primary.first().map(|held| (held.at_ns, Side::Primary, held.frame)),
                tcp.held_secondary.first().map(|held| (held.at_ns, Side::Secondary, held.frame)),
            ],
            Compared::Datagrams(datagrams) => [
                datagrams.held.primary.first().map(|held| (held.at_ns, Side::Primary, held.frame)),
                datagrams.held.secondary.first().map(|held| (held.at_ns, Side::Secondary, held.frame)),
            ],
        };
        heads.into_iter().flatten().min()
    }

    fn timeout_due(&self) -> Option<(u64, Side, usize)> {
        let (at_ns, side, frame) = self.oldest().filter(|_| !self.timeout_reported)?;
        Some((at_ns + COMPARE_TIMEOUT_NS, side, frame))
    }

    fn grace_due(&self) -> Option<u64> {
        match &self.compared {
            Compared::Datagrams(datagrams) => datagrams.grace_due(),
            Compared::Tcp(tcp) => tcp.grace_due(),
            Compared::Nothing => None,
        }
    }
}

enum Checkpoint {
    None,
    Deferred { due_ns: u64, why: Why },
    Requested { commit_ns: u64 },
}

struct Reference {
    now_ns: u64,
    min_interval_ns: u64,
    last_commit_ns: Option<u64>,
    checkpoint: Checkpoint,
    flows: Vec<FlowState>,
    log: Log,
}

/// Judges all frames; each side's come in order of time.
pub(crate) fn judge(flows: usize, min_interval_ns: u64, sent: &BySide<Vec<Sent>>) -> Log {
    let flows =
        (0..flows).map(|_| FlowState { compared: Compared::Nothing, timeout_reported: false }).collect();
    let mut reference = Reference {
        now_ns: 0,
        min_interval_ns,
        last_commit_ns: None,
        checkpoint: Checkpoint::None,
        flows,
        log: Vec::new(),
    };
    reference.run(sent);
    reference.log
}

impl Reference {
    fn run(&mut self, sent: &BySide<Vec<Sent>>) {
        let mut next = BySide { primary: 0, secondary: 0 };
        loop {
            let arrivals = Side::BOTH.map(|side| sent[side].get(next[side]).map(|sent| (sent.at_ns, side)));
            let arrival = arrivals.into_iter().flatten().min();
            match (self.timer_due(), arrival) {
                (Some(due), Some((at_ns, _))) if due <= at_ns => self.run_timers(due),
                (_, Some((at_ns, side))) => {
                    self.now_ns = at_ns;
                    self.arrive(side, next[side], &sent[side][next[side]]);
                    next[side] += 1;
                }
                (Some(due), None) => self.run_timers(due),
                (None, None) => return,
            }
        }
    }

    fn timer_due(&self) -> Option<u64> {
        let checkpoint = match &self.checkpoint {
            Checkpoint::None => None,
            Checkpoint::Deferred { due_ns, .. } => Some(*due_ns),
            Checkpoint::Requested { commit_ns } => Some(*commit_ns),
        };
        let timeouts = self.flows.iter().filter_map(|flow| Some(flow.timeout_due()?.0));
        let graces = self.flows.iter().filter_map(FlowState::grace_due);
        timeouts.chain(graces).chain(checkpoint).min()
    }

    /// In the order commit, deferred request, grace, timeout.
    fn run_timers(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        match &self.checkpoint {
            Checkpoint::Requested { commit_ns } if *commit_ns <= now_ns => self.commit(),
            Checkpoint::Deferred { due_ns, why } if *due_ns <= now_ns => {
                let why = why.clone();
                self.request(why);
            }
            _ => {}
        }
        let mut mismatches = Vec::new();
        for flow in &mut self.flows {
            if flow.grace_due().is_none_or(|due| due > now_ns) {
                continue;
            }
            match &mut flow.compared {
                Compared::Datagrams(datagrams) => mismatches.push(datagrams.report_mismatch()),
                Compared::Tcp(tcp) => {
                    let mut decided = Decided::default();
                    tcp.release(now_ns, &mut decided);
                    self.log.extend(decided.verdicts.into_iter().map(|verdict| (now_ns, verdict)));
                }
                Compared::Nothing => {}
            }
        }
        mismatches.sort_by_key(|why| match why {
            Why::Mismatch { primary, .. } => *primary,
            _ => None,
        });
        let mut timeouts = Vec::new();
        for flow in &mut self.flows {
            if let Some((due, side, frame)) = flow.timeout_due()
                && due <= now_ns
            {
                flow.timeout_reported = true;
                timeouts.push((side, frame));
            }
        }
        timeouts.sort_unstable();
        for why in mismatches {
            self.cause(why);
        }
        for (side, frame) in timeouts {
            self.cause(Why::Timeout { side, frame });
        }
    }

    fn cause(&mut self, why: Why) {
        let Checkpoint::None = self.checkpoint else { return };
        let due_ns = self.last_commit_ns.map_or(0, |commit| commit + self.min_interval_ns);
        if due_ns <= self.now_ns {
            self.request(why);
        } else {
            self.checkpoint = Checkpoint::Deferred { due_ns, why };
        }
    }

    fn request(&mut self, why: Why) {
        self.checkpoint = Checkpoint::Requested { commit_ns: self.now_ns + COMMIT_AFTER_NS };
        self.log.push((self.now_ns, Verdict::Request(why)));
    }

    fn commit(&mut self) {
        self.log.push((self.now_ns, Verdict::Commit));
        self.checkpoint = Checkpoint::None;
        self.last_commit_ns = Some(self.now_ns);
        for flow in &mut self.flows {
            flow.timeout_reported = false;
            let flushed = match &mut flow.compared {
                Compared::Nothing => BySide::default(),
                Compared::Tcp(tcp) => tcp.commit(),
                Compared::Datagrams(datagrams) => datagrams.commit(),
            };
            let releases = flushed.primary.into_iter().map(|frame| Verdict::Release { frame, why: "flush" });
            let drops = flushed.secondary.into_iter().map(|frame| Verdict::Drop { frame, why: "flush" });
            self.log.extend(releases.chain(drops).map(|verdict| (self.now_ns, verdict)));
        }
    }

    fn arrive(&mut self, side: Side, frame: usize, sent: &Sent) {
        let mut decided = Decided::default();
        let state = &mut self.flows[sent.flow].compared;
        match &sent.what {
            What::Segment(segment) => {
                if let Compared::Nothing = state {
                    *state = Compared::Tcp(Tcp::default());
                }
                let Compared::Tcp(tcp) = state else { panic!("a flow changes its protocol") };
                let arrived = Waiting { frame, at_ns: sent.at_ns, what: segment.clone() };
                tcp.arrive(side, arrived, &mut decided);
            }
            What::Datagram(payload) => {
                if let Compared::Nothing = state {
                    *state = Compared::Datagrams(Datagrams::default());
                }
                let Compared::Datagrams(datagrams) = state else { panic!("a flow changes its protocol") };
                let arrived = Waiting { frame, at_ns: sent.at_ns, what: payload.clone() };
                datagrams.arrive(side, arrived, &mut decided);
            }
        }
        self.log.extend(decided.verdicts.into_iter().map(|verdict| (self.now_ns, verdict)));
        for why in decided.causes {
            self.cause(why);
        }
    }
}
