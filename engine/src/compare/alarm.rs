//! When a connection has waited long enough, and what happens then.

use pmd_tap::Nanos;

use super::scene::Seen;
use super::{Connection, Context, Protocol, Reported, Tracking};
use crate::held::Content;
use crate::side::Side;
use crate::timer::Timers;
use crate::verdict::{Cause, Detail, Reason, Sink, WaitsFor};

impl Connection {
    /// Has its timer, that of `index`, come up at `deadline` at the latest.
    #[inline(always)]
    pub(crate) fn set_alarm(&mut self, timers: &mut Timers, index: u32, deadline: Nanos) {
        if deadline < self.alarm {
            self.alarm = deadline;
            timers.arm_by(index, deadline);
        }
    }

    /// Its timer has come up.
    pub(crate) fn clear_alarm(&mut self) {
        self.alarm = Nanos::NEVER;
    }

    /// When something of it is due at the latest: a lower bound is enough.
    #[inline(always)]
    pub(crate) fn deadline(&self, cx: &Context<'_>) -> Nanos {
        self.timeout_at(cx).min(self.grace_ends_at(cx))
    }

    /// When the oldest held frame has waited long enough.
    #[inline(always)]
    fn timeout_at(&self, cx: &Context<'_>) -> Nanos {
        if self.overdue == Reported::Yes {
            return Nanos::NEVER;
        }
        match self.flow.oldest(cx) {
            Some((arrival, _)) => arrival.min(self.flow.early) + cx.settings.compare_timeout,
            None => Nanos::NEVER,
        }
    }

    #[inline(always)]
    fn grace_ends_at(&self, cx: &Context<'_>) -> Nanos {
        match &self.protocol {
            Protocol::Tcp(tcp) => tcp.grace_ends_at(),
            Protocol::Datagram(datagrams) => datagrams.grace_ends_at(&self.flow, cx),
        }
    }

    /// Reports the mismatch of two datagrams that have differed long enough; lets go a window that has waited long
    /// enough.
    pub(crate) fn expire_grace(&mut self, cx: &mut Context<'_>, now: Nanos, sink: &mut impl Sink) {
        if now < self.grace_ends_at(cx) {
            return;
        }
        self.in_step.clear();
        match &mut self.protocol {
            Protocol::Tcp(tcp) => tcp.expire_grace(&mut self.flow, cx, now, sink),
            Protocol::Datagram(datagrams) => {
                let detail = datagrams.mismatch(&self.flow, cx, now);
                let cause = Cause { at: now, ..self.flow.cause(Reason::Mismatch, detail) };
                self.flow.accuse(cx, cause, &Seen::default(), sink);
            }
        }
    }

    /// Frames have waited long enough, and there is nothing to report: everything waits for the commit.
    pub(crate) fn wait_quietly(&mut self, cx: &Context<'_>, now: Nanos) {
        if now >= self.timeout_at(cx) {
            self.overdue = Reported::Yes;
        }
    }

    /// Reports a frame that has waited long enough, once an epoch.
    pub(crate) fn expire_timeout(&mut self, cx: &mut Context<'_>, now: Nanos, sink: &mut impl Sink) {
        if now < self.timeout_at(cx) {
            return;
        }
        let Some((arrival, id)) = self.flow.oldest_anywhere(cx) else { return };
        if now < arrival + cx.settings.compare_timeout {
            return;
        }
        self.in_step.clear();
        self.overdue = Reported::Yes;
        let Some(held) = cx.store.held.get(id) else { return };
        let waits_for = match (&self.protocol, held.side) {
            _ if matches!(self.flow.tracking, Tracking::Lost | Tracking::Aside) => WaitsFor::Checkpoint,
            (Protocol::Tcp(tcp), Side::Primary) => tcp.waits_for(cx, held, now),
            (Protocol::Datagram(_), Side::Primary) => WaitsFor::Secondary,
            (_, Side::Secondary) => WaitsFor::Primary,
        };
        let life = match &self.protocol {
            Protocol::Tcp(tcp) => tcp.life_of_frame(cx.store, &held.content),
            Protocol::Datagram(_) => None,
        };
        let scene = self.flow.scene(cx.store, life, now);
        let detail = Detail::Timeout { side: held.side, frame: held.frame.ordinal(), waits_for, scene };
        let at = match &held.content {
            Content::Segment { placed, .. } => Some(placed.range.start),
            _ => None,
        };
        let cause = Cause { at: now, ..self.flow.cause(Reason::Timeout, detail) };
        self.flow.accuse(cx, cause, &Seen { at, ..Seen::default() }, sink);
    }
}
