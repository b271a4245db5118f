//! Whole worlds with stand-ins for the engine. They run in real time, a second or two each.

mod copies;
mod relay;

use std::os::unix::net::UnixStream;
use std::time::Duration;

use relay::{Colo, Forward, Lossy, Silent, Slow, relay};

use super::{World, WorldHandle, WorldLinks, WorldReport, WorldSettings};

fn settings(seed: u64, diverge: f64) -> WorldSettings {
    WorldSettings { seed, flows: 24, diverge, rate: None, duration: Duration::from_millis(1_500) }
}

/// The engine's ends.
struct EngineLinks {
    primary_in: UnixStream,
    secondary_in: UnixStream,
    out: UnixStream,
}

fn spawn(settings: &WorldSettings) -> (WorldHandle, EngineLinks) {
    let pair = || UnixStream::pair().expect("socket pair");
    let ((primary_out, primary_in), (secondary_out, secondary_in), (client_in, out)) =
        (pair(), pair(), pair());
    let links = WorldLinks { primary_out, secondary_out, client_in };
    let world = World::spawn(settings, links).expect("a world");
    (world, EngineLinks { primary_in, secondary_in, out })
}

fn expect_clean(report: &WorldReport) {
    assert_eq!((&report.errors[..], report.totals.client_errors), (&[][..], 0), "{report:?}");
    assert_eq!(report.broken_link, None);
    assert_eq!(report.totals.responses, report.totals.requests);
    assert_eq!(report.totals.open_connections, 0);
    assert!(report.totals.responses > 100, "{report:?}");
}

/// The primary's output straight into the client; the secondary's into the void.
fn run_unguarded(settings: &WorldSettings) -> WorldReport {
    let (primary_out, client_in) = UnixStream::pair().expect("socket pair");
    let (secondary_out, mut void) = UnixStream::pair().expect("socket pair");
    let drain = std::thread::spawn(move || std::io::copy(&mut void, &mut std::io::sink()));
    let world =
        World::spawn(settings, WorldLinks { primary_out, secondary_out, client_in }).expect("a world");
    let report = world.finish();
    drain.join().expect("no panic").expect("a readable socket");
    report
}

#[test]
fn a_primary_alone_serves_its_client_without_an_error() {
    expect_clean(&run_unguarded(&settings(1, 0.0)));
}

#[test]
fn a_rate_is_kept() {
    // The client is a thread of a machine that has other work: what it sleeps through it does not catch up with, so it may
    // ask less often, but never more often. Of many runs one is not disturbed.
    const RUNS: usize = 20;
    let mut counts = Vec::new();
    while counts.len() < RUNS && counts.last().is_none_or(|count| *count < 290) {
        let report = run_unguarded(&WorldSettings { rate: Some(200.0), ..settings(2, 0.0) });
        expect_clean(&report);
        assert!(report.totals.requests <= 310, "{report:?}");
        counts.push(report.totals.requests);
    }
    assert!(counts.last().is_some_and(|count| *count >= 290), "{counts:?}");
}

#[test]
fn one_lost_frame_in_a_hundred_is_repaired() {
    let (world, links) = spawn(&settings(3, 0.0));
    let mut policy = Lossy::new(3);
    relay(links, &world.checkpointer(), &mut policy);
    let report = world.finish();
    expect_clean(&report);
    assert!(policy.lost > 0);
}

#[test]
fn checkpoints_every_50_ms_harm_nobody() {
    let (world, links) = spawn(&settings(4, 0.1));
    relay(links, &world.checkpointer(), &mut Forward::every(Duration::from_millis(50)));
    let report = world.finish();
    expect_clean(&report);
    // How many there are depends on how busy the machine is; several are enough.
    assert!(report.totals.checkpoints >= 3, "{report:?}");
}

#[test]
fn without_divergence_both_guests_say_the_same() {
    let (world, links) = spawn(&settings(5, 0.0));
    let mut colo = Colo::default();
    relay(links, &world.checkpointer(), &mut colo);
    let report = world.finish();
    expect_clean(&report);
    assert_eq!((colo.mismatches, report.totals.diverged), (0, 0));
    assert!(colo.compared_bytes() > 100_000);
    assert!(colo.segmentation_differs(), "the guests should cut their streams differently");
}

#[test]
fn with_divergence_they_differ_and_checkpoints_mend_it() {
    let (world, links) = spawn(&settings(6, 1.0));
    let mut colo = Colo::default();
    relay(links, &world.checkpointer(), &mut colo);
    let report = world.finish();
    expect_clean(&report);
    assert!(colo.mismatches > 5 && report.totals.diverged > 5, "{} {report:?}", colo.mismatches);
}

#[test]
fn a_closed_client_link_ends_the_world_with_a_reason() {
    let (world, links) = spawn(&settings(7, 0.0));
    drop(links);
    let checkpointer = world.checkpointer();
    let report = world.finish();
    assert!(report.broken_link.is_some());
    assert!(checkpointer.pause().is_err());
}

#[test]
fn an_engine_that_reads_late_gets_every_frame() {
    let (world, links) = spawn(&settings(10, 0.0));
    std::thread::sleep(Duration::from_millis(100));
    let checkpointer = world.checkpointer();
    let engine = std::thread::spawn(move || relay(links, &checkpointer, &mut Slow));
    expect_clean(&world.finish());
    engine.join().expect("no panic");
}

#[test]
fn a_wrong_byte_does_not_escape_the_client() {
    let (secondary_out, client_in) = UnixStream::pair().expect("socket pair");
    let (primary_out, mut void) = UnixStream::pair().expect("socket pair");
    let drain = std::thread::spawn(move || std::io::copy(&mut void, &mut std::io::sink()));
    let settings = WorldSettings { duration: Duration::from_millis(200), ..settings(11, 0.5) };
    let world =
        World::spawn(&settings, WorldLinks { primary_out, secondary_out, client_in }).expect("a world");
    let report = world.finish();
    drain.join().expect("no panic").expect("a readable socket");
    assert!(report.totals.client_errors > 10, "{report:?}");
    assert!(report.errors.iter().any(|error| error.contains("wrong byte")), "{report:?}");
}

#[test]
fn an_engine_that_lets_nothing_out_is_noticed() {
    let settings = WorldSettings { flows: 2, duration: Duration::from_millis(100), ..settings(12, 0.0) };
    let (world, links) = spawn(&settings);
    relay(links, &world.checkpointer(), &mut Silent);
    let report = world.finish();
    assert_eq!((report.totals.client_errors, report.totals.responses), (2, 0), "{report:?}");
    assert!(report.errors[0].ends_with("SYN-SENT, nothing outstanding (lost)"), "{report:?}");
}

#[test]
fn a_world_nobody_watches_ends() {
    let (world, links) = spawn(&WorldSettings { duration: Duration::MAX, ..settings(13, 0.0) });
    drop(world);
    let mut end = links.primary_in;
    std::io::copy(&mut end, &mut std::io::sink()).expect("the link is closed in the end");
}

#[test]
fn a_stop_ends_the_world_early() {
    let (world, links) = spawn(&WorldSettings { duration: Duration::MAX, ..settings(8, 0.0) });
    let checkpointer = world.checkpointer();
    let engine = std::thread::spawn(move || relay(links, &checkpointer, &mut Forward::never()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.progress().responses > 0 && !world.is_over());
    world.stop();
    expect_clean(&world.finish());
    engine.join().expect("no panic");
}

/// Not a test of anything but speed: run it with `--ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn throughput() {
    let settings = |flows| WorldSettings { flows, duration: Duration::from_secs(3), ..settings(9, 0.0) };
    for flows in [16, 64, 256] {
        let report = run_unguarded(&settings(flows));
        println!(
            "{flows} flows, no engine: {:.0} PVM frames/s {report:?}",
            num(report.totals.frames_primary) / 3.0
        );
    }
    for diverge in [0.0, 0.001] {
        let (world, links) = spawn(&WorldSettings { diverge, ..settings(64) });
        let checkpoints = relay(links, &world.checkpointer(), &mut Colo::default());
        let report = world.finish();
        let slowest = checkpoints.iter().map(|taken| taken.copying).max();
        println!(
            "64 flows, compared: {:.0} PVM frames/s {report:?}",
            num(report.totals.frames_primary) / 3.0
        );
        println!("  slowest copy of all connections: {slowest:?}");
    }
}

/// Longer and wider than the tests above; run it with `--ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn soak() {
    for seed in 100..106 {
        let settings = |diverge| WorldSettings {
            flows: 100,
            duration: Duration::from_secs(6),
            ..settings(seed, diverge)
        };
        let (world, links) = spawn(&settings(0.0));
        relay(links, &world.checkpointer(), &mut Lossy::new(seed));
        let report = world.finish();
        println!("seed {seed}, lossy: {report:?}");
        expect_clean(&report);
        let (world, links) = spawn(&settings(0.01));
        relay(links, &world.checkpointer(), &mut Colo::default());
        let report = world.finish();
        println!("seed {seed}, compared: {report:?}");
        expect_clean(&report);
    }
}

fn num(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
