//! Checkpoints that begin and come to nothing, or do not come: nothing leaves for them, nothing is lost, and what was
//! asked for is asked for again.

use std::time::Duration;

use anyhow::{Context, Result};
use colo_engine::checkpoint::BackendEvent;
use colo_engine::config::CheckpointBackend;
use colo_engine::verdict::Reason;
use colo_tests::case::cut;
use colo_tests::wait::until;
use etherparse::PacketBuilder;

use super::rig::{Books, LAYOUTS, LIMIT, Live, Name, QUIET, ensure_that, names, patient};

const FLOWS: u16 = 32;

#[test]
fn nothing_leaves_for_a_checkpoint_that_is_given_up() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        for round in 0..3 {
            let at = 1_000 * round;
            let (old, new) = (names(FLOWS, at..at + 5), names(FLOWS, at + 500..at + 505));
            live.primary.send(&old)?;
            live.checkpointer.pause()?;
            live.primary.send(&new)?;
            live.give_up();
            live.out.stays_quiet().with_context(|| format!("{layout:?}: given up"))?;
            // What both have sent is equal on whichever side of the boundary it lies.
            let (equal, rest) = old.split_at(2 * usize::from(FLOWS));
            live.secondary.send(equal)?;
            let mut matched = live.out.receive(equal.len()).with_context(|| format!("{layout:?}"))?;
            matched.sort_unstable_by_key(|name| (name.number, name.flow));
            assert!(matched == equal, "{layout:?}");
            live.out.stays_quiet()?;
            // The next checkpoint answers for both.
            live.checkpointer.pause()?;
            live.commit();
            let flushed = live.out.receive(rest.len() + new.len()).with_context(|| format!("{layout:?}"))?;
            assert!(flushed == [rest, &new].concat(), "{layout:?}: in order of arrival");
        }
        assert_eq!(live.pair()?.checkpoints.abandoned, 3, "{layout:?}");
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

#[test]
fn a_late_sibling_of_what_was_not_flushed_stays_held() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let mut whole = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.udp(7_000, 10_000).write(&mut whole, &[1; 3_000])?;
        let pieces = cut(&whole, 7, &[1_000, 2_000]);
        live.primary.send_frames(pieces[..1].iter().cloned())?;
        live.checkpointer.pause()?;
        live.give_up();
        live.primary.send_frames(pieces[1..2].iter().cloned())?;
        live.wait("both are held", |pair| pair.primary.held_frames == 2)
            .with_context(|| format!("{layout:?}"))?;
        live.out
            .stays_quiet()
            .with_context(|| format!("{layout:?}: its first piece did not leave either"))?;
        live.checkpointer.pause()?;
        live.commit();
        let flushed = live.out.receive_frames(2).with_context(|| format!("{layout:?}"))?;
        assert!(flushed == pieces[..2], "{layout:?}");
        // Now that its siblings have left, so does the last.
        live.primary.send_frames(pieces[2..].iter().cloned())?;
        assert!(live.out.receive_frames(1)? == pieces[2..], "{layout:?}");
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn a_fragment_left_behind_asks_for_a_checkpoint_when_it_has_waited_long_enough() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.compare.compare_timeout = Duration::from_millis(300);
        let mut live = Live::start(&settings)?;
        let mut whole = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.udp(7_000, 10_000).write(&mut whole, &[1; 3_000])?;
        let pieces = cut(&whole, 7, &[1_000, 2_000]);
        live.primary.send_frames(pieces[..2].iter().cloned())?;
        live.wait("both have come", |pair| pair.primary.held_frames == 2)
            .with_context(|| format!("{layout:?}"))?;
        // Before it is overdue: the boundary takes it out of the hands of who would have asked.
        live.checkpointer.pause()?;
        live.give_up();
        until("a checkpoint is asked for", LIMIT, || {
            let requests = live.checkpointer.requests();
            ensure_that(requests == [Reason::Timeout], || format!("{requests:?}"))
        })
        .with_context(|| format!("{layout:?}"))?;
        live.checkpointer.pause()?;
        live.commit();
        assert!(live.out.receive_frames(2)? == pieces[..2], "{layout:?}");
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

/// One mismatch, which asks for a checkpoint.
fn differ(live: &mut Live) -> Result<()> {
    let [one, other] = [1, 2].map(|number| Name { flow: 0, number });
    live.primary.send(&[one])?;
    live.secondary.send(&[other])?;
    asked(live, 1)
}

fn asked(live: &Live, times: usize) -> Result<()> {
    until("a checkpoint is asked for", LIMIT, || {
        let requests = live.checkpointer.requests();
        ensure_that(requests == vec![Reason::Mismatch; times], || format!("{requests:?}"))
    })
}

#[test]
fn what_was_asked_for_is_asked_for_again() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        differ(&mut live)?;
        live.checkpointer.pause()?;
        live.give_up();
        asked(&live, 2)?;
        // A pause that nobody asked for asks for nothing.
        live.checkpointer.pause()?;
        live.commit();
        live.out.receive(1)?;
        live.checkpointer.pause()?;
        live.give_up();
        std::thread::sleep(QUIET);
        asked(&live, 2)?;
        // Nothing is under way: there is nothing to give up.
        live.give_up();
        live.checkpointer.say([BackendEvent::Committed]);
        live.wait("it goes on", |pair| pair.checkpoints.completed == 2)?;
        let pair = live.pair()?;
        assert_eq!((pair.checkpoints.abandoned, pair.checkpoints.requested.mismatch), (2, 1), "{layout:?}");
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn a_checkpoint_that_does_not_come_is_told_and_asked_for_again() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.checkpoint.backend = CheckpointBackend::Exec("not run: the test takes its place".to_owned());
        settings.checkpoint.deadline = Duration::from_millis(200);
        let mut live = Live::start(&settings)?;
        differ(&mut live)?;
        until("it is asked for again", LIMIT, || {
            let requests = live.checkpointer.requests();
            ensure_that(requests.len() >= 2, || format!("{requests:?}"))
        })?;
        // Paused, and then nothing: that one is given up.
        live.checkpointer.pause()?;
        live.wait("it is given up", |pair| pair.checkpoints.abandoned == 1)?;
        live.wait("people are told", |pair| pair.checkpoints.overdue >= 1)?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}: nothing was committed"))?;
        live.checkpointer.pause()?;
        live.commit();
        live.out.receive(1)?;
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}
