//! A copy of a guest's connection is in the same state as the original: from any moment on, the same input at the
//! same times gives the same output, to the byte. In virtual time, without sockets.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::address::{ConnectionKey, Family};
use super::super::flow::{Flow, Standing, Turn};
use super::super::guest::{Birth, ConnectionGuest, Logging, Nagle, Personality};
use super::super::random::Draws;
use super::super::stack::{Packet, PacketBatch};
use super::super::totals::Totals;

/// One client connection against one guest and, since the last checkpoint, its copy. Returns the number of packets
/// that were the same.
fn run(seed: u64, family: Family, nagle: Nagle) -> usize {
    let mut draws = Draws::new(seed);
    let totals = Arc::new(Totals::default());
    let key = ConnectionKey::nth(seed, family);
    let birth = Birth { key, seed: 77, at: 0, personality: Personality { ack_delay: Some(10_000), nagle } };
    let mut guest = ConnectionGuest::new(birth, Logging::On);
    let mut copy = ConnectionGuest::new(birth, Logging::Off);
    let mut flow = Flow::connect(key, seed, 0);
    let (mut asked, mut same, mut now) = (0, 0, 0);
    let mut held: VecDeque<Packet> = VecDeque::new();
    let (mut output, mut expected) = (PacketBatch::default(), PacketBatch::default());
    while !guest.is_over() {
        assert!(now < 600_000_000, "the connection never ends");
        now += 1 + draws.bits() % 400;
        let mut sent = PacketBatch::default();
        let standing = flow.step(now, &totals, &mut sent, &mut || {
            asked += 1;
            if asked > 12 { Turn::Close } else { Turn::Request(seed * 100 + asked) }
        });
        assert_ne!(standing, Standing::Failed, "{:?}", totals.errors());
        for packet in sent.iter().map(Packet::from) {
            guest.deliver(packet.clone(), now);
            copy.deliver(packet, now);
        }
        if draws.chance(0.05) {
            copy = guest.copy().expect("the guest keeps a log");
        }
        assert_eq!(guest.wake_at(), copy.wake_at());
        if draws.chance(0.5) && guest.wake_at() <= now {
            output.clear();
            expected.clear();
            let budget = 100 + draws.below(20_000);
            guest.step(now, budget, &mut output);
            copy.step(now, budget, &mut expected);
            assert_eq!(output, expected);
            same += output.len();
            // One in fifty is lost, so that retransmission is part of the state.
            held.extend(output.iter().filter(|_| !draws.chance(0.02)).map(Packet::from));
        }
        if draws.chance(0.3) {
            held.drain(..).for_each(|packet| flow.deliver(packet, now));
        }
    }
    assert!(copy.is_over());
    assert_eq!(totals.progress().responses, 12);
    same
}

#[test]
fn a_copy_sends_what_the_original_sends() {
    let mut same = 0;
    for seed in 1..6 {
        same += run(seed, Family::V4, Nagle::On);
        same += run(seed, Family::V6, Nagle::Off);
    }
    assert!(same > 500, "{same}");
}

#[test]
fn a_full_log_resets_the_connection() {
    let totals = Totals::default();
    let key = ConnectionKey::nth(1, Family::V4);
    let personality = Personality { ack_delay: None, nagle: Nagle::Off };
    let mut guest = ConnectionGuest::new(Birth { key, seed: 1, at: 0, personality }, Logging::On);
    let mut flow = Flow::connect(key, 1, 0);
    let mut standing = Standing::Open;
    let mut steps = 0;
    while standing == Standing::Open {
        steps += 1;
        assert!(steps < 40_000, "the log has no bound");
        let (mut sent, mut answers) = (PacketBatch::default(), PacketBatch::default());
        standing = flow.step(steps, &totals, &mut sent, &mut || Turn::Wait);
        sent.iter().for_each(|packet| guest.deliver(Packet::from(packet), steps));
        guest.step(steps, 0, &mut answers);
        answers.iter().for_each(|packet| flow.deliver(Packet::from(packet), steps));
    }
    assert_eq!((standing, guest.is_over()), (Standing::Failed, true));
    assert!(totals.errors()[0].contains("reset"), "{:?}", totals.errors());
}
