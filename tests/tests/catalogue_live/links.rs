//! Links that are lost: cases 93 and 94. Without a secondary the primary waits for a checkpoint; without a primary
//! nothing leaves, whatever the secondary says.

use std::time::Duration;

use anyhow::{Context, Result};
use colo_tests::case::{Case, Packet, seg, syn_ack, udp};
use colo_tests::metrics::Scrape;
use colo_tests::qemu_link::{Framing, Link};
use colo_tests::rig::{Rig, STEP_LIMIT};

use super::{frames, setup};

const QUIET: Duration = Duration::from_millis(300);
/// Timeouts that come soon enough for a test.
const HASTY: &str = "--compare-timeout 200 --poll adaptive --set min_checkpoint_interval=1";
const PATIENT: &str = "--compare-timeout 60000 --poll adaptive";

fn send(link: &mut Link, frames: &[Vec<u8>]) -> Result<()> {
    link.send(frames.iter().map(Vec::as_slice))
}

fn commit(notify: &mut Link) -> Result<()> {
    notify.send_raw(&Framing::Plain.message("COLO_CHECKPOINT")?)
}

fn expect_request(notify: &mut Link) -> Result<()> {
    let request = Framing::Plain.message("DO_CHECKPOINT")?;
    assert_eq!(notify.receive_raw(request.len(), STEP_LIMIT).context("a request")?, request);
    Ok(())
}

/// A SYN/ACK and `count` segments of ten bytes.
fn stream(count: i64) -> Vec<Packet> {
    let segments = (0..count).map(|n| seg(n * 10..n * 10 + 10));
    std::iter::once(syn_ack()).chain(segments).collect()
}

/// The link of this port is down, says the metrics page.
fn link_goes_down(rig: &Rig, port: &str) -> Result<()> {
    let label = format!("port=\"{port}\"");
    Scrape::wait(rig.metrics, STEP_LIMIT, |page| {
        page.sum("colo_link_up", &[&label]).is_ok_and(|up| up == 0)
    })?;
    Ok(())
}

#[test]
fn case_93_failover_in_the_middle_of_a_flow() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, HASTY))?;
    let mut notify = rig.notify.take().context("a notifier")?;
    let [primary, secondary] =
        frames(Case::v4(), stream(12), stream(12).into_iter().map(|packet| packet.mac(2)));
    send(&mut rig.primary, &primary[..6])?;
    send(&mut rig.secondary, &secondary[..6])?;
    assert_eq!(rig.out.receive_all(6, STEP_LIMIT).context("before the loss")?, primary[..6]);

    rig.secondary.close()?;
    link_goes_down(&rig, "secondary_in")?;
    send(&mut rig.primary, &primary[6..10])?;
    expect_request(&mut notify)?;
    rig.out.expect_silence(QUIET).context("everything waits for a commit")?;

    // A new secondary is a copy of the primary as it was at the commit.
    commit(&mut notify)?;
    assert_eq!(rig.out.receive_all(4, STEP_LIMIT).context("the flush")?, primary[6..10]);
    let mut successor = rig.new_secondary()?;
    send(&mut rig.primary, &primary[10..])?;
    rig.out.expect_silence(Duration::from_millis(100)).context("the new epoch is compared")?;
    send(&mut successor, &secondary[10..])?;
    assert_eq!(rig.out.receive_all(3, STEP_LIMIT).context("with the new secondary")?, primary[10..]);
    rig.out.expect_silence(QUIET).context("nothing leaves twice")?;
    let books = rig.settled(|books| books.held == 0)?;
    assert_eq!((books.released, books.received_primary, books.completed), (13, 13, 1), "{books:?}");
    rig.stop(&books)?;
    Ok(())
}

#[test]
fn case_94_secondary_link_lost() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, HASTY))?;
    let mut notify = rig.notify.take().context("a notifier")?;
    rig.secondary.close()?;
    link_goes_down(&rig, "secondary_in")?;
    rig.colo.wait_for_log("secondary_in", STEP_LIMIT).context("an event in the log")?;
    for round in 0..3 {
        let texts = (0..5).map(|n| udp(format!("round {round}, datagram {n}").as_bytes()));
        let [primary, _] = frames(Case::v4(), texts, []);
        send(&mut rig.primary, &primary)?;
        expect_request(&mut notify)?;
        rig.out.expect_silence(QUIET).context("they wait")?;
        commit(&mut notify)?;
        assert_eq!(rig.out.receive_all(5, STEP_LIMIT).context("the flush")?, primary);
    }
    let books = rig.settled(|books| books.completed == 3 && books.held == 0)?;
    assert_eq!(books.released, 15, "{books:?}");
    let page = Scrape::get(rig.metrics)?;
    assert!(page.sum("colo_checkpoints_requested_total", &["reason=\"timeout\""])? >= 3);
    Ok(())
}

#[test]
fn case_94_what_the_secondary_had_sent_still_counts() -> Result<()> {
    // Its last frames are as good as any: the partner of one that was sent before the link went still leaves.
    let mut rig = Rig::start(&setup(Framing::Plain, PATIENT))?;
    let [primary, secondary] = frames(Case::v4(), [udp(b"one"), udp(b"two")], [udp(b"one").mac(2)]);
    send(&mut rig.secondary, &secondary)?;
    rig.settled(|books| books.received_secondary == 1)?;
    rig.secondary.close()?;
    link_goes_down(&rig, "secondary_in")?;
    send(&mut rig.primary, &primary)?;
    assert_eq!(rig.out.receive_all(1, STEP_LIMIT)?, primary[..1]);
    rig.out.expect_silence(QUIET)
}

#[test]
fn case_94_primary_link_lost() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, HASTY))?;
    let mut notify = rig.notify.take().context("a notifier")?;
    let [primary, secondary] =
        frames(Case::v4(), stream(4), stream(12).into_iter().map(|packet| packet.mac(2)));
    send(&mut rig.primary, &primary)?;
    send(&mut rig.secondary, &secondary[..5])?;
    assert_eq!(rig.out.receive_all(5, STEP_LIMIT).context("before the loss")?, primary);

    rig.primary.close()?;
    link_goes_down(&rig, "primary_in")?;
    rig.colo.wait_for_log("primary_in", STEP_LIMIT).context("an event in the log")?;
    // The secondary goes on, is alone, and nothing of it leaves: not when it is late, not at a commit.
    send(&mut rig.secondary, &secondary[5..9])?;
    expect_request(&mut notify)?;
    rig.out.expect_silence(QUIET).context("a secondary alone")?;
    commit(&mut notify)?;
    send(&mut rig.secondary, &secondary[9..])?;
    rig.out.expect_silence(QUIET).context("after a commit")?;
    let books = rig.settled(|books| books.received_secondary == 13)?;
    assert_eq!(books.released, 5, "{books:?}");
    Ok(())
}

#[test]
fn case_94_frames_of_a_lost_primary_are_not_lost() -> Result<()> {
    // Held when the link went, they still leave: at the partner's arrival, or at the commit.
    let mut rig = Rig::start(&setup(Framing::Plain, PATIENT))?;
    let mut notify = rig.notify.take().context("a notifier")?;
    let [primary, secondary] = frames(Case::v4(), [udp(b"one"), udp(b"two").flow(1)], [udp(b"one").mac(2)]);
    send(&mut rig.primary, &primary)?;
    rig.settled(|books| books.held == 2)?;
    rig.primary.close()?;
    link_goes_down(&rig, "primary_in")?;
    rig.out.expect_silence(QUIET).context("the link's end is no commit")?;
    send(&mut rig.secondary, &secondary)?;
    assert_eq!(rig.out.receive_all(1, STEP_LIMIT)?, primary[..1]);
    commit(&mut notify)?;
    assert_eq!(rig.out.receive_all(1, STEP_LIMIT)?, primary[1..]);
    Ok(())
}
