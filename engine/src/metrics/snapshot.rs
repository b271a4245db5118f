//! What one scrape sees: plain numbers, summed from the cores' blocks by the caller.
//!
//! Fields named after label values, so that a label value cannot be forgotten. Every type is [`Default`]: a counter
//! nobody fills is 0, which is what Prometheus wants of a known label value. Nothing in here is shared with the data
//! plane, and no clock is read.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::ports::LostFrames;
use crate::checkpoint::LifecycleSettings;
use crate::flow::FlowKey;
use crate::fragments::FragmentCounts;
use crate::modes::{Conduct, ModeSettings};
use crate::verdict::Cause;

/// Everything a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Time since the engine started.
    pub uptime: Duration,
    /// One entry a pair of VMs.
    pub pairs: Vec<PairSnapshot>,
    /// One entry a core (thread) of the data plane.
    pub cores: Vec<CoreSnapshot>,
    /// One entry a ring between cores.
    pub rings: Vec<RingSnapshot>,
    /// One entry a frame pool.
    pub pools: Vec<PoolSnapshot>,
}

/// One pair of VMs.
#[derive(Clone, Debug, Default)]
pub struct PairSnapshot {
    /// Label `pair`: its name.
    pub pair: String,
    /// Time that cores spent on it, in iterations that moved frames.
    pub busy: Duration,
    /// The primary VM's side.
    pub primary: SideSnapshot,
    /// The secondary VM's side.
    pub secondary: SideSnapshot,
    /// Primary frames that left, by why.
    pub released: Released,
    /// Decisions by protocol.
    pub verdicts: VerdictsByProtocol,
    /// Checkpoints: requests, commits, durations.
    pub checkpoints: Checkpoints,
    /// Time from the arrival of a primary frame to its release, ns, by why.
    pub release_latency: ReleaseLatency,
    /// Entries of the connection table.
    pub connections: u64,
    /// Connections that found the table full; their frames were held.
    pub connections_refused: u64,
    /// Connections that we closed because the other end broke the protocol.
    pub peers_refused: u64,
    /// Primary frames that left with a lower window, because the secondary did not offer as much.
    pub window_clamped: u64,
    /// Times that a bound stopped the reading of an input.
    pub reading_stops: u64,
    /// Frames that its ports could not carry.
    pub lost: LostFrames,
    /// What was written down of divergences.
    pub diverged: Diverged,
    /// Times that the books did not balance (received = released + held + dropped); must stay 0.
    pub invariant_violations: u64,
    /// What is compared when.
    pub modes: ModesSnapshot,
    /// Times that a flow that keeps differing was put aside.
    pub quarantined: u64,
    /// What is compared and what is not.
    pub rules: RulesSnapshot,
    /// Single flows: the most telling ones.
    pub flows: FlowsSnapshot,
    /// One entry a link: the port's name (`primary_in`, `secondary_in`, `out`, `notify`) and its state.
    pub links: Vec<Link>,
}

/// Single flows, the most telling first. They are not for Prometheus: a label a flow would be a series a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowsSnapshot {
    /// Those whose frames waited longest in all.
    pub held: Vec<HeldFlow>,
    /// Those that differed, or timed out, most often.
    pub differing: Vec<DifferingFlow>,
}

/// A flow whose frames were seen waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldFlow {
    /// The flow.
    pub flow: FlowKey,
    /// Time in which frames of it waited, estimated by looking up to 20 times a second.
    pub held: Duration,
    /// Longest time that a frame was seen waiting.
    pub longest: Duration,
    /// Frames that waited at the last look.
    pub frames: u32,
}

/// A flow that differed or timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferingFlow {
    /// The flow.
    pub flow: FlowKey,
    /// Times that the sides contradicted each other.
    pub mismatches: u64,
    /// Times that a frame found no partner in time.
    pub timeouts: u64,
    /// How it was the last time; its time is since the start.
    pub last: Cause,
}

/// The rules in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesSnapshot {
    /// How many there are.
    pub count: u64,
    /// Differences that payload masks forgave, by the number of the rule, counted from 1; rules with a mask only.
    pub masked: Vec<(String, u64)>,
    /// Times that the configuration was read again.
    pub reloads: Reloads,
}

/// What was written down of divergences, with `--diverged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diverged {
    /// Records written.
    pub records: u64,
    /// Divergences that were not written down: too many in one epoch, or the writer was behind.
    pub skipped: u64,
    /// Records that the file system did not take.
    pub write_errors: u64,
}

/// What is compared when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModesSnapshot {
    /// What is done with frames now.
    pub conduct: Conduct,
    /// Changes to each conduct since the start, in the order of [`Conduct::ALL`].
    pub switches: [u64; 3],
    /// What the operator wants.
    pub settings: ModeSettings,
    /// The latest changes, the oldest first: time since the start, what from then on, why.
    pub history: Vec<(Duration, Conduct, &'static str)>,
    /// Whether everything passes because the secondary is gone.
    pub is_secondary_lost: bool,
    /// Longest time between checkpoints while comparing, shortest from a commit to a request, and how long a mismatch
    /// waits for others.
    pub pace: LifecycleSettings,
}

/// One connection to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Label `port`.
    pub port: &'static str,
    /// Whether somebody is at the other end.
    pub state: LinkState,
}

/// Whether somebody is at the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Frames can cross.
    Up,
    /// Not yet, or not any more.
    Down,
}

/// What came in on one side and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideSnapshot {
    /// Frames received.
    pub frames: u64,
    /// Bytes received: Ethernet frames without virtio header and socket framing.
    pub bytes: u64,
    /// Frames dropped, by reason; on the primary's side every one must stay 0.
    pub dropped: Dropped,
    /// Frames received with a wrong checksum; 0 unless they are counted.
    pub bad_checksums: u64,
    /// Frames received outside the comparison of IP flows, by class.
    pub classes: ClassFrames,
    /// Frames held now.
    pub held_frames: u64,
    /// Bytes of the frames held now.
    pub held_bytes: u64,
    /// Fragments: those that wait are among the frames held.
    pub fragments: FragmentCounts,
}

/// Defines a struct of counters whose fields are the values of a label, in the order they are shown.
macro_rules! labelled {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident = $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_about])* pub $field: u64,)+
        }

        impl $name {
            /// Label value and counter of every field.
            pub fn by_label(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$(($label, self.$field)),+].into_iter()
            }
        }
    };
}

labelled! {
    /// Primary frames that left, by why; the words of `colo replay`.
    Released {
        /// The secondary sent the same.
        matched = "matched",
        /// No payload, SYN, FIN or RST, and nothing acknowledged that the secondary lacks.
        ack = "ack",
        /// Not compared.
        pass = "pass",
        /// A checkpoint was committed.
        flush = "flush",
    }
}

labelled! {
    /// Frames that did not leave, by reason; the words of `colo replay`.
    Dropped {
        /// The primary sent the same.
        matched = "matched",
        /// Not compared, or malformed.
        pass = "pass",
        /// A checkpoint was committed.
        flush = "flush",
        /// Of an old epoch or incarnation.
        stale = "stale",
        /// The secondary had sent all of it before.
        duplicate = "duplicate",
        /// There was no room for it.
        over_budget = "over_budget",
    }
}

labelled! {
    /// Frames by class; the keys of the configuration's `class`.
    ClassFrames {
        /// Address resolution.
        arp = "arp",
        /// IPv6 neighbour discovery.
        nd = "nd",
        /// IPv6 multicast listener discovery.
        mld = "mld",
        /// IPv4 group management.
        igmp = "igmp",
        /// Link layer discovery.
        lldp = "lldp",
        /// Any other `EtherType`.
        other = "other",
        /// Truncated, or with lengths that contradict each other.
        malformed = "malformed",
    }
}

labelled! {
    /// Readings of the configuration after the start, by what came of them.
    Reloads {
        /// Its rules are in force.
        done = "done",
        /// It cannot be used: nothing has changed.
        refused = "refused",
    }
}

labelled! {
    /// What the comparer decided.
    Verdicts {
        /// A primary frame may leave.
        release = "release",
        /// A primary frame waits.
        hold = "hold",
        /// A secondary frame is done with.
        drop = "drop",
        /// The sides contradict each other.
        mismatch = "mismatch",
        /// A frame found no partner in time.
        timeout = "timeout",
    }
}

labelled! {
    /// Checkpoints asked for, by reason; the words of `colo replay`.
    Requested {
        /// The sides contradict each other.
        mismatch = "mismatch",
        /// A frame found no partner in time.
        timeout = "timeout",
        /// Held frames reached the high-water mark.
        queue_full = "queue_full",
        /// The connection table is full.
        table_full = "table_full",
        /// The longest time between checkpoints is over.
        periodic = "periodic",
        /// Somebody asked.
        operator = "operator",
    }
}

/// [`Verdicts`] of each protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictsByProtocol {
    /// TCP segments.
    pub tcp: Verdicts,
    /// UDP datagrams.
    pub udp: Verdicts,
    /// ICMP and `ICMPv6` messages.
    pub icmp: Verdicts,
    /// Everything else.
    pub other: Verdicts,
}

impl VerdictsByProtocol {
    /// Label value and counters of every protocol.
    pub fn by_label(&self) -> impl Iterator<Item = (&'static str, Verdicts)> + use<> {
        [("tcp", self.tcp), ("udp", self.udp), ("icmp", self.icmp), ("other", self.other)].into_iter()
    }
}

/// Checkpoints of a pair.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// Requests that went out.
    pub requested: Requested,
    /// Causes that came while a request was out, or too soon after a commit, and were answered by that one checkpoint.
    pub absorbed: Requested,
    /// Commits.
    pub completed: u64,
    /// Requests that were not answered within `checkpoint_deadline`, each time.
    pub overdue: u64,
    /// Checkpoints begun of which nobody can say whether they were committed, or whose boundary came too late.
    pub abandoned: u64,
    /// Time from request to commit, ns.
    pub duration_ns: Histogram<u64>,
    /// Unix time of the last commit; `None` before the first one.
    pub last_commit_unix: Option<Duration>,
}

/// Time from arrival to release, ns, by why.
#[derive(Clone, Debug)]
pub struct ReleaseLatency {
    /// Released because the secondary sent the same.
    pub matched: Histogram<u64>,
    /// Released as a pure ACK.
    pub ack: Histogram<u64>,
    /// Released by a commit.
    pub flush: Histogram<u64>,
}

impl ReleaseLatency {
    /// Label value and histogram of each.
    pub fn by_label(&self) -> [(&'static str, &Histogram<u64>); 3] {
        [("matched", &self.matched), ("ack", &self.ack), ("flush", &self.flush)]
    }
}

/// Longest time a histogram of a snapshot tells apart from longer ones, ns: an hour, as no timeout can be longer.
pub const LONGEST_NS: u64 = 3_600_000_000_000;

/// An empty histogram as snapshots use them: up to [`LONGEST_NS`], three significant digits.
pub fn empty_histogram() -> Histogram<u64> {
    let bounded = Histogram::new_with_bounds(1, LONGEST_NS, 3);
    // The bounds are constants that fit; should that ever change, there is the histogram without bounds.
    bounded.or_else(|_| Histogram::new(3)).unwrap_or_else(|_| unreachable!("3 significant digits are legal"))
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            requested: Requested::default(),
            absorbed: Requested::default(),
            completed: 0,
            overdue: 0,
            abandoned: 0,
            duration_ns: empty_histogram(),
            last_commit_unix: None,
        }
    }
}

impl Default for ReleaseLatency {
    fn default() -> Self {
        Self { matched: empty_histogram(), ack: empty_histogram(), flush: empty_histogram() }
    }
}

/// One thread of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreSnapshot {
    /// Label `core`: the number of the core or of the thread.
    pub core: String,
    /// Time spent on iterations that moved frames.
    pub busy: Duration,
    /// Iterations, by what they found.
    pub polls: Polls,
}

labelled! {
    /// Iterations of a poll loop, by what they found.
    Polls {
        /// Frames or messages.
        busy = "busy",
        /// Nothing; it went on spinning.
        idle = "idle",
        /// Nothing for a while; it slept until woken.
        sleep = "sleep",
    }
}

/// One ring between cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingSnapshot {
    /// Label `pair`: whose frames.
    pub pair: String,
    /// Label `ring`, e.g. `rx0>shard1 primary`.
    pub ring: String,
    /// Bursts waiting in it.
    pub bursts: u64,
    /// Bursts it can hold.
    pub capacity: u64,
}

/// One frame pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Label `pair`: whose frames.
    pub pair: String,
    /// Label `core`: the core (thread) that owns it.
    pub core: String,
    /// Label `pool`, e.g. `primary_in`.
    pub pool: String,
    /// Frames that can be taken now.
    pub free: u64,
    /// Frames it has.
    pub capacity: u64,
}
