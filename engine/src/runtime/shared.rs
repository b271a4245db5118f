//! What the cores of a running engine share: the epoch boundary, causes on their way to the control thread, the end.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use pmd_tap::{Clock, LinkEvent};

use super::control::Orders;
use super::epochs::{Endings, Epochs};
use super::rules::RuleDesk;
use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Bell, Ordering};
use super::wake::Waker;
use crate::modes::Conduct;
use crate::policy::RuleSet;
use crate::verdict::{Cause, Reason};

/// Causes that may wait for the control thread. More are counted and absorbed: one checkpoint answers them all.
const CAUSES: usize = 256;
/// Link events that may wait for the control thread.
const LINK_EVENTS: usize = 64;
/// Orders that may wait for the control thread.
const ORDERS: usize = 4;

/// What a core tells the control thread of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortNews {
    /// Its link came up or went down.
    Link(LinkEvent),
    /// Why its link is not up yet; said again and again.
    Obstacle(String),
}

/// Which port a link event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// `primary_in`.
    Primary,
    /// `secondary_in`.
    Secondary,
    /// `out`.
    Out,
}

impl PortRole {
    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary_in",
            Self::Secondary => "secondary_in",
            Self::Out => "out",
        }
    }
}

/// Wakers of so many threads. All pairs of an engine have the same threads.
pub(super) fn wakers(threads: usize) -> std::io::Result<Arc<[Waker]>> {
    (0..threads).map(|_| Bell::new().map(Waker::new)).collect()
}

/// Shared by all threads of one engine, about one pair.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    epochs: Epochs,
    endings: Endings,
    /// Inputs that are down for good, everything they brought counted and published.
    inputs_over: AtomicUsize,
    causes: ArrayQueue<(u32, Cause)>,
    /// Causes that found no room, by reason.
    lost_causes: [AtomicU64; Reason::ALL.len()],
    links: ArrayQueue<(PortRole, PortNews)>,
    /// What the shards do with frames, by its number.
    conduct: AtomicUsize,
    orders: ArrayQueue<Orders>,
    primary_lost: AtomicBool,
    pub(super) control: Waker,
    pub(super) cores: Arc<[Waker]>,
    pub(super) rules: RuleDesk,
}

impl Shared {
    pub(super) fn new(
        clock: Clock,
        cores: Arc<[Waker]>,
        inputs: usize,
        shards: usize,
        rules: RuleSet,
    ) -> std::io::Result<Self> {
        Ok(Self {
            clock,
            epochs: Epochs::new(),
            endings: Endings::new(inputs, shards),
            inputs_over: AtomicUsize::new(0),
            causes: ArrayQueue::new(CAUSES),
            lost_causes: Default::default(),
            links: ArrayQueue::new(LINK_EVENTS),
            conduct: AtomicUsize::new(Conduct::Compare.index()),
            orders: ArrayQueue::new(ORDERS),
            primary_lost: AtomicBool::new(false),
            control: Waker::new(Bell::new()?),
            cores,
            rules: RuleDesk::new(rules),
        })
    }

    fn wake_cores(&self) {
        self.cores.iter().for_each(Waker::wake);
    }

    /// Puts other rules in force.
    pub(super) fn replace_rules(&self, rules: RuleSet) {
        self.rules.replace(rules);
        self.wake_cores();
    }

    /// Has frames compared, held or let pass. To be called before [`set_committed`](Self::set_committed): a shard compares
    /// from the end of the flush on, everything else begins at once.
    pub(super) fn set_conduct(&self, conduct: Conduct) {
        self.conduct.store(conduct.index(), Ordering::Release);
        self.wake_cores();
    }

    #[inline(always)]
    pub(super) fn conduct(&self) -> Conduct {
        Conduct::ALL[self.conduct.load(Ordering::Acquire).min(Conduct::ALL.len() - 1)]
    }

    /// What the operator wants from here on.
    pub(super) fn order(&self, orders: Orders) {
        // Of many at once the latest counts.
        self.orders.force_push(orders);
        self.control.wake();
    }

    pub(super) fn next_orders(&self) -> Option<Orders> {
        self.orders.pop()
    }

    /// The primary is gone, and the engine is to end.
    pub(super) fn lose_primary(&self) {
        self.primary_lost.store(true, Ordering::Release);
    }

    pub(super) fn is_primary_lost(&self) -> bool {
        self.primary_lost.load(Ordering::Acquire)
    }

    /// Asks the inputs to mark the end of `epoch`.
    pub(super) fn set_boundary(&self, epoch: u32) {
        self.epochs.set_boundary(epoch);
        self.wake_cores();
    }

    #[inline(always)]
    pub(super) fn boundary(&self) -> u32 {
        self.epochs.boundary()
    }

    /// Tells the shards that `epoch` was committed.
    pub(super) fn set_committed(&self, epoch: u32) {
        self.epochs.set_committed(epoch);
        self.wake_cores();
    }

    /// Tells the shards that the boundary of `epoch` stands for no commit.
    pub(super) fn set_void(&self, epoch: u32) {
        self.epochs.set_void(epoch);
        self.wake_cores();
    }

    /// Whether the boundary of a decided epoch stands for no commit.
    pub(super) fn is_void(&self, epoch: u32) -> bool {
        self.epochs.is_void(epoch)
    }

    #[inline(always)]
    pub(super) fn committed(&self) -> u32 {
        self.epochs.committed()
    }

    pub(super) fn count_marked(&self) {
        self.epochs.count_marked();
        self.control.wake();
    }

    pub(super) fn marked(&self) -> u64 {
        self.epochs.marked()
    }

    pub(super) fn count_flushed(&self) {
        self.epochs.count_flushed();
        self.control.wake();
    }

    pub(super) fn flushed(&self) -> u64 {
        self.epochs.flushed()
    }

    /// Hands a cause of `epoch` to the control thread.
    pub(super) fn ask(&self, epoch: u32, cause: Cause) {
        if self.causes.push((epoch, cause)).is_err() {
            self.lost_causes[cause.reason.index()].fetch_add(1, Ordering::Relaxed);
        }
        self.control.wake();
    }

    pub(super) fn next_cause(&self) -> Option<(u32, Cause)> {
        self.causes.pop()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.causes.is_empty() || !self.links.is_empty() || !self.orders.is_empty()
    }

    /// Causes of a reason that found no room.
    pub(super) fn lost_causes(&self, reason: Reason) -> u64 {
        self.lost_causes[reason.index()].load(Ordering::Relaxed)
    }

    /// Tells the control thread of a link. An event that finds no room is lost: it is for the log.
    pub(super) fn tell_link(&self, role: PortRole, event: LinkEvent) {
        self.tell(role, PortNews::Link(event));
    }

    /// Tells the control thread of a port.
    pub(super) fn tell(&self, role: PortRole, news: PortNews) {
        let _ = self.links.push((role, news));
        self.control.wake();
    }

    pub(super) fn next_link(&self) -> Option<(PortRole, PortNews)> {
        self.links.pop()
    }

    /// Asks everybody to finish.
    pub(super) fn stop(&self) {
        self.endings.stop();
        self.wake_cores();
        self.control.wake();
    }

    #[inline(always)]
    pub(super) fn is_stopping(&self) -> bool {
        self.endings.is_stopping()
    }

    pub(super) fn input_ends(&self) {
        self.endings.input_ends();
        self.wake_cores();
    }

    pub(super) fn inputs_ended(&self) -> bool {
        self.endings.inputs_ended()
    }

    pub(super) fn shard_ends(&self) {
        self.endings.shard_ends();
        self.wake_cores();
    }

    pub(super) fn control_ends(&self) {
        self.endings.control_ends();
        self.wake_cores();
    }

    pub(super) fn control_ended(&self) -> bool {
        self.endings.control_ended()
    }

    pub(super) fn input_is_over(&self) {
        self.inputs_over.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn inputs_over(&self) -> usize {
        self.inputs_over.load(Ordering::Acquire)
    }

    pub(super) fn shards_ended(&self) -> bool {
        self.endings.shards_ended()
    }
}
