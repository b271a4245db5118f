//! A flush lets out what the primary sent before its pause, in order of arrival, and nothing that it sent after.

use std::time::Instant;

use anyhow::{Context, Result};
use colo_engine::checkpoint::BackendEvent;

use super::rig::{Books, LAYOUTS, LIMIT, Live, QUIET, ensure_that, names, patient};

const FLOWS: u16 = 64;

#[test]
fn frames_sent_after_the_boundary_are_not_flushed() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        for round in 0..3 {
            let at = 1_000 * round;
            let (old, new) = (names(FLOWS, at..at + 5), names(FLOWS, at + 500..at + 505));
            live.primary.send(&old)?;
            live.checkpointer.pause()?;
            live.primary.send(&new)?;
            std::thread::sleep(QUIET);
            live.commit();
            let flushed = live.out.receive(old.len()).with_context(|| format!("{layout:?}"))?;
            assert!(flushed == old, "{layout:?}: the flush goes in order of arrival over all shards");
            live.out.stays_quiet().with_context(|| format!("{layout:?}: after the flush"))?;
            live.secondary.send(&new)?;
            let mut matched = live.out.receive(new.len()).with_context(|| format!("{layout:?}"))?;
            matched.sort_unstable_by_key(|name| (name.number, name.flow));
            assert!(matched == new, "{layout:?}: what was sent after the pause is compared");
        }
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

#[test]
fn one_message_flushes_what_was_sent_before_it() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        for round in 0..5 {
            let at = 1_000 * round;
            let (old, new) = (names(FLOWS, at..at + 50), names(FLOWS, at + 500..at + 505));
            live.primary.send(&old)?;
            live.commit();
            let flushed = live.out.receive(old.len()).with_context(|| format!("{layout:?}"))?;
            assert!(flushed == old, "{layout:?}: in order of arrival over all shards");
            live.primary.send(&new)?;
            live.out.stays_quiet().with_context(|| format!("{layout:?}: before the secondary"))?;
            live.secondary.send(&new)?;
            live.out.receive(new.len()).with_context(|| format!("{layout:?}"))?;
        }
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn two_commits_at_once_are_two_checkpoints() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let old = names(FLOWS, 0..5);
        live.primary.send(&old)?;
        live.secondary.send(&names(FLOWS, 700..703))?;
        live.wait("all is there", |pair| {
            pair.primary.held_frames == 320 && pair.secondary.held_frames == 192
        })?;
        live.checkpointer.say([BackendEvent::Paused, BackendEvent::Paused, BackendEvent::Committed]);
        live.checkpointer.say([BackendEvent::Committed, BackendEvent::Committed]);
        assert!(live.out.receive(old.len())? == old, "{layout:?}");
        live.wait("three checkpoints", |pair| pair.checkpoints.completed == 3)
            .with_context(|| format!("{layout:?}"))?;
        live.out.stays_quiet()?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!((books.released, books.dropped, books.held), (320, 192, [0, 0]), "{layout:?}");
    }
    Ok(())
}

#[test]
fn traffic_never_stops_while_checkpoints_come_and_go() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let sent = names(FLOWS, 0..300);
        let (mut primary, mut secondary) = (live.primary.again()?, live.secondary.again()?);
        let script = sent.clone();
        let sender = std::thread::spawn(move || -> Result<()> {
            for (at, some) in script.chunks(300).enumerate() {
                primary.send(some)?;
                // The secondary is silent for a while now and then; a checkpoint makes up for it.
                if at % 4 != 0 {
                    secondary.send(some)?;
                }
            }
            Ok(())
        });
        let (mut got, started) = (Vec::new(), Instant::now());
        while got.len() < sent.len() {
            live.checkpointer.pause()?;
            live.commit();
            got.extend(live.out.receive_some()?);
            ensure_that(started.elapsed() < LIMIT, || format!("{layout:?}: only {} came out", got.len()))?;
        }
        sender.join().expect("the sender does not panic")?;
        live.out.stays_quiet()?;
        for flow in 0..FLOWS {
            let numbers = got.iter().filter(|name| name.flow == flow).map(|name| name.number);
            assert!(numbers.eq(0..300), "{layout:?}: flow {flow} comes out once and in order");
        }
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}
