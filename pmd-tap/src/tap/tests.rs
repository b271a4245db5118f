//! The landing without a device: a socket that keeps frames apart is in its place.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::landing::{Landed, Landing};
use super::*;
use crate::{MAX_FRAME_BYTES, PoolSettings, VirtioHeader};

fn sockets() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn land(landing: &mut Landing, queue: &OwnedFd, pool: &mut FramePool) -> Option<Frame> {
    match landing.read(queue.as_fd(), pool) {
        Landed::Frame(frame) => Some(frame),
        Landed::Nothing | Landed::NoSlot => None,
        Landed::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn every_length_lands_whole_in_a_slot_that_suits_it() {
    let mut pool = FramePool::new(PoolSettings { small: 4, mtu: 4, jumbo: 4, gso: 2 }).unwrap();
    let (ours, theirs) = sockets();
    let mut landing = Landing::new(VirtioHeader::NONE);
    for (len, room) in [
        (1, 128),
        (60, 128),
        (128, 128),
        (129, 1_600),
        (1_600, 1_600),
        (1_601, 9_280),
        (9_280, 9_280),
        (9_281, MAX_FRAME_BYTES),
        (MAX_FRAME_BYTES, MAX_FRAME_BYTES),
    ] {
        rustix::net::send(&theirs, &content(len), SendFlags::empty()).unwrap();
        let frame = land(&mut landing, &ours, &mut pool).unwrap();
        assert_eq!(frame.bytes(), content(len), "{len}");
        assert_eq!(frame.capacity(), room, "{len}");
        pool.recycle(frame);
    }
    assert!(land(&mut landing, &ours, &mut pool).is_none());
    assert_eq!(pool.frames_out(), 1, "what waits for the next frame");
}

#[test]
fn a_frame_without_a_slot_stays_where_it_is() {
    let mut pool = FramePool::new(PoolSettings { small: 0, mtu: 2, jumbo: 0, gso: 1 }).unwrap();
    let (ours, theirs) = sockets();
    let mut landing = Landing::new(VirtioHeader::NONE);
    for len in [20_000, 30_000] {
        rustix::net::send(&theirs, &content(len), SendFlags::empty()).unwrap();
    }
    let first = land(&mut landing, &ours, &mut pool).unwrap();
    assert_eq!(first.len(), 20_000);
    assert!(matches!(landing.read(ours.as_fd(), &mut pool), Landed::NoSlot));
    drop(first);
    let second = land(&mut landing, &ours, &mut pool).unwrap();
    assert_eq!(second.bytes(), content(30_000), "it was not lost, and not cut");
    // With an ordinary MTU and no header no large slot is asked for.
    landing.expect(1_500);
    rustix::net::send(&theirs, &content(1_514), SendFlags::empty()).unwrap();
    assert_eq!(land(&mut landing, &ours, &mut pool).unwrap().bytes(), content(1_514));
    landing.expect(9_000);
    assert!(matches!(landing.read(ours.as_fd(), &mut pool), Landed::NoSlot));
}

#[test]
fn frames_have_the_ports_header_and_nothing_stale_in_it() {
    let mut pool = FramePool::new(PoolSettings { small: 4, mtu: 4, jumbo: 0, gso: 1 }).unwrap();
    let (ours, theirs) = sockets();
    let mut landing = Landing::new(VirtioHeader::from_len(12).unwrap());
    rustix::net::send(&theirs, &[9; 72], SendFlags::empty()).unwrap();
    let frame = land(&mut landing, &ours, &mut pool).unwrap();
    assert_eq!(frame.bytes()[..12], [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0]);
    assert_eq!(frame.ethernet(), [9; 60]);
    // Shorter than the header it should have: no Ethernet frame at all, and no panic.
    rustix::net::send(&theirs, &[9; 11], SendFlags::empty()).unwrap();
    let frame = land(&mut landing, &ours, &mut pool).unwrap();
    assert!(frame.ethernet().is_empty());
}

#[test]
fn what_the_kernel_refuses_is_said_with_the_way_to_mend_it() {
    let loopback: TapSettings = "tap:lo".parse().unwrap();
    let sentence = TapPort::new(&loopback).unwrap_err().to_string();
    // As root it is no TAP device; as somebody else it is not theirs.
    let mends = ["is no TAP device", "CAP_NET_ADMIN", "/dev/net/tun"];
    assert!(mends.iter().any(|mend| sentence.contains(mend)), "{sentence}");
}
