//! A real QEMU guest whose vhost-user network cards end in `colo`'s DPDK ports: what its kernel sends over TCP is compared,
//! released, and right to the byte. Wants `colo` built with its feature `dpdk`, root for namespaces, and Debian 12 on x86-64,
//! whose QEMU and kernel it fetches once. No KVM, no hugepages.
#![cfg(feature = "dpdk")]
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use colo_tests::pair::VhostGuest;
use colo_tests::pair::initramfs::{PAGES, page};
use serde_json::Value;

const SEED: u64 = 79;
/// Times that each page is asked for.
const ROUNDS: usize = 4;

#[test]
fn a_qemu_guest_with_vhost_user_cards_answers_through_colo() -> Result<()> {
    let ((bytes, took), finished) = VhostGuest::run(SEED, |client| {
        let began = Instant::now();
        let mut bytes = 0;
        for (length, path) in PAGES.into_iter().cycle().take(PAGES.len() * ROUNDS) {
            ensure!(client.get(path)? == page(SEED, length), "{path} came back otherwise");
            bytes += u64::try_from(length)?;
        }
        Ok((bytes, began.elapsed()))
    })?;
    finished.expect_code(0)?;
    let summary: Value = serde_json::from_str(&finished.stdout).context("the summary")?;
    for zero in [
        "/checkpoints/mismatch",
        "/checkpoints/timeout",
        "/invariant_violations",
        "/held",
        "/released_by/flush",
    ] {
        ensure!(summary.pointer(zero).and_then(Value::as_u64) == Some(0), "{zero} in {summary:#}");
    }
    // A frame has 1,460 bytes of a page at most.
    let matched = summary["released_by"]["matched"].as_u64().unwrap_or(0);
    ensure!(matched >= bytes / 1_460, "{matched} frames matched, too few for {bytes} bytes: {summary:#}");
    let line = format!(
        "net_vhost with a QEMU guest: {bytes} bytes in {} ms, {matched} frames matched",
        took.as_millis()
    );
    Ok(writeln!(std::io::stderr(), "{line}")?)
}
