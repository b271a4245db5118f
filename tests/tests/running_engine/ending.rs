//! The end of an engine: what has left is out, what is held stays held, and the books balance to the frame.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use colo_engine::metrics::Snapshot;
use colo_engine::runtime::Engine;

use super::rig::{Books, LAYOUTS, Live, names, patient};

const FLOWS: u16 = 64;
/// An end that waits for nothing; the engine gives up pushing only after two seconds.
const PROMPT: Duration = Duration::from_millis(1_900);

/// Stops it; fails when that took as long as giving up does.
fn stop_promptly(engine: Engine) -> Snapshot {
    let started = Instant::now();
    let snapshot = engine.stop();
    assert!(started.elapsed() < PROMPT, "stopping took {:?}", started.elapsed());
    snapshot
}

#[test]
fn held_frames_stay_held() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        live.primary.send(&names(FLOWS, 0..10))?;
        live.secondary.send(&names(FLOWS, 0..4))?;
        live.wait("four of ten left", |pair| Books::of(pair).released == 256)?;
        live.secondary.send(&names(FLOWS, 50..51))?;
        live.wait("all is read", |pair| pair.primary.frames == 640 && pair.secondary.frames == 320)?;
        let books = Books::at_the_end(stop_promptly(live.engine))?;
        assert_eq!((books.released, books.held), (256, [384, 64]), "{layout:?}");
        assert_eq!(live.out.receive_rest()?.len(), 256, "{layout:?}");
    }
    Ok(())
}

#[test]
fn an_end_between_pause_and_commit_keeps_everything_held() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        live.primary.send(&names(FLOWS, 0..3))?;
        live.checkpointer.pause()?;
        live.primary.send(&names(FLOWS, 100..150))?;
        std::thread::sleep(super::rig::QUIET);
        let snapshot = stop_promptly(live.engine);
        let books = Books::at_the_end(snapshot).with_context(|| format!("{layout:?}"))?;
        assert_eq!(books.released, 0, "{layout:?}: {books:?}");
        assert!(live.out.receive_rest()?.is_empty(), "{layout:?}: nothing was committed");
    }
    Ok(())
}

#[test]
fn an_end_in_the_middle_of_a_flush_lets_out_all_that_was_committed() -> Result<()> {
    for layout in LAYOUTS {
        for lead in 0..6 {
            let mut live = Live::start(&patient(layout))?;
            let old = names(FLOWS, 0..200);
            live.primary.send(&old)?;
            live.wait("all is held", |pair| pair.primary.held_frames == 12_800)?;
            let mut out = live.out;
            let reader = std::thread::spawn(move || out.receive_rest());
            live.checkpointer.say([colo_engine::checkpoint::BackendEvent::Committed]);
            std::thread::sleep(Duration::from_micros(300 * lead * lead));
            let snapshot = stop_promptly(live.engine);
            let books = Books::at_the_end(snapshot).with_context(|| format!("{layout:?}"))?;
            let got = reader.join().expect("the reader does not panic")?;
            let released = usize::try_from(books.released)?;
            assert!(got.len() == released, "{layout:?}: {} came out of {books:?}", got.len());
            assert!(got[..] == old[..released], "{layout:?}: in order of arrival");
            assert!(released == 0 || released == old.len(), "{layout:?}: a flush is all or nothing");
        }
    }
    Ok(())
}

#[test]
fn an_output_that_is_not_read_for_a_while_loses_nothing() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let sent = names(FLOWS, 0..240);
        for some in sent.chunks(1_024) {
            live.primary.send(some)?;
            live.secondary.send(some)?;
        }
        live.wait("all has left its shard", |pair| Books::of(pair).released == 15_360)
            .with_context(|| format!("{layout:?}"))?;
        live.commit();
        live.wait("a checkpoint meanwhile", |pair| pair.checkpoints.completed == 1)?;
        let got = live.out.receive(sent.len()).with_context(|| format!("{layout:?}"))?;
        for flow in 0..FLOWS {
            let numbers = got.iter().filter(|name| name.flow == flow).map(|name| name.number);
            assert!(numbers.eq(0..240), "{layout:?}: flow {flow} comes out once and in order");
        }
        let books = Books::at_the_end(stop_promptly(live.engine))?;
        assert_eq!(books.held, [0, 0], "{layout:?}");
    }
    Ok(())
}
