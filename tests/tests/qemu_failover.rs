//! A real pair that loses something while a client talks to it: `colo` itself, the secondary, the primary. One
//! connection with many blocks under way goes through it, and each of its bytes is checked. Says how long it stood still
//! and asserts nothing of that.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures of a run are for whoever reads its output")]

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use colo_tests::pair::guests::count;
use colo_tests::pair::{Guests, Node, Stream, Streamed, alone};
use colo_tests::wait;
use rustix::process::Signal;
use serde_json::Value;

const SEED: u64 = 20_261_122;
/// Ends what hangs.
const HANG_LIMIT: Duration = Duration::from_mins(2);
/// Blocks before something is taken away, and after it.
const BLOCKS: u64 = 300;
/// How long a supervisor takes to start `colo` again; a heartbeat takes to miss a QEMU.
const DETECTION: Duration = Duration::from_millis(200);

/// Waits until so many more blocks have come back.
fn further(stream: &Stream, blocks: u64) -> Result<()> {
    let wanted = stream.came() + blocks;
    wait::until("more blocks", HANG_LIMIT, || {
        ensure!(stream.came() >= wanted, "{} of {wanted} have come", stream.came());
        Ok(())
    })
}

/// Waits for a checkpoint. Until the first one since the guests' first connection each of them has a secret of its own for
/// the start of a connection's time stamps (RFC 7323), and nobody translates those: the client may take all that the
/// secondary sends after a failover for old.
fn a_checkpoint(guests: &Guests) -> Result<()> {
    let completed = || guests.metric("colo_checkpoints_completed_total");
    let before = completed()?;
    wait::until("a checkpoint", HANG_LIMIT, || {
        ensure!(completed()? > before, "none has come");
        Ok(())
    })
}

/// Does `harm` to a pair in the middle of a stream.
fn through(guests: &mut Guests, harm: impl FnOnce(&mut Guests) -> Result<()>) -> Result<Streamed> {
    let stream = guests.client().stream()?;
    std::thread::scope(|scope| {
        let running = scope.spawn(|| stream.run());
        let done = a_checkpoint(guests)
            .and_then(|()| further(&stream, BLOCKS))
            .and_then(|()| harm(guests))
            .and_then(|()| further(&stream, BLOCKS));
        stream.end();
        let streamed = running.join().map_err(|_| anyhow!("the client panicked"))?;
        // What the client saw says more than that it did not go on.
        let streamed = streamed?;
        done.map(|()| streamed)
    })
}

fn told(what: &str, streamed: Streamed) {
    let gap = streamed.longest_gap.as_millis();
    println!("{what}: {} blocks, all right; longest gap {gap} ms", streamed.blocks);
}

fn restarted(signal: Signal, name: &str) -> Result<()> {
    let _alone = alone();
    let settings = ["--set", "max_checkpoint_interval=2000"];
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        told("undisturbed", through(guests, |_| Ok(()))?);
        for round in 1..=2 {
            let streamed = through(guests, |guests| {
                let start = Instant::now();
                guests.restart_colo(signal, DETECTION)?;
                guests.wait_for_log("was built again")?;
                println!("the filter lives again after {:.0?}", start.elapsed());
                Ok(())
            })?;
            told(&format!("{name}, round {round}"), streamed);
        }
        Ok(())
    })?;
    finished.expect_code(0)?;
    let summary: Value = serde_json::from_str(&finished.stdout)?;
    ensure!(count(&summary, "invariant_violations")? == 0, "the books do not balance: {summary:#}");
    Ok(())
}

#[test]
fn a_connection_survives_the_death_of_the_engine() -> Result<()> {
    restarted(Signal::KILL, "engine killed")
}

#[test]
fn a_connection_survives_a_restart_of_the_engine() -> Result<()> {
    restarted(Signal::TERM, "engine restarted")
}

#[test]
fn a_connection_survives_the_loss_of_the_secondary() -> Result<()> {
    let _alone = alone();
    Guests::run(SEED, &["--set", "max_checkpoint_interval=2000"], |guests| {
        let streamed = through(guests, |guests| {
            guests.kill(Node::Secondary)?;
            std::thread::sleep(DETECTION);
            guests.fail_over_to(Node::Primary)
        })?;
        told("secondary killed", streamed);
        Ok(())
    })
    .map(drop)
}

#[test]
fn the_engine_alone_carries_a_connection_over_the_loss_of_the_secondary() -> Result<()> {
    let _alone = alone();
    let settings =
        ["--set", "max_checkpoint_interval=2000", "--set", "on_secondary_loss=pass", "--failover", "primary"];
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        // Nobody but the engine is told that the secondary is gone.
        let streamed = through(guests, |guests| guests.kill(Node::Secondary))?;
        told("secondary killed, and nobody said so", streamed);
        ensure!(guests.metric("colo_secondary_lost")? == 1, "the engine has not noticed");
        Ok(())
    })?;
    let said = "the primary's VM is told to go on alone";
    ensure!(finished.stderr.contains(said), "the engine did not tell QEMU: {}", finished.stderr);
    Ok(())
}

#[test]
fn a_connection_survives_the_loss_of_the_primary() -> Result<()> {
    let _alone = alone();
    Guests::run(SEED, &["--set", "max_checkpoint_interval=2000"], |guests| {
        let streamed = through(guests, |guests| {
            guests.kill(Node::Primary)?;
            std::thread::sleep(DETECTION);
            guests.fail_over_to(Node::Secondary)
        })?;
        told("primary killed", streamed);
        Ok(())
    })
    .map(drop)
}
