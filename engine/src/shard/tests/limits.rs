//! Where a bound lies exactly: at the last frame or nanosecond within it nothing happens, with the next one it does.

use super::*;
use crate::compare::Worth;
use crate::modes::QuarantineSettings;

/// Whether a connection's time is over.
type IsOver = fn(&Connection, &CompareSettings, Nanos) -> bool;

impl Rig {
    fn matched(&mut self, flow: u32, seq: u32, len: usize) {
        for side in Side::BOTH {
            self.data(side, flow, seq, len);
        }
    }

    fn both(&mut self, flags: u8, seq: u32) {
        for side in Side::BOTH {
            self.send(side, &Sent { flow: 1, seq, ack: 1, flags, payload: Vec::new() });
        }
    }

    fn the_connection(&self) -> &Connection {
        self.shard.table.iter().next().unwrap().1
    }

    fn send_without_room(&mut self, seq: u32) {
        let sent = Sent { flow: 1, seq, ack: 1, flags: ACK, payload: vec![7; 10] };
        let frame = self.decisions.pools.secondary.frame_from(&sent.frame()).unwrap();
        let work = Work::receive(frame, &self.hasher, Budget::Exhausted);
        self.shard.handle(Side::Secondary, work, self.now, &mut self.decisions);
    }
}

#[test]
fn a_queue_asks_once_when_half_of_it_is_full() {
    for side in Side::BOTH {
        for (max_queue_size, half) in [(64, 32), (65, 32), (7, 3), (2, 1), (1, 1)] {
            let mut rig = Rig::new(8, 256, max_queue_size);
            for held in 1..=max_queue_size {
                rig.data(side, 1, 1_000 + held * 10, 10);
                let expected: &[Reason] = if held == half { &[Reason::QueueFull] } else { &[] };
                assert_eq!(rig.asked(), expected, "{held} of {max_queue_size}, {side:?}");
            }
        }
    }
}

/// The patience with an idle connection, and how long it is remembered at all (RFC 5382 REQ-5).
#[test]
fn a_connection_is_forgotten_when_its_time_is_over_and_not_before() {
    const SECOND: Duration = Duration::from_secs(1);
    const HOURS: Duration = Duration::from_mins(124);
    const FIN_ACK: u8 = FIN | ACK;
    const RST_ACK: u8 = RST | ACK;
    let silent: fn(&mut Rig) = |_| {};
    let cases = [
        (silent, Worth::Embryonic, Duration::from_mins(1), HOURS),
        (|rig| rig.matched(1, 1_001, 10), Worth::Open, HOURS, HOURS),
        (|rig| rig.data(Side::Primary, 1, 1_001, 0), Worth::Embryonic, Duration::from_mins(1), HOURS),
        (|rig| rig.both(FIN_ACK, 1_001), Worth::Closed, SECOND, Duration::from_mins(4)),
        (|rig| rig.both(RST_ACK, 1_001), Worth::Closed, SECOND, SECOND),
    ];
    for (number, (what_follows, worth, patience, lifetime)) in cases.into_iter().enumerate() {
        let mut rig = Rig::new(8, 64, 64);
        rig.both(SYN | ACK, 1_000);
        what_follows(&mut rig);
        let settings = rig.shard.settings.compare;
        let start = rig.now;
        let connection = rig.the_connection();
        assert_eq!(connection.worth(), worth, "case {number}");
        let asked: [(IsOver, Duration); 2] =
            [(Connection::is_dispensable, patience), (Connection::is_expired, lifetime)];
        for (is_over, limit) in asked {
            let [last, next] = [start + limit, start + (limit + Duration::from_nanos(1))];
            assert!(!is_over(connection, &settings, last), "case {number}, {limit:?}");
            assert!(is_over(connection, &settings, next), "case {number}, {limit:?}");
        }
    }
}

#[test]
fn a_long_timeout_prolongs_the_time_after_a_reset() {
    let mut rig = Rig::new(8, 64, 64);
    rig.both(SYN | ACK, 1_000);
    rig.both(RST | ACK, 1_001);
    let compare_timeout = Duration::from_secs(2);
    let settings = CompareSettings { compare_timeout, ..CompareSettings::default() };
    let connection = rig.the_connection();
    assert_eq!(connection.lifetime(&settings), compare_timeout);
    assert!(!connection.is_dispensable(&settings, rig.now + compare_timeout));
}

#[test]
fn a_connection_with_held_frames_is_never_forgotten() {
    for side in Side::BOTH {
        let mut rig = Rig::new(8, 64, 64);
        rig.data(side, 1, 1_000, 10);
        let (settings, later) = (rig.shard.settings.compare, rig.now + Duration::from_hours(24));
        assert!(!rig.the_connection().is_expired(&settings, later));
        assert!(!rig.the_connection().is_dispensable(&settings, later));
    }
}

#[test]
fn what_passes_is_remembered_for_three_minutes() {
    let mut rig = Rig::new(8, 64, 64);
    rig.matched(1, 1_000, 10);
    rig.shard.set_conduct(Conduct::Pass, &mut rig.decisions);
    rig.matched(1, 1_010, 10);
    assert_eq!(rig.the_connection().lifetime(&rig.shard.settings.compare), Duration::from_mins(3));
}

/// A secondary's frame without room: its flow has a hole and cannot be compared until the commit.
#[test]
fn a_frame_without_room_ends_the_comparison_of_its_flow() {
    let mut rig = Rig::new(8, 64, 64);
    rig.matched(1, 1_000, 10);
    rig.decided();
    rig.send_without_room(1_010);
    assert_eq!(rig.asked(), [Reason::QueueFull]);
    rig.data(Side::Secondary, 1, 1_020, 10);
    rig.data(Side::Primary, 1, 1_010, 10);
    rig.send_without_room(1_030);
    let late = |decided: Vec<Decision>| {
        decided.iter().all(|decision| matches!(decision, Decision::Discard(_, Discard::OverBudget)))
    };
    assert!(late(rig.decided()), "asked once, nothing released");
    assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [1, 0]);
    rig.flush();
    rig.decided();
    rig.matched(1, 1_020, 10);
    assert!(matches!(rig.decided().last(), Some(Decision::Release(_, Release::Matched))));
}

#[test]
fn a_frame_without_room_is_no_loss_to_a_flow_that_passes_or_is_held() {
    for conduct in [Conduct::Pass, Conduct::Hold] {
        let mut rig = Rig::new(8, 64, 64);
        rig.matched(1, 1_000, 10);
        rig.shard.set_conduct(conduct, &mut rig.decisions);
        rig.decided();
        rig.send_without_room(1_010);
        assert_eq!(rig.decided(), [Decision::Discard(0, Discard::Pass)], "{conduct:?}");
    }
}

/// While all is held for a checkpoint, a timeout says nothing that is not known.
#[test]
fn what_is_held_on_purpose_is_not_overdue() {
    let mut rig = Rig::new(8, 64, 64);
    rig.matched(1, 1_000, 10);
    rig.shard.set_conduct(Conduct::Hold, &mut rig.decisions);
    rig.data(Side::Primary, 1, 1_010, 10);
    rig.decided();
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.decided(), []);
    assert_eq!(rig.shard.next_deadline(), None);
}

/// One strike: the flow is put aside for two epochs, and asks for nothing; then it is compared again.
#[test]
fn a_flow_in_quarantine_stays_there_for_its_epochs() {
    let mut rig = Rig::new(8, 64, 64);
    rig.set(|settings| settings.quarantine = Some(QuarantineSettings { after: 1, epochs: 2 }));
    rig.matched(1, 1_000, 10);
    rig.data(Side::Primary, 1, 1_010, 10);
    rig.send(Side::Secondary, &Sent { flow: 1, seq: 1_010, ack: 1, flags: ACK, payload: vec![8; 10] });
    assert_eq!(rig.asked(), []);
    rig.flush();
    for (epoch, is_compared) in [false, true, true].into_iter().enumerate() {
        rig.decided();
        rig.matched(1, 1_020, 10);
        let held = rig.shard.held_frames(Side::Primary);
        assert_eq!(held, usize::from(!is_compared), "epoch {epoch}");
        assert_eq!(rig.asked(), []);
        rig.flush();
    }
}

/// In step as well as out of it.
#[test]
fn a_secondarys_queue_that_is_full_takes_no_more() {
    let mut rig = Rig::new(8, 64, 4);
    rig.matched(1, 1_000, 10);
    assert!(rig.is_in_step());
    for frame in 0..4 {
        rig.data(Side::Secondary, 1, 1_010 + frame * 10, 10);
    }
    rig.decided();
    rig.data(Side::Secondary, 1, 1_050, 10);
    assert_eq!(rig.shard.held_frames(Side::Secondary), 4);
    assert_eq!(rig.decided().last(), Some(&Decision::Discard(5, Discard::OverBudget)));
}

/// What stood in line went with the flush.
#[test]
fn nothing_stands_in_line_after_a_commit() {
    for side in Side::BOTH {
        let mut rig = Rig::new(8, 64, 64);
        rig.matched(1, 1_000, 10);
        rig.data(side, 1, 1_010, 10);
        rig.data(side, 1, 1_020, 10);
        rig.flush();
        rig.decided();
        let next = if side == Side::Primary { 1_030 } else { 1_010 };
        for round in 0..3 {
            rig.matched(1, next + round * 10, 10);
            rig.the_connection().assert_lines(&rig.shard.store);
        }
        assert_eq!(rig.decided().len(), 6);
        assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [0, 0]);
    }
}
