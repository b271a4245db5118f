//! What was wrong once, each under its name.

use std::time::Duration;

use colo_engine::compare::SecondarySequence;
use colo_engine::side::{BySide, Side};
use etherparse::PacketBuilder;

use crate::drive::{Frames, Log, MS, Verdict, Why, engine, settings};

/// A frame of the primary or the secondary, by time in ms: flags, sequence number, payload.
struct Talk(BySide<Frames>);

const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x14;

impl Talk {
    fn new() -> Self {
        Self(BySide::default()).both(0, SYN_ACK, 99, b"")
    }

    fn send(mut self, side: Side, at_ms: u64, port: u16, flags: u8, seq: u32, payload: &[u8]) -> Self {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
        let mut frame = Vec::new();
        builder.tcp(port, 4242, seq, 512).ack(1).write(&mut frame, payload).unwrap();
        frame[14 + 20 + 13] = flags;
        self.0[side].push_back((at_ms * MS, frame));
        self
    }

    fn p(self, at_ms: u64, flags: u8, seq: u32, payload: &[u8]) -> Self {
        self.send(Side::Primary, at_ms, 80, flags, seq, payload)
    }

    fn s(self, at_ms: u64, flags: u8, seq: u32, payload: &[u8]) -> Self {
        self.send(Side::Secondary, at_ms, 80, flags, seq, payload)
    }

    fn both(self, at_ms: u64, flags: u8, seq: u32, payload: &[u8]) -> Self {
        self.p(at_ms, flags, seq, payload).s(at_ms, flags, seq, payload)
    }

    fn run(self) -> Log {
        engine(settings(100), self.0)
    }
}

fn requests(log: &Log) -> Vec<(u64, Why)> {
    let why = |(at_ns, verdict): &(u64, Verdict)| match verdict {
        Verdict::Request(why) => Some((at_ns / MS, why.clone())),
        _ => None,
    };
    log.iter().filter_map(why).collect()
}

#[track_caller]
fn assert_released(log: &Log, frame: usize, at_ms: u64, why: &'static str) {
    assert!(log.contains(&(at_ms * MS, Verdict::Release { frame, why })), "{log:#?}");
}

#[test]
fn a_reset_behind_a_fin_is_no_mismatch() {
    let log = Talk::new().both(1, FIN, 100, b"").both(2, RST, 101, b"").run();
    assert_eq!(requests(&log), []);
    assert_released(&log, 2, 2, "matched");
}

#[test]
fn an_ack_behind_a_fin_that_was_overtaken_is_no_mismatch() {
    let log = Talk::new().s(1, ACK, 101, b"").p(2, FIN, 100, b"").s(3, FIN, 100, b"").run();
    assert_eq!(requests(&log), []);
    assert_released(&log, 1, 3, "matched");
}

#[test]
fn a_partner_whose_fin_differs_is_named_and_not_matched() {
    let log = Talk::new().s(1, FIN, 100, b"ab").p(2, ACK, 100, b"abcd").run();
    let why = Why::Mismatch { kind: "fin", offset: 2, primary: Some(1), secondary: Some(1) };
    assert_eq!(requests(&log), [(2, why)]);
    assert!(log.contains(&(7 * MS, Verdict::Drop { frame: 1, why: "flush" })), "{log:?}");
}

#[test]
fn a_primary_segment_nowhere_near_the_stream_waits_for_a_checkpoint() {
    for far in [(1 << 30) + 500, 1 << 31, (1 << 31) + 500, 3 << 30] {
        let log = Talk::new().both(1, ACK, 100, b"abcd").p(2, ACK, 100 + far, b"x").run();
        assert_eq!(requests(&log), [(402, Why::Timeout { side: Side::Primary, frame: 2 })], "{far}");
        assert_released(&log, 2, 407, "flush");
    }
}

#[test]
fn after_a_commit_a_wild_number_does_not_count_as_where_the_primary_stands() {
    let talk = Talk::new().both(1, ACK, 100, b"abcd").p(2, ACK, 100 + (1 << 29), b"x");
    let log = talk.p(500, ACK, 104, b"efgh").s(600, ACK, 104, b"efgh").run();
    assert_eq!(requests(&log), [(402, Why::Timeout { side: Side::Primary, frame: 2 })]);
    assert_released(&log, 3, 600, "matched");
}

#[test]
fn a_flow_picked_up_out_of_order_is_compared_from_its_lowest_byte() {
    // No SYN was seen; the primary's second segment comes first, and its first differs from the secondary's.
    let talk = Talk(BySide::default()).p(1, ACK, 110, b"klmnopqrst").p(2, ACK, 100, b"abcdefghiX");
    let log = talk.s(3, ACK, 100, b"abcdefghij").s(4, ACK, 110, b"klmnopqrst").run();
    assert_released(&log, 0, 8, "flush");
    assert_released(&log, 1, 8, "flush");
}

#[test]
fn a_wild_first_number_of_the_secondary_lets_nothing_pass() {
    let mut settings = settings(100);
    settings.shard.compare.secondary_sequence = SecondarySequence::Translated;
    let talk = Talk(BySide::default()).s(0, ACK, 100 + (1 << 31) + 5, b"x").p(1, ACK, 100, b"abcdefgh");
    let log = engine(settings, talk.0);
    assert_released(&log, 0, 406, "flush");
}

#[test]
fn acks_between_two_of_the_secondary_are_not_forgotten_after_a_commit() {
    // The primary times out at 401 ms; the commit is at 406 ms.
    let mut talk = Talk::new().p(1, ACK, 100, b"x");
    let ack = |mut talk: Talk, side: Side, at_ms, acked: u32| {
        talk = talk.send(side, at_ms, 80, ACK, 101, b"");
        let frame = &mut talk.0[side].back_mut().unwrap().1;
        frame[42..46].copy_from_slice(&acked.to_be_bytes());
        talk
    };
    for acked in 2..=9 {
        talk = ack(talk, Side::Secondary, 410, acked);
    }
    for acked in 2..=9 {
        talk = ack(talk, Side::Primary, 411 + u64::from(acked), acked);
    }
    let log = talk.run();
    for frame in 2..=9 {
        assert_released(&log, usize::try_from(frame).unwrap(), 411 + frame, "ack");
    }
}

#[test]
fn a_frame_of_a_forgotten_life_waits_for_a_checkpoint() {
    // The second life's SYN waits in front; behind it comes a late segment of the first life; a third life begins.
    let talk = Talk::new().both(1, ACK, 100, b"ab").p(2, SYN_ACK, 3_000_000, b"").p(3, ACK, 102, b"late");
    let talk = talk.p(4, SYN_ACK, 2_000_000_000, b"").s(5, SYN_ACK, 2_000_000_000, b"");
    let log = talk.s(6, SYN_ACK, 3_000_000, b"").run();
    assert_released(&log, 2, 6, "matched");
    let left = log.iter().find(|(_, verdict)| matches!(verdict, Verdict::Release { frame: 3, .. }));
    assert!(matches!(left, Some((_, Verdict::Release { why: "flush", .. }))), "{log:#?}");
}

#[test]
fn a_full_table_makes_room_when_only_the_secondary_wants_it() {
    let mut settings = settings(0);
    settings.shard.max_connections = 4;
    let mut talk = Talk(BySide::default());
    for flow in 0..4 {
        talk = talk.send(Side::Primary, 0, 80 + flow, ACK, 100, b"");
        talk = talk.send(Side::Secondary, 0, 80 + flow, ACK, 100, b"");
    }
    for at_ms in [1, 100, 200] {
        talk = talk.send(Side::Secondary, at_ms, 90, ACK, 100, b"");
    }
    let log = engine(settings, talk.0);
    assert_eq!(requests(&log), [(1, Why::Bound("max_connections"))]);
}

#[test]
fn a_connection_that_was_flushed_and_then_silent_expires() {
    let mut settings = settings(0);
    settings.shard.max_connections = 1;
    settings.lifecycle.min_interval = Duration::ZERO;
    // Its frame times out and is flushed; long after, another flow needs the room.
    let day_ms = 86_400_000;
    let talk = Talk(BySide::default()).p(0, ACK, 100, b"x");
    let talk = talk.send(Side::Primary, day_ms, 81, ACK, 100, b"y").send(
        Side::Secondary,
        day_ms,
        81,
        ACK,
        100,
        b"y",
    );
    let log = engine(settings, talk.0);
    assert!(requests(&log).iter().all(|(_, why)| *why != Why::Bound("max_connections")), "{log:#?}");
}

#[test]
fn a_first_ack_past_an_early_contradiction_does_not_leave() {
    let talk = Talk(BySide::default()).s(0, FIN, 100, b"a").s(1, ACK, 102, b"").s(2, ACK, 101, b"bc");
    let log = talk.p(3, ACK, 103, b"").run();
    assert!(matches!(requests(&log)[..], [(3, Why::Mismatch { .. })]), "{log:?}");
    assert_released(&log, 0, 8, "flush");
}

#[test]
fn a_hole_of_the_secondary_in_front_of_a_late_first_segment_holds_what_came_before() {
    let talk = Talk(BySide::default()).s(0, SYN_ACK, 7_000_000, b"").p(1, ACK, 110, b"klmnopqrst");
    let talk = talk.p(2, ACK, 100, b"abcdefghij").s(3, ACK, 100, b"ab").s(4, ACK, 101, b"b");
    let talk = talk.s(5, ACK, 104, b"efghij").s(6, ACK, 110, b"klmnopqrst");
    let mut settings = settings(100);
    settings.shard.compare.secondary_sequence = SecondarySequence::Translated;
    let log = engine(settings, talk.0);
    assert_released(&log, 0, 406, "flush");
    assert_released(&log, 1, 406, "flush");
}
