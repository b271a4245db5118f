//! What happens when nobody answers, and when there is no more room.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use colo_engine::verdict::Reason;
use colo_tests::wait::until;
use pmd_tap::{ChardevPort, ChardevSettings};

use super::rig::{Books, LAYOUTS, LIMIT, Live, ensure_that, names, patient};

const FLOWS: u16 = 64;

#[test]
fn without_a_secondary_all_waits_and_timeouts_ask() -> Result<()> {
    for layout in LAYOUTS {
        let directory = tempfile::tempdir()?;
        let address = format!("unix:{},listen", directory.path().join("secondary").display());
        let nobody: ChardevSettings = address.parse()?;
        let nobody = ChardevPort::new(&nobody)?;
        let mut settings = patient(layout);
        settings.compare.compare_timeout = Duration::from_millis(50);
        let mut live = Live::start_with(&settings, |_| Box::new(nobody))?;
        for round in 1..=3 {
            let sent = names(FLOWS, round * 10..round * 10 + 3);
            live.primary.send(&sent)?;
            until("a timeout asks", LIMIT, || {
                let requests = live.checkpointer.requests();
                let asked =
                    requests.len() == usize::try_from(round)? && requests[..].ends_with(&[Reason::Timeout]);
                ensure_that(asked, || format!("{layout:?}: {requests:?}"))
            })?;
            live.out.stays_quiet().with_context(|| format!("{layout:?}"))?;
            live.commit();
            assert!(live.out.receive(sent.len())? == sent, "{layout:?}");
            live.wait("the commit is counted", |pair| pair.checkpoints.completed == u64::from(round))?;
        }
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn a_full_primary_is_not_read_until_a_commit_makes_room() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.limits.max_held_frames = 256;
        let mut live = Live::start(&settings)?;
        let sent = names(FLOWS, 0..80);
        let (mut primary, script) = (live.primary.again()?, sent.clone());
        let sender = std::thread::spawn(move || primary.send(&script));
        live.wait("reading stops", |pair| pair.reading_stops > 0).with_context(|| format!("{layout:?}"))?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}"))?;
        // A burst more than the bound may be in the engine, not two.
        live.wait("the bound holds", |pair| pair.primary.frames < 256 + 32)?;
        assert_eq!(live.checkpointer.requests(), [Reason::QueueFull], "{layout:?}");
        let (mut got, mut answered, started) = (Vec::new(), 0, Instant::now());
        while got.len() < sent.len() {
            let all_read = Books::of(&live.pair()?).received[0] == u64::try_from(sent.len())?;
            let requests = live.checkpointer.requests().len();
            // It asks by itself as often as it is full; only what is left at last has to be fetched.
            if requests > answered || all_read {
                answered = requests;
                live.commit();
            }
            got.extend(live.out.receive_some()?);
            ensure_that(started.elapsed() < LIMIT, || format!("{layout:?}: only {} came out", got.len()))?;
        }
        assert!(got == sent, "{layout:?}: in order, nothing lost");
        sender.join().expect("the sender does not panic")?;
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn an_input_that_stays_half_full_over_a_commit_asks_again_when_it_is_full() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.limits.max_held_frames = 2_048;
        let mut live = Live::start(&settings)?;
        // Nobody reads the output: what has left stays in the engine, and no checkpoint can help that.
        let (mut sent, started) = (Vec::new(), Instant::now());
        for number in 0.. {
            let some = names(FLOWS, number..number + 1);
            live.primary.send(&some)?;
            live.secondary.send(&some)?;
            sent.extend(some);
            live.wait("it has left its shard", |pair| {
                Books::of(pair).released == u64::from(number + 1) * 64
            })?;
            if !live.checkpointer.requests().is_empty() {
                break;
            }
            ensure_that(started.elapsed() < LIMIT, || format!("{layout:?}: it never asks"))?;
        }
        live.commit();
        live.wait("the commit is counted", |pair| pair.checkpoints.completed == 1)?;
        let more = names(FLOWS, 1_000_000..1_000_100);
        sent.extend(&more);
        let mut primary = live.primary.again()?;
        let sender = std::thread::spawn(move || primary.send(&more));
        live.wait("reading stops", |pair| pair.reading_stops > 0).with_context(|| format!("{layout:?}"))?;
        until("it asks again", LIMIT, || {
            let requests = live.checkpointer.requests();
            ensure_that(requests == [Reason::QueueFull; 2], || format!("{layout:?}: {requests:?}"))
        })?;
        let mut got = 0;
        while got < sent.len() {
            live.commit();
            got += live.out.receive_some()?.len();
            ensure_that(started.elapsed() < 2 * LIMIT, || format!("{layout:?}: only {got} came out"))?;
        }
        sender.join().expect("the sender does not panic")?;
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn a_secondary_beyond_its_budget_is_read_and_dropped() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.limits.max_held_frames = 256;
        let mut live = Live::start(&settings)?;
        let sent = names(FLOWS, 0..80);
        live.secondary.send(&sent)?;
        live.wait("all of it is read", |pair| Books::of(pair).received[1] == 5_120)
            .with_context(|| format!("{layout:?}"))?;
        live.wait("all of it is judged", |pair| Books::of(pair).balance())?;
        let requests = live.checkpointer.requests();
        assert_eq!(requests, [Reason::QueueFull], "{layout:?}");
        live.commit();
        live.wait("the commit is counted", |pair| pair.checkpoints.completed == 1)?;
        // The flows are comparable again.
        let again = names(FLOWS, 500..501);
        live.primary.send(&again)?;
        live.secondary.send(&again)?;
        live.out.receive(again.len()).with_context(|| format!("{layout:?}"))?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert!(books.over_budget > 4_000 && books.over_budget < 5_120, "{layout:?}: {books:?}");
        assert_eq!((books.released, books.held), (64, [0, 0]), "{layout:?}");
    }
    Ok(())
}
