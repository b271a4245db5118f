//! A real pair whose guests differ all the time: what the engine makes of it in each mode, and what it says of why.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the figures of a run are for whoever reads its output")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::pair::initramfs::{PAGES, page};
use colo_tests::pair::{Client, Guests, alone};
use colo_tests::process;
use serde_json::Value;

const SEED: u64 = 20_261_123;
/// Ends what hangs.
const HANG_LIMIT: Duration = Duration::from_mins(3);

/// The page that each guest makes otherwise: the client gets one guest's whole.
fn random(client: Client<'_>) -> Result<()> {
    let body = client.get("/cgi-bin/random")?;
    let digits = body.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    ensure!(digits == 64, "{} instead of 64 digits", String::from_utf8_lossy(&body));
    Ok(())
}

/// The page that both guests make alike.
fn equal(client: Client<'_>) -> Result<()> {
    let (length, path) = PAGES[0];
    ensure!(client.get(path)? == page(SEED, length), "wrong bytes");
    Ok(())
}

/// Makes requests until the engine has changed what it does so many times; how many requests that took.
fn until_switched(
    guests: &Guests,
    switches: u64,
    request: impl Fn(Client<'_>) -> Result<()>,
) -> Result<usize> {
    let start = Instant::now();
    let mut requests = 0;
    while guests.metric("colo_mode_switches_total")? < switches {
        ensure!(
            start.elapsed() < HANG_LIMIT,
            "{switches} changes were expected within {HANG_LIMIT:?} and {requests} requests"
        );
        request(guests.client()).with_context(|| format!("request {requests}"))?;
        requests += 1;
    }
    println!("{switches} change(s): {requests} requests, {:.1?}", start.elapsed());
    Ok(requests)
}

/// Short epochs, so that a test sees many.
const PACE: [&str; 10] = [
    "--set",
    "max_checkpoint_interval=1000",
    "--set",
    "passive_limit=300",
    "--set",
    "passive_leave_limit=450",
    "--set",
    "passive_count=4",
    "--set",
    "passive_interval=150",
];

#[test]
fn hybrid_goes_passive_under_random_load_and_comes_back_after_it() -> Result<()> {
    let _alone = alone();
    let settings = [&PACE[..], &["--mode", "hybrid", "--set", "passive_count_max=8"]].concat();
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        until_switched(guests, 1, random).context("passive")?;
        for _ in 0..5 {
            random(guests.client()).context("while passive, or while COLO is tried")?;
        }
        let switches = guests.metric("colo_mode_switches_total")?;
        // An odd number of changes: passive now.
        until_switched(guests, switches + switches % 2, equal).context("back")?;
        for _ in 0..20 {
            equal(guests.client())?;
        }
        Ok(())
    })?;
    finished.expect_code(0)?;
    for said in ["from here on: passive (policy)", "from here on: colo (policy)"] {
        ensure!(finished.stderr.contains(said), "colo did not say {said:?}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn classic_tries_again_and_again_under_random_load() -> Result<()> {
    let _alone = alone();
    let settings = [&PACE[..], &["--mode", "hybrid", "--policy", "classic"]].concat();
    let ((), finished) = Guests::run(SEED, &settings, |guests| {
        until_switched(guests, 4, random).map(drop)?;
        equal(guests.client())
    })?;
    finished.expect_code(0)
}

#[test]
fn why_a_random_page_differed_is_explained() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let diverged = folder.path().join("diverged.pcapng").display().to_string();
    let requests =
        std::env::var("COLO_PAIR_REQUESTS").ok().and_then(|number| number.parse().ok()).unwrap_or(40);
    let ((), finished) = Guests::run(SEED, &["--diverged", &diverged], |guests| {
        for request in 0..requests {
            random(guests.client()).with_context(|| format!("request {request}"))?;
        }
        Ok(())
    })?;
    finished.expect_code(0)?;
    let explained = process::run(&["explain", &diverged, "--json"]);
    explained.expect_code(0)?;
    let explained: Value = serde_json::from_str(&explained.stdout).context("colo explain")?;
    let records = explained["records"].as_array().context("records")?;
    let names_a_byte = |record: &&Value| {
        let bytes = &record["bytes"];
        bytes["offset"].is_number() && bytes["primary"].is_number() && bytes["primary"] != bytes["secondary"]
    };
    let record = records.iter().find(names_a_byte).with_context(|| {
        let sentences: Vec<_> = records.iter().map(|record| &record["sentence"]).collect();
        format!("no record names a byte that differs: {sentences:?}")
    })?;
    println!("{requests} random pages, {} records, one of them: {}", records.len(), record["sentence"]);
    Ok(())
}
