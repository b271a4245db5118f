//! One thread of the data plane: its core of each pair in turn, rest when none has work, the end.
//!
//! A turn is one iteration of a core, whose work is bounded. So a pair takes no more than its turn from the others, whatever
//! its guests send. Nothing but the thread is shared: each pair has its pools, table, rings, epoch and bounds for itself.

use std::sync::Arc;
use std::time::Duration;

use pmd_tap::{Clock, Nanos};

use super::core::{Core, Ending, Env, Found};
use super::publish::Publisher;
use super::rings::Rings;
use super::shared::Shared;
use super::sleep::{self, OutputState, Rest, Sockets};
use super::wake::Waker;
use crate::config::PollMode;
use crate::rx::Input;
use crate::tx::Output;

/// How often a link that is not up is spoken of.
const OBSTACLES: Duration = Duration::from_secs(1);
/// Longest sleep of a core without timers.
const DEFAULT_TICK: Duration = Duration::from_millis(10);
/// A core that found nothing for so long is quiet. Longer than the gap between frames at 5,000 a second.
const QUIET_AFTER: Duration = Duration::from_micros(200);

/// A core and what its pair shares.
pub(super) struct Place {
    pub(super) core: Core,
    pub(super) shared: Arc<Shared>,
    pub(super) rings: Arc<Rings>,
}

/// One thread and its cores.
pub(super) struct Thread {
    /// Its number, which is that of its cores.
    pub(super) index: usize,
    pub(super) clock: Clock,
    /// The wakers of all threads.
    pub(super) wakers: Arc<[Waker]>,
    pub(super) poll: PollMode,
    /// One a pair.
    pub(super) places: Vec<Place>,
}

/// A core at work.
struct Member<'a> {
    core: Core,
    env: Env<'a>,
    publish: Publisher,
    ending: Ending,
    obstacles_due: Duration,
    last_work: Nanos,
}

/// Whether a core goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Goes,
    Over,
}

impl Thread {
    /// Runs until the engine is stopped and what has left is out.
    pub(super) fn run(self) {
        let Self { index, clock, wakers, poll, places } = self;
        let Some(waker) = wakers.get(index) else { return };
        let (cores, homes): (Vec<_>, Vec<_>) =
            places.into_iter().map(|place| (place.core, (place.shared, place.rings))).unzip();
        let members = cores.into_iter().zip(&homes);
        let mut members: Vec<_> = members
            .map(|(core, (shared, rings))| Member::new(core, Env::new(shared, rings, index)))
            .collect();
        let mut rest = Rest::new(poll);
        let (mut now, mut last_work) = (clock.now(), Nanos::ZERO);
        let mut look_at = 0;
        while !members.is_empty() {
            let mut found = Found::Nothing;
            // While some have work, one of the quiet is looked at in each round: every look takes system calls, and their
            // number must not slow down those that work.
            let at_work = now.since(last_work) < QUIET_AFTER;
            let mut at = 0;
            members.retain_mut(|member| {
                let is_next = at == look_at;
                at += 1;
                if at_work && !is_next && member.is_quiet(now) {
                    return true;
                }
                now = clock.now();
                member.turn(now, &clock, &mut found) == Stage::Goes
            });
            look_at = if look_at + 1 < members.len() { look_at + 1 } else { 0 };
            match found {
                Found::Work => {
                    last_work = now;
                    rest.is_fresh(now);
                }
                Found::Nothing if rest.is_tired(now) => {
                    // Woken, it looks once: only work makes it look for more.
                    sleep(&mut members, waker);
                    now = clock.now();
                }
                Found::Nothing => {}
            }
        }
    }
}

impl<'a> Member<'a> {
    fn new(core: Core, env: Env<'a>) -> Self {
        Self {
            core,
            env,
            publish: Publisher::default(),
            ending: Ending::default(),
            obstacles_due: OBSTACLES,
            last_work: Nanos::ZERO,
        }
    }

    /// One iteration of the core, and what comes with it.
    fn turn(&mut self, now: Nanos, clock: &Clock, found: &mut Found) -> Stage {
        let (core, env) = (&mut self.core, &self.env);
        let own = core.step(now, env);
        self.publish.publish_due(core, now, env.rings);
        if now.since(Nanos::ZERO) >= self.obstacles_due {
            self.obstacles_due = now.since(Nanos::ZERO) + OBSTACLES;
            core.tell_obstacles(env);
        }
        if env.shared.is_stopping() && core.has_ended(&mut self.ending, now, env) {
            self.end();
            return Stage::Over;
        }
        match own {
            Found::Work => {
                *found = Found::Work;
                core.counters.busy_polls += 1;
                core.counters.busy_ns += clock.now().nanos_since(now);
                self.last_work = now;
            }
            Found::Nothing => core.counters.idle_polls += 1,
        }
        Stage::Goes
    }

    /// Whether it has found nothing for a while.
    fn is_quiet(&self, now: Nanos) -> bool {
        now.since(self.last_work) >= QUIET_AFTER
    }

    /// The core's part is over, and all it counted is told.
    fn end(&mut self) {
        if let Some(witness) = self.core.seat.as_mut().and_then(|seat| seat.shard.witness()) {
            witness.close_all();
        }
        self.core.publish_last(self.env.rings);
    }
}

/// Sleeps until a port of some pair is ready, another thread has something, or a tick is over.
fn sleep(members: &mut [Member<'_>], waker: &Waker) {
    for member in members.iter_mut() {
        member.core.publish_all(member.env.rings);
    }
    waker.fall_asleep();
    if !members.iter().any(|member| member.core.has_news(&member.env)) {
        let mut sockets = Sockets::new(waker.bell().fd());
        let mut tick = DEFAULT_TICK;
        for Member { core, .. } in members.iter() {
            core.inputs.iter().filter_map(Input::readiness).for_each(|input| sockets.add_input(input));
            let naps = core.inputs.iter().map(Input::longest_nap);
            let naps = naps.chain(core.output.as_ref().map(Output::longest_nap)).flatten();
            tick = naps.fold(tick, Duration::min);
            if let Some(output) = core.output.as_ref()
                && let Some(socket) = output.readiness()
            {
                sockets.add_output(socket, OutputState::from(Output::is_blocked(output)));
            }
            tick = core.seat.as_ref().map_or(tick, |seat| tick.min(seat.tick));
        }
        sleep::wait(sockets, tick);
        if let Some(first) = members.first_mut() {
            first.core.counters.sleeps += 1;
        }
    }
    waker.awake();
}
