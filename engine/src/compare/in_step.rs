//! Whether a connection is *in step*: both sides are known from their first position to their last, they count in a known
//! way, nothing is missing, contradicted, urgent or at its end, and nobody wants it treated otherwise.
//!
//! Every segment would have to ask all that. Instead it is found out once, at the end of the long way, and a stamp says so
//! from then on: to what epoch and under which rules. Whoever changes a connection other than by an ordinary segment takes
//! the stamp away; the next segment goes the long way and finds out anew.

use super::incarnation::Incarnation;
use super::tcp::TcpState;
use super::{Connection, Flow, Protocol, Tracking};
use crate::side::Side;

/// Under which epoch and which set of rules a connection was found in step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// Not in step. No set of rules has the number 0, so no other stamp is equal to it.
    const NONE: Self = Self(0);

    /// The stamp of this epoch and set of rules.
    #[inline(always)]
    pub(crate) fn new(epoch: u32, rules: u32) -> Self {
        Self(u64::from(epoch) << 32 | u64::from(rules))
    }

    #[inline(always)]
    pub(super) fn clear(&mut self) {
        *self = Self::NONE;
    }
}

impl Connection {
    /// Whether it was found in step under this stamp, and still is.
    #[inline(always)]
    pub(crate) fn is_in_step(&self, stamp: Stamp) -> bool {
        self.in_step == stamp
    }

    /// Finds out whether it is in step from here on.
    #[inline(always)]
    pub(super) fn find_step(&mut self) {
        self.in_step = if self.keeps_step() { Stamp::new(self.epoch, self.ruled_by) } else { Stamp::NONE };
    }

    #[inline(always)]
    pub(super) fn keeps_step(&self) -> bool {
        let Protocol::Tcp(tcp) = &self.protocol else { return false };
        !self.flow.has_left_comparison() && tcp.is_in_step()
    }
}

impl Flow {
    /// Whether its frames are anything but simply compared.
    #[inline(always)]
    pub(super) fn has_left_comparison(&self) -> bool {
        self.tracking != Tracking::Compared
    }
}

impl TcpState {
    #[inline(always)]
    fn is_in_step(&self) -> bool {
        self.has_one_life() && self.current.is_in_step()
    }
}

impl Incarnation {
    #[inline(always)]
    fn is_in_step(&self) -> bool {
        let is_level = |side: Side| {
            let stream = &self.streams[side];
            stream.is_whole() && stream.reach.is_some_and(|reach| reach.next == reach.top)
        };
        let undisputed = self.contradicted_at().is_none() && self.expects_no_ack();
        undisputed && self.settled_shift().is_some() && Side::BOTH.into_iter().all(is_level)
    }
}
