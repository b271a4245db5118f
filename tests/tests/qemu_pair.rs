//! `colo compare` with a real pair: two QEMUs in COLO, their guests' real kernels and servers, checkpoints over QEMU's
//! monitor. Says how fast it went and asserts nothing of that.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures of a run are for whoever reads its output")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::pair::guests::count;
use colo_tests::pair::initramfs::{PAGES, page};
use colo_tests::pair::{Client, Guests, Latencies, alone};
use colo_tests::process::Finished;
use colo_tests::wait;
use serde_json::{Value, json};

const SEED: u64 = 20_261_121;
/// Ends what hangs.
const HANG_LIMIT: Duration = Duration::from_mins(2);
/// Requests of the short page; `COLO_PAIR_REQUESTS` sets another number. The long page gets a tenth of it.
const REQUESTS: usize = 200;

fn requests() -> Result<usize> {
    match std::env::var("COLO_PAIR_REQUESTS") {
        Ok(number) => number
            .parse()
            .with_context(|| format!("COLO_PAIR_REQUESTS is {number:?}, not a number of requests")),
        Err(_) => Ok(REQUESTS),
    }
}

fn told(what: &str, count: usize, latencies: &Latencies) {
    println!(
        "{what}: {count} requests, p50 {:.1?}, p99 {:.1?}",
        latencies.percentile(50),
        latencies.percentile(99)
    );
}

/// The page made from the seed, so many times, correct to the byte.
fn get_page(client: Client<'_>, number: usize, count: usize) -> Result<()> {
    let (length, path) = PAGES[number];
    let expected = page(SEED, length);
    let latencies = client.get_often(path, count, |body| {
        ensure!(
            body == expected,
            "wrong bytes: the first at {:?}",
            body.iter().zip(&expected).position(|(a, b)| a != b)
        );
        Ok(())
    })?;
    told(path, count, &latencies);
    Ok(())
}

/// The page that each guest makes otherwise: the client gets the primary's.
fn get_random(client: Client<'_>, count: usize) -> Result<()> {
    let path = "/cgi-bin/random";
    let latencies = client.get_often(path, count, |body| {
        let digits = body.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
        ensure!(digits == 64, "{} instead of 64 digits", String::from_utf8_lossy(body));
        Ok(())
    })?;
    told(path, count, &latencies);
    Ok(())
}

/// A conversation on one connection: twenty lines at least, and until two checkpoints have passed.
fn converse(guests: &Guests) -> Result<()> {
    let completed = || guests.metric("colo_checkpoints_completed_total");
    let before = completed()?;
    let deadline = Instant::now() + HANG_LIMIT;
    let mut echo = guests.client().echo()?;
    let mut lines = 0;
    while lines < 20 || completed()? < before + 2 {
        ensure!(Instant::now() < deadline, "no two checkpoints during {lines} lines within {HANG_LIMIT:?}");
        lines += 1;
        echo.say(&format!("line {lines} of a conversation")).with_context(|| format!("line {lines}"))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("echo: {lines} lines on one connection, {} checkpoints meanwhile", completed()? - before);
    Ok(())
}

fn summary(finished: &Finished) -> Result<Value> {
    finished.expect_code(0)?;
    let summary: Value = serde_json::from_str(&finished.stdout).context("colo's summary")?;
    println!(
        "checkpoints: {} completed, by reason {}",
        summary["checkpoints_completed"], summary["checkpoints"]
    );
    ensure!(count(&summary, "invariant_violations")? == 0, "the books do not balance: {summary:#}");
    Ok(summary)
}

#[test]
fn a_pair_answers_correctly_over_many_checkpoints() -> Result<()> {
    let _alone = alone();
    let requests = requests()?;
    let settings = ["--set", "max_checkpoint_interval=500"];
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        get_page(guests.client(), 0, requests)?;
        get_page(guests.client(), 1, requests.div_ceil(10))?;
        get_random(guests.client(), 20)?;
        converse(guests)?;
        println!("given up: {} checkpoints", guests.metric("colo_checkpoints_abandoned_total")?);
        Ok(())
    })?;
    let summary = summary(&finished)?;
    ensure!(count(&summary, "checkpoints_completed")? >= 3, "too few checkpoints: {summary:#}");
    Ok(())
}

#[test]
fn an_operators_pause_is_not_a_checkpoint() -> Result<()> {
    let _alone = alone();
    let settings = ["--set", "max_checkpoint_interval=off"];
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        // No request is under way when nothing has changed for a while.
        let before = wait::until("a quiet pair", HANG_LIMIT, || {
            let counts = checkpoints(guests)?;
            std::thread::sleep(Duration::from_millis(500));
            ensure!(checkpoints(guests)? == counts, "checkpoints are still being taken");
            Ok(counts)
        })?;
        pause_during_traffic(guests)?;
        wait::until("colo's opinion of the pause", HANG_LIMIT, || {
            let [.., abandoned] = checkpoints(guests)?;
            ensure!(abandoned > before[2], "none was given up");
            Ok(())
        })?;
        let after = checkpoints(guests)?;
        let [requested, completed, abandoned] = [0, 1, 2].map(|index| after[index] - before[index]);
        println!("during the pause: {requested} requested, {completed} completed, {abandoned} given up");
        get_page(guests.client(), 0, 20)?;
        get_random(guests.client(), 3)
    })?;
    // Others may be given up on a busy machine, for another reason.
    let said = "the primary was paused, but not for a checkpoint";
    ensure!(finished.stderr.contains(said), "colo did not say so: {}", finished.stderr);
    summary(&finished).map(drop)
}

/// Checkpoints requested, completed, given up.
fn checkpoints(guests: &Guests) -> Result<[u64; 3]> {
    Ok([
        guests.metric("colo_checkpoints_requested_total")?,
        guests.metric("colo_checkpoints_completed_total")?,
        guests.metric("colo_checkpoints_abandoned_total")?,
    ])
}

/// Stops the primary for a second and lets it go on, while a client makes requests, all of which are answered.
fn pause_during_traffic(guests: &mut Guests) -> Result<()> {
    let over = AtomicBool::new(false);
    let expected = page(SEED, PAGES[0].0);
    let (client, monitor) = guests.client_and_monitor();
    let answered = std::thread::scope(|scope| -> Result<usize> {
        let traffic = scope.spawn(|| -> Result<usize> {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                ensure!(client.get(PAGES[0].1)? == expected, "request {answered}: wrong bytes");
                answered += 1;
            }
            Ok(answered)
        });
        let mut pause = || -> Result<()> {
            std::thread::sleep(Duration::from_millis(300));
            // A checkpoint that is just being taken undoes it.
            wait::until("the operator's pause", HANG_LIMIT, || {
                monitor.ask("stop", &json!({}))?;
                let found = monitor.ask("query-status", &json!({}))?;
                ensure!(found["status"] == "paused", "{found}");
                Ok(())
            })?;
            std::thread::sleep(Duration::from_secs(1));
            monitor.ask("cont", &json!({}))?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        };
        let paused = pause();
        over.store(true, Ordering::Relaxed);
        let answered = traffic.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
        paused.and(answered)
    })?;
    ensure!(answered > 0, "the pause came before any answer");
    Ok(())
}
