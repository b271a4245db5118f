//! Modes of a running engine, and sides that are lost: nothing unmatched leaves but where everything passes, nothing is lost
//! or left behind where modes change.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use colo_engine::checkpoint::{BackendEvent, ExitReason};
use colo_engine::config::{OnPrimaryLoss, OnSecondaryLoss, RunMode, Settings};
use colo_engine::modes::{Conduct, Mode};
use colo_engine::side::Side;
use colo_engine::verdict::Reason;
use colo_tests::wait::until;
use pmd_tap::{ChardevPort, ChardevSettings};

use super::rig::{Books, LAYOUTS, LIMIT, Live, Name, Peer, ensure_that, names, patient};

const FLOWS: u16 = 32;

/// Puts a mode in force and waits until it shows.
fn set(live: &Live, settings: &Settings, mode: Mode, conduct: Conduct) -> Result<()> {
    let mut settings = settings.clone();
    settings.modes.mode = mode;
    live.engine.pairs()[0].order(&settings);
    live.wait("the mode is in force", |pair| {
        pair.modes.settings.mode == mode && pair.modes.conduct == conduct
    })
}

fn sorted(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_unstable_by_key(|name| (name.number, name.flow));
    names
}

/// Both sides send the same, and it leaves, compared.
fn is_compared(live: &mut Live, at: u32) -> Result<()> {
    let equal = names(FLOWS, at..at + 3);
    live.primary.send(&equal)?;
    live.out.stays_quiet().context("nothing leaves uncompared")?;
    live.secondary.send(&equal)?;
    assert!(sorted(live.out.receive(equal.len())?) == equal);
    Ok(())
}

#[test]
fn passive_begins_at_once_and_comparing_with_a_commit() -> Result<()> {
    for layout in LAYOUTS {
        let settings = patient(layout);
        let mut live = Live::start(&settings)?;
        is_compared(&mut live, 0).with_context(|| format!("{layout:?}"))?;
        // Held while compared, and held while nothing is: all of it waits for the commit, and leaves in order.
        let (before, after) = (names(FLOWS, 100..103), names(FLOWS, 103..106));
        live.primary.send(&before)?;
        live.wait("it is held", |pair| pair.primary.held_frames == u64::try_from(before.len()).unwrap_or(0))?;
        set(&live, &settings, Mode::Passive, Conduct::Hold)?;
        live.primary.send(&after)?;
        live.secondary.send(&[before.as_slice(), &after].concat())?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}: held, equal or not"))?;
        set(&live, &settings, Mode::Colo, Conduct::Hold)?;
        live.out.stays_quiet()?;
        live.checkpointer.pause()?;
        live.commit();
        let flushed = live.out.receive(before.len() + after.len())?;
        assert!(flushed == [before, after].concat(), "{layout:?}: in order of arrival");
        is_compared(&mut live, 200).with_context(|| format!("{layout:?}: compared again"))?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

#[test]
fn passive_asks_for_a_checkpoint_each_interval() -> Result<()> {
    let mut settings = patient((2, RunMode::Workers));
    settings.modes.mode = Mode::Passive;
    settings.modes.passive_interval = Duration::from_millis(40);
    let mut live = Live::start(&settings)?;
    for round in 1..=3 {
        let sent = names(FLOWS, 10 * round..10 * round + 2);
        live.primary.send(&sent)?;
        until("a checkpoint is asked for", LIMIT, || {
            let requests = live.checkpointer.requests();
            let asked = usize::try_from(round).unwrap_or(0);
            ensure_that(requests == vec![Reason::Periodic; asked], || format!("{requests:?}"))
        })?;
        live.checkpointer.pause()?;
        live.commit();
        assert!(live.out.receive(sent.len())? == sent);
    }
    Books::at_the_end(live.engine.stop()).map(drop)
}

#[test]
fn off_lets_out_what_is_held_even_behind_a_boundary_and_comes_back_with_a_checkpoint() -> Result<()> {
    for layout in LAYOUTS {
        let settings = patient(layout);
        let mut live = Live::start(&settings)?;
        let (old, new) = (names(FLOWS, 0..3), names(FLOWS, 3..6));
        live.primary.send(&old)?;
        live.checkpointer.pause()?;
        live.primary.send(&new)?;
        live.out.stays_quiet()?;
        // The commit will never come: the secondary is gone.
        set(&live, &settings, Mode::Off, Conduct::Pass)?;
        let left = live.out.receive(old.len() + new.len()).with_context(|| format!("{layout:?}"))?;
        for flow in 0..FLOWS {
            let numbers: Vec<u32> =
                left.iter().filter(|name| name.flow == flow).map(|name| name.number).collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{layout:?}: each flow in order");
        }
        let passing = names(FLOWS, 10..13);
        live.primary.send(&passing)?;
        assert!(sorted(live.out.receive(passing.len())?) == passing, "{layout:?}");
        // A pause is nobody's business now.
        live.checkpointer.tell([BackendEvent::Paused, BackendEvent::Committed])?;
        live.primary.send(&[Name { flow: 0, number: 20 }])?;
        live.out.receive(1)?;
        // Back: the secondary must be made a copy first.
        set(&live, &settings, Mode::Colo, Conduct::Hold)?;
        assert_eq!(live.checkpointer.requests(), [Reason::Operator], "{layout:?}");
        let held = names(FLOWS, 30..33);
        live.primary.send(&held)?;
        live.secondary.send(&held)?;
        live.out.stays_quiet()?;
        live.checkpointer.pause()?;
        live.commit();
        assert!(live.out.receive(held.len())? == held, "{layout:?}");
        is_compared(&mut live, 40).with_context(|| format!("{layout:?}: compared again"))?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

/// An engine that listens for its secondary, so that one can come back.
fn listening(settings: &Settings, path: &Path) -> Result<Live> {
    let address: ChardevSettings = format!("unix:{},listen", path.display()).parse()?;
    let port = ChardevPort::new(&address)?;
    Live::start_with(settings, |_| Box::new(port))
}

fn attach(live: &mut Live, path: &Path) -> Result<()> {
    live.secondary = Peer::new(UnixStream::connect(path)?)?;
    is_up(live, "up")
}

fn is_up(live: &Live, state: &str) -> Result<()> {
    live.wait("the secondary's link shows", |pair| {
        pair.links.iter().any(|link| {
            link.port == "secondary_in" && format!("{:?}", link.state).eq_ignore_ascii_case(state)
        })
    })
}

#[test]
fn without_a_secondary_everything_passes_until_a_checkpoint_brings_one_back() -> Result<()> {
    for layout in LAYOUTS {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("secondary.sock");
        let mut settings = patient(layout);
        settings.loss.on_secondary = OnSecondaryLoss::Pass;
        let mut live = listening(&settings, &path)?;
        attach(&mut live, &path)?;
        is_compared(&mut live, 0).with_context(|| format!("{layout:?}"))?;
        let held = names(FLOWS, 10..13);
        live.primary.send(&held)?;
        live.out.stays_quiet()?;
        live.secondary = Peer::new(UnixStream::pair()?.0)?;
        assert!(sorted(live.out.receive(held.len())?) == held, "{layout:?}: the link is gone");
        live.wait("it shows", |pair| pair.modes.is_secondary_lost)?;
        // A link alone is no copy of the primary.
        attach(&mut live, &path)?;
        let passing = names(FLOWS, 20..23);
        live.primary.send(&passing)?;
        assert!(sorted(live.out.receive(passing.len())?) == passing, "{layout:?}");
        live.checkpointer.pause()?;
        live.primary.send(&names(FLOWS, 30..31))?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}: held from the pause on"))?;
        live.give_up();
        live.out.receive(usize::from(FLOWS)).with_context(|| format!("{layout:?}: it came to nothing"))?;
        live.checkpointer.pause()?;
        live.commit();
        live.wait("it is compared again", |pair| {
            !pair.modes.is_secondary_lost && pair.modes.conduct == Conduct::Compare
        })?;
        is_compared(&mut live, 40).with_context(|| format!("{layout:?}"))?;
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn by_default_a_lost_secondary_holds_everything_until_the_operator_or_qemu_says_so() -> Result<()> {
    for by_operator in [true, false] {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("secondary.sock");
        let settings = patient((2, RunMode::Workers));
        let mut live = listening(&settings, &path)?;
        attach(&mut live, &path)?;
        let held = names(FLOWS, 0..3);
        live.primary.send(&held)?;
        live.secondary = Peer::new(UnixStream::pair()?.0)?;
        is_up(&live, "down")?;
        live.out.stays_quiet()?;
        if by_operator {
            set(&live, &settings, Mode::Off, Conduct::Pass)?;
        } else {
            // That it has lost the secondary decides nothing.
            live.checkpointer.tell([BackendEvent::Exited(Side::Primary, ExitReason::Error)])?;
            live.out.stays_quiet()?;
            live.checkpointer.say([BackendEvent::Exited(Side::Primary, ExitReason::Request)]);
        }
        assert!(sorted(live.out.receive(held.len())?) == held, "by operator: {by_operator}");
        Books::at_the_end(live.engine.stop())?;
    }
    Ok(())
}

#[test]
fn a_secondary_that_says_nothing_is_lost_only_while_something_waits_for_it() -> Result<()> {
    let mut settings = patient((2, RunMode::Pipeline));
    settings.loss.on_secondary = OnSecondaryLoss::Pass;
    // Longer than a busy machine takes to compare a few frames.
    let silence = Duration::from_secs(1);
    settings.loss.silence = Some(silence);
    let mut live = Live::start(&settings)?;
    is_compared(&mut live, 0)?;
    std::thread::sleep(silence * 2);
    assert!(!live.pair()?.modes.is_secondary_lost, "nobody waits");
    let held = names(FLOWS, 10..12);
    live.primary.send(&held)?;
    assert!(sorted(live.out.receive(held.len())?) == held);
    live.wait("it is lost", |pair| pair.modes.is_secondary_lost)?;
    Books::at_the_end(live.engine.stop()).map(drop)
}

#[test]
fn without_a_primary_nothing_leaves_and_the_engine_ends_if_that_is_wanted() -> Result<()> {
    for on_primary in [OnPrimaryLoss::Hold, OnPrimaryLoss::Exit] {
        for by_link in [true, false] {
            let mut settings = patient((2, RunMode::Workers));
            settings.loss.on_primary = on_primary;
            let mut live = Live::start(&settings)?;
            let held = names(FLOWS, 0..3);
            live.primary.send(&held)?;
            live.wait("it is held", |pair| pair.primary.held_frames == u64::from(FLOWS) * 3)?;
            if by_link {
                live.primary = Peer::new(UnixStream::pair()?.0)?;
            } else {
                live.checkpointer.say([BackendEvent::Exited(Side::Secondary, ExitReason::Error)]);
            }
            if on_primary == OnPrimaryLoss::Exit {
                until("the engine wants to end", LIMIT, || {
                    ensure_that(live.engine.has_lost_primary(), || "it goes on".to_owned())
                })?;
            }
            live.out.stays_quiet()?;
            assert_eq!(live.engine.has_lost_primary(), on_primary == OnPrimaryLoss::Exit);
            let books = Books::at_the_end(live.engine.stop())?;
            assert_eq!((books.released, books.held[0]), (0, u64::from(FLOWS) * 3));
        }
    }
    Ok(())
}
