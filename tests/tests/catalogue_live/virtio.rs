//! Frames behind virtio-net headers (virtio 1.2 section 5.1.6): cases 82 and 88. The header is no part of what is
//! compared, and goes out with its frame as it came in.

use std::time::Duration;

use anyhow::{Context, Result};
use colo_tests::case::{Case, Flag, Packet, WINDOW, seg, syn_ack, udp};
use colo_tests::frame::layout;
use colo_tests::process::Colo;
use colo_tests::qemu_link::{Framing, VIRTIO_HEADER};
use colo_tests::rig::{Rig, STEP_LIMIT};

use super::{frame, frames, setup};

const QUIET: Duration = Duration::from_millis(200);
const PATIENT: &str = "--compare-timeout 60000 --poll adaptive";
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const ETHERNET_AND_IPV4: u16 = 34;

/// A frame behind a header, as it stands on the wire.
fn enclosed(header: &[u8], frame: &[u8]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).expect("a short frame").to_be_bytes();
    [&word(header.len() + frame.len())[..], &word(header.len()), header, frame].concat()
}

/// A header of twelve bytes that leaves a TCP checksum to the card, and cutting to it too when `segment` is not 0.
fn unfinished(segment: u16) -> [u8; 12] {
    let gso = if segment == 0 { 0 } else { GSO_TCPV4 };
    let mut header = [NEEDS_CSUM, gso, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    header[2..4].copy_from_slice(&(ETHERNET_AND_IPV4 + 20).to_le_bytes());
    header[4..6].copy_from_slice(&segment.to_le_bytes());
    header[6..8].copy_from_slice(&ETHERNET_AND_IPV4.to_le_bytes());
    header[8..10].copy_from_slice(&16_u16.to_le_bytes());
    header
}

/// The frame with only the sum of the pseudo header in its checksum field, as a kernel hands it to a card.
fn partial(bytes: &[u8]) -> Vec<u8> {
    let at = layout(bytes).expect("TCP");
    let length = u32::try_from(at.end - at.transport).expect("a short segment");
    let words = bytes[26..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum = words.sum::<u32>() + 6 + length;
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let mut bytes = bytes.to_vec();
    let sum = u16::try_from(sum).expect("folded");
    bytes[at.transport + 16..at.transport + 18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A started connection: both SYN/ACKs are through.
fn connected() -> Result<Rig> {
    let mut rig = Rig::start(&setup(Framing::Vnet, PATIENT))?;
    let syn = enclosed(&VIRTIO_HEADER, &frame(syn_ack()));
    rig.primary.send_raw(&syn)?;
    rig.secondary.send_raw(&syn)?;
    assert_eq!(rig.out.receive_raw(syn.len(), STEP_LIMIT).context("the SYN/ACK")?, syn);
    Ok(rig)
}

/// Ten bytes of the stream with this window.
fn ten(window: u16) -> Vec<u8> {
    frame(seg(0..10).window(window))
}

/// What comes out when the PVM sends the one, the SVM the other.
fn out(rig: &mut Rig, primary: &[u8], secondary: &[u8]) -> Result<Vec<u8>> {
    rig.primary.send_raw(primary)?;
    rig.out.expect_silence(QUIET).context("before the secondary")?;
    rig.secondary.send_raw(secondary)?;
    let left = rig.out.receive_raw(primary.len(), STEP_LIMIT)?;
    rig.out.expect_silence(QUIET).context("once")?;
    let books = rig.settled(|books| books.held == 0)?;
    assert_eq!((books.requested, books.released), (0, 2), "{books:?}");
    Ok(left)
}

#[test]
fn case_82_needs_csum_against_full() -> Result<()> {
    let unfinished = enclosed(&unfinished(0), &partial(&ten(WINDOW)));
    let full = enclosed(&VIRTIO_HEADER, &ten(WINDOW));
    assert!(unfinished != full);
    assert_eq!(out(&mut connected()?, &unfinished, &full)?, unfinished);
    assert_eq!(out(&mut connected()?, &full, &unfinished)?, full);
    assert_eq!(out(&mut connected()?, &unfinished, &unfinished)?, unfinished);
    Ok(())
}

#[test]
fn case_82_needs_csum_does_not_excuse_the_content() -> Result<()> {
    let mut rig = connected()?;
    let mut notify = rig.notify.take().context("a notifier")?;
    rig.primary.send_raw(&enclosed(&unfinished(0), &partial(&ten(WINDOW))))?;
    let other = frame(seg(0..10).with_byte(4, 0xFF));
    rig.secondary.send_raw(&enclosed(&VIRTIO_HEADER, &other))?;
    let request = Framing::Plain.message("DO_CHECKPOINT")?;
    assert_eq!(notify.receive_raw(request.len(), STEP_LIMIT)?, request);
    rig.out.expect_silence(QUIET)
}

#[test]
fn case_82_needs_csum_is_right_after_a_rewrite() -> Result<()> {
    // The field holds the sum of the pseudo header, which the window is no part of: the card adds it.
    let (wide, narrow) = (partial(&ten(65_000)), ten(WINDOW));
    let left = out(&mut connected()?, &enclosed(&unfinished(0), &wide), &enclosed(&VIRTIO_HEADER, &narrow))?;
    assert_eq!(left, enclosed(&unfinished(0), &partial(&narrow)));
    Ok(())
}

#[test]
fn case_82_full_is_right_after_a_rewrite_against_needs_csum() -> Result<()> {
    let (wide, narrow) = (ten(65_000), partial(&ten(WINDOW)));
    let left = out(&mut connected()?, &enclosed(&VIRTIO_HEADER, &wide), &enclosed(&unfinished(0), &narrow))?;
    assert_eq!(left, enclosed(&VIRTIO_HEADER, &ten(WINDOW)));
    Ok(())
}

#[test]
fn case_82_super_frame_against_finished_segments() -> Result<()> {
    let mut rig = connected()?;
    let cut = |n: i64| {
        let segment = seg(n * 1_448..(n + 1) * 1_448);
        if n == 2 { segment.flag(Flag::Psh) } else { segment }
    };
    let [primary, secondary] = frames(Case::v4(), [seg(0..3 * 1_448).flag(Flag::Psh)], (0..3).map(cut));
    let whole = enclosed(&unfinished(1_448), &partial(&primary[0]));
    rig.primary.send_raw(&whole)?;
    for segment in &secondary {
        rig.out.expect_silence(QUIET).context("before the last segment")?;
        rig.secondary.send_raw(&enclosed(&VIRTIO_HEADER, segment))?;
    }
    assert_eq!(rig.out.receive_raw(whole.len(), STEP_LIMIT)?, whole);
    Ok(())
}

#[test]
fn case_88_virtio_header_lengths() -> Result<()> {
    // Whatever the header says, it is told back with its frame; the sides need not have the same.
    let pattern: Vec<u8> = (0..20).map(|n| u8::from(n == 10)).collect();
    let datagram = |packet: Packet| frame(packet);
    for ours in [0, 10, 12, 20] {
        let mut rig = Rig::start(&setup(Framing::Vnet, PATIENT))?;
        for (number, theirs) in [0, 10, 12, 20].into_iter().enumerate() {
            let text =
                format!("datagram {number}, long enough to be a frame of its own, {ours} and {theirs}");
            let sent = enclosed(&pattern[..ours], &datagram(udp(text.as_bytes())));
            let partner = enclosed(&pattern[..theirs], &datagram(udp(text.as_bytes()).mac(2)));
            rig.primary.send_raw(&sent)?;
            rig.secondary.send_raw(&partner)?;
            let left = rig.out.receive_raw(sent.len(), STEP_LIMIT);
            assert_eq!(left.with_context(|| format!("headers of {ours} and {theirs}"))?, sent);
        }
        let books = rig.settled(|books| books.dropped_secondary == 4)?;
        assert_eq!((books.released, books.requested), (4, 0), "{books:?}");
    }
    Ok(())
}

#[test]
fn case_88_other_lengths_are_a_clear_error() -> Result<()> {
    let bytes = frame(udp(b"a datagram that is long enough"));
    for length in [1, 8, 11, 13, 21, 200] {
        let mut rig = Rig::start(&setup(Framing::Vnet, PATIENT))?;
        rig.primary.send_raw(&enclosed(&vec![0; length], &bytes))?;
        rig.primary.expect_closed(STEP_LIMIT).with_context(|| format!("a header of {length}"))?;
        let line = rig.colo.wait_for_log("header", STEP_LIMIT)?;
        assert!(line.contains(&format!(" {length}")), "says what is wrong: {line}");
        rig.out.expect_silence(QUIET)?;
        // A peer that has learned its lesson may come back.
        let again = enclosed(&VIRTIO_HEADER, &bytes);
        rig.new_primary()?.send_raw(&again)?;
        rig.secondary.send_raw(&again)?;
        assert_eq!(rig.out.receive_raw(again.len(), STEP_LIMIT)?, again);
    }
    Ok(())
}

#[test]
fn case_88_a_header_longer_than_its_frame_is_a_clear_error() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Vnet, PATIENT))?;
    rig.secondary.send_raw(&[0, 0, 0, 10, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    rig.secondary.expect_closed(STEP_LIMIT)?;
    rig.colo.wait_for_log("header", STEP_LIMIT)?;
    Ok(())
}

#[test]
fn case_88_a_peer_without_headers_is_a_clear_error() -> Result<()> {
    // What should be the header's length is the beginning of a MAC address.
    let mut rig = Rig::start(&setup(Framing::Vnet, PATIENT))?;
    let mut bytes = Vec::new();
    Framing::Plain.encode(&frame(udp(b"a datagram that is long enough")), &mut bytes)?;
    rig.primary.send_raw(&bytes)?;
    rig.primary.expect_closed(STEP_LIMIT)?;
    rig.colo.wait_for_log("vnet", STEP_LIMIT)?;
    Ok(())
}

#[test]
fn case_88_ports_that_do_not_agree_are_a_clear_error() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = |name: &str| format!("unix:{},listen", directory.path().join(name).display());
    let primary = format!("{},vnet", port("p"));
    let finished = Colo::run(
        [
            "compare",
            "--checkpoint",
            "none",
            "--primary-in",
            &primary,
            "--secondary-in",
            &port("s"),
            "--out",
            &port("o"),
        ],
        STEP_LIMIT,
    )?;
    finished.expect_code(2)?;
    assert!(finished.stderr.contains("vnet") && finished.stderr.lines().count() == 1, "{}", finished.stderr);
    Ok(())
}
