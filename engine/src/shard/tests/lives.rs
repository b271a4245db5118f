//! Lives of a connection, seen from outside: what belongs to which, and what is remembered while nobody follows.

use super::*;
use crate::compare::SecondarySequence;

impl Rig {
    fn answer(&mut self, side: Side, seq: u32, ack: u32) {
        self.send(side, &Sent { flow: 1, seq, ack, flags: SYN | ACK, payload: Vec::new() });
    }

    /// Bytes that say where in the stream they stand.
    fn counted(&mut self, side: Side, seq: u32, ack: u32, offsets: std::ops::Range<u8>) {
        self.send(side, &Sent { flow: 1, seq, ack, flags: ACK, payload: offsets.collect() });
    }
}

/// The connection is held meanwhile, and goes on where nobody saw it begin: what is known of the SYNs tells how the secondary
/// counts.
#[test]
fn syns_that_are_only_overheard_tell_how_the_secondary_counts() {
    // The SYNs of the new life, if any, and how the secondary counts afterwards: its number of the byte 10.
    let new = (50_000, 5_000);
    for (syns, primary, secondary) in [
        // None: as before.
        (&[][..], 1_001, 7_000_011),
        // Both answer the same client: each in its own numbers.
        (&[(Side::Primary, new), (Side::Secondary, (90_000_000, 5_000))], 50_001, 90_000_011),
        (&[(Side::Secondary, (90_000_000, 5_000)), (Side::Primary, new)], 50_001, 90_000_011),
        // The secondary's answers another client, or is missing: the copy has the primary's numbers.
        (&[(Side::Primary, new), (Side::Secondary, (90_000_000, 5_001))], 50_001, 50_011),
        (&[(Side::Primary, new)], 50_001, 50_011),
    ] {
        let mut rig = Rig::new(8, 64, 64);
        rig.set(|settings| settings.secondary_sequence = SecondarySequence::Raw);
        rig.answer(Side::Primary, 1_000, 1);
        rig.answer(Side::Secondary, 7_000_000, 1);
        rig.shard.set_conduct(Conduct::Hold, &mut rig.decisions);
        for &(side, (seq, ack)) in syns {
            rig.answer(side, seq, ack);
        }
        // Anything of it, so that it is under the conduct.
        rig.data(Side::Secondary, 1, 3, 1);
        rig.flush();
        rig.shard.set_conduct(Conduct::Compare, &mut rig.decisions);
        rig.decided();
        rig.counted(Side::Primary, primary, 1, 0..20);
        rig.counted(Side::Secondary, secondary, 1, 10..20);
        rig.counted(Side::Secondary, secondary - 10, 1, 0..10);
        let decided = rig.decided();
        let released = decided.iter().filter(|one| matches!(one, Decision::Release(_, Release::Matched)));
        assert_eq!(released.count(), 1, "{syns:?}: {decided:?}");
        assert_eq!(decided.len(), 3, "{syns:?}: {decided:?}");
    }
}

/// As long as a former life is remembered, segments are asked which life they belong to.
#[test]
fn the_short_way_is_for_connections_with_one_life() {
    let mut rig = Rig::new(8, 64, 64);
    for isn in [1_000, 90_000_000] {
        for side in Side::BOTH {
            rig.syn(side, 1, isn);
        }
        for side in Side::BOTH {
            rig.data(side, 1, isn + 1, 10);
        }
    }
    assert!(rig.shard.used()[2] == 1 && !rig.is_in_step());
    rig.now = rig.now + Duration::from_millis(1_001);
    for side in Side::BOTH {
        rig.data(side, 1, 90_000_011, 10);
    }
    assert!(rig.shard.used()[2] == 0 && rig.is_in_step());
}

#[test]
fn an_ack_from_nowhere_near_the_stream_waits() {
    let mut rig = Rig::new(8, 64, 64);
    for side in Side::BOTH {
        rig.syn(side, 1, 1_000);
    }
    rig.decided();
    rig.data(Side::Primary, 1, 1_001 + (2 << 20), 0);
    assert_eq!((rig.decided(), rig.shard.held_frames(Side::Primary)), (vec![], 1));
}

/// Its data came before anything that tells where it belongs. The primary's SYN does not, if the numbers are far apart.
#[test]
fn early_data_of_the_secondary_waits_for_its_syn() {
    let mut rig = Rig::new(8, 64, 64);
    rig.data(Side::Secondary, 1, 7_000_001, 10);
    rig.syn(Side::Primary, 1, 1_000);
    assert_eq!((rig.decided(), rig.shard.held_frames(Side::Secondary)), (vec![], 1));
    rig.data(Side::Primary, 1, 1_001, 10);
    rig.syn(Side::Secondary, 1, 7_000_000);
    rig.data(Side::Secondary, 1, 7_000_001, 10);
    let released = rig.decided().into_iter().filter(|one| matches!(one, Decision::Release(..))).count();
    assert_eq!((released, rig.shard.held_frames(Side::Primary)), (2, 0));
}

#[test]
fn a_syn_that_comes_too_late_to_say_anything_is_dropped() {
    let mut rig = Rig::new(8, 64, 64);
    rig.data(Side::Primary, 1, 1_001, 10);
    rig.syn(Side::Secondary, 1, 7_000_000);
    assert_eq!(rig.decided(), [Decision::Discard(0, Discard::Stale)]);
}

/// Resets that answer each other say nothing of data that the primary may still bring: what the secondary sent stays and is
/// compared.
#[test]
fn a_reset_that_is_answered_takes_no_data_with_it() {
    let mut rig = Rig::new(8, 64, 64);
    for side in Side::BOTH {
        rig.syn(side, 1, 1_000);
    }
    rig.data(Side::Secondary, 1, 1_001, 10);
    let reset = Sent { flow: 1, seq: 1_011, ack: 1, flags: RST | ACK, payload: Vec::new() };
    for side in [Side::Secondary, Side::Primary] {
        rig.send(side, &reset);
    }
    assert_eq!(rig.shard.held_frames(Side::Secondary), 1, "the data");
    rig.decided();
    rig.send(Side::Primary, &Sent { flow: 1, seq: 1_001, ack: 1, flags: ACK, payload: vec![8; 10] });
    assert!(matches!(&rig.decided()[..], [Decision::Ask(cause)] if cause.reason == Reason::Mismatch));
}

/// The table need not be full for what is over to be forgotten; what is held, or may go on, stays.
#[test]
fn connections_that_are_over_are_forgotten_without_need() {
    let mut rig = Rig::new(64, 64, 64);
    for flow in 0..40 {
        rig.data(Side::Primary, flow, 1_000, 4);
        if flow != 5 {
            rig.data(Side::Secondary, flow, 1_000, 4);
        }
    }
    rig.send(Side::Primary, &Sent { flow: 7, seq: 1_004, ack: 1, flags: RST | ACK, payload: Vec::new() });
    rig.send(Side::Secondary, &Sent { flow: 7, seq: 1_004, ack: 1, flags: RST | ACK, payload: Vec::new() });
    let mut known_after = |time: Duration| {
        rig.now = rig.now + time;
        for _ in 0..3 {
            rig.shard.forget_expired(rig.now);
        }
        rig.shard.connections()
    };
    assert_eq!(known_after(Duration::from_millis(500)), 40);
    assert_eq!(known_after(Duration::from_secs(1)), 39, "a reset was seen on both sides");
    assert_eq!(known_after(Duration::from_hours(3)), 1, "one is held");
}
