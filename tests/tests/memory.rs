//! The memory that the engine names at its start is what it has, from the start to the end.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_tests::frame::{Tcp4, flag};
use colo_tests::metrics::Scrape;
use colo_tests::qemu_link::Framing;
use colo_tests::rig::{Checkpoint, Dial, Rig, STEP_LIMIT, Setup, Transport};

/// Connections opened, each with a frame of both sides; then a frame of the primary alone.
const FLOWS: u16 = 2_000;

fn setup(arguments: &str) -> Setup<'_> {
    Setup {
        transport: Transport::Unix,
        dial: Dial::EngineListens,
        framing: Framing::Plain,
        checkpoint: Checkpoint::None,
        arguments,
    }
}

/// Resident memory, MiB, as Prometheus sees it.
fn resident(rig: &Rig) -> Result<f64> {
    let page = Scrape::get(rig.metrics)?;
    let kibibytes = page.sum("process_resident_memory_bytes", &[])? >> 10;
    Ok(f64::from(u32::try_from(kibibytes)?) / 1_024.0)
}

/// MiB of the log line: what was taken, and what was resident then.
fn named(rig: &Rig) -> Result<[f64; 2]> {
    let line = rig.colo.wait_for_log("memory taken", STEP_LIMIT)?;
    let number = |before: &str| -> Result<f64> {
        let rest = line.split_once(before).with_context(|| format!("no {before:?} in {line}"))?.1;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().with_context(|| format!("no number behind {before:?} in {line}"))
    };
    Ok([number("memory taken: ")?, number("MiB; ")?])
}

/// Connections, frames that match, frames that wait.
fn traffic(rig: &mut Rig) -> Result<()> {
    for (sequence, sides) in [(1_000, 2), (2_000, 1)] {
        let frames = (0..FLOWS).map(|port| {
            let destination = ([10, 0, 0, 9], 1_024 + port);
            Tcp4 {
                source: ([10, 0, 0, 1], 80),
                destination,
                sequence,
                ack: 500,
                flags: flag::ACK,
                identification: 0,
            }
            .frame(&[7; 1_000])
        });
        let frames = frames.collect::<Result<Vec<_>>>()?;
        rig.primary.send(frames.iter().map(Vec::as_slice))?;
        if sides == 2 {
            rig.secondary.send(frames.iter().map(Vec::as_slice))?;
            rig.out.receive_all(frames.len(), STEP_LIMIT)?;
        }
    }
    rig.settled(|books| books.held == u64::from(FLOWS))?;
    Ok(())
}

#[test]
fn what_is_named_at_the_start_is_resident_within_a_twentieth_under_load_too() -> Result<()> {
    for arguments in [
        "--compare-timeout 60000",
        "--compare-timeout 60000 --set max_held_frames=8192 --set max_connections=4096",
        "--compare-timeout 60000 --workers 2 --set memory=resident",
    ] {
        let mut rig = Rig::start(&setup(arguments))?;
        let [taken, named] = named(&rig)?;
        ensure!(taken < named && named < taken + 16.0, "{taken} MiB taken, {named} MiB with the program");
        let at_start = resident(&rig)?;
        traffic(&mut rig)?;
        for now in [at_start, resident(&rig)?] {
            let ratio = now / named;
            ensure!((0.95..=1.05).contains(&ratio), "{now:.1} MiB resident, {named} named: {arguments}");
        }
    }
    Ok(())
}

#[test]
fn lazy_memory_comes_when_it_is_touched() -> Result<()> {
    let lazy = Rig::start(&setup("--set memory=lazy --set max_connections=262144"))?;
    let [taken, named] = named(&lazy)?;
    ensure!(named < 0.9 * taken, "{named} of {taken} MiB");
    std::thread::sleep(Duration::from_millis(300));
    let now = resident(&lazy)?;
    ensure!(now < 0.9 * taken, "{now:.1} of {taken} MiB, without traffic");
    Ok(())
}
