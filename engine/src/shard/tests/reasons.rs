//! What a cause says: when, about which frame, and where both sides stood.

use super::*;
use crate::modes::QuarantineSettings;
use crate::verdict::{MismatchKind, SideState, StreamState};
use crate::wire::SeqNumber;
use crate::witness::{Role, Witness};

impl Rig {
    fn causes(&mut self) -> Vec<Cause> {
        let cause = |decision| match decision {
            Decision::Ask(cause) => Some(*cause),
            _ => None,
        };
        self.decided().into_iter().filter_map(cause).collect()
    }

    fn payload(&mut self, side: Side, seq: u32, payload: Vec<u8>) {
        self.send(side, &Sent { flow: 1, seq, ack: 1, flags: ACK, payload });
    }
}

#[test]
fn a_timeout_says_where_both_sides_stood() {
    let mut rig = Rig::new(8, 64, 64);
    rig.syn(Side::Primary, 1, 1_000);
    rig.syn(Side::Secondary, 1, 7_000_000);
    rig.data(Side::Primary, 1, 1_001, 10);
    rig.data(Side::Secondary, 1, 7_000_001, 4);
    rig.data(Side::Secondary, 1, 7_000_041, 4);
    rig.decided();
    let came = rig.now;
    rig.now.0 += 1_000;
    rig.data(Side::Primary, 1, 1_011, 10);
    rig.pass(Duration::from_millis(450));
    let [cause] = rig.causes()[..] else { panic!("one timeout") };
    assert_eq!((cause.reason, cause.at), (Reason::Timeout, rig.now));
    let Detail::Timeout { side, frame, waits_for, scene } = cause.detail else { panic!("{cause:?}") };
    assert_eq!((side, frame, waits_for), (Side::Primary, 1, WaitsFor::Secondary));
    let oldest_held_ns = rig.now.nanos_since(came);
    let state = |zero, next, beyond, held| SideState {
        stream: Some(StreamState { zero: SeqNumber(zero), next, beyond }),
        ack: Some(SeqNumber(1)),
        edge: Some(SeqNumber(1_001)),
        held,
        oldest_held_ns,
    };
    assert_eq!(scene.sides.primary, state(1_001, 20, 0, 2));
    assert_eq!(scene.sides.secondary, state(7_000_001, 4, 40, 1));
    assert_eq!(scene.rule, None);
}

#[test]
fn a_timeout_of_a_secondary_waits_for_the_primary() {
    let mut rig = Rig::new(8, 64, 64);
    rig.data(Side::Secondary, 1, 1_000, 10);
    rig.pass(Duration::from_millis(401));
    let [Cause { detail: Detail::Timeout { side, frame, waits_for, scene }, .. }] = rig.causes()[..] else {
        panic!("one timeout")
    };
    assert_eq!((side, frame, waits_for), (Side::Secondary, 0, WaitsFor::Primary));
    assert_eq!([scene.sides.primary.held, scene.sides.secondary.held], [0, 1]);
    assert_eq!(scene.sides.secondary.stream, None, "its place is not known");
}

/// Reported once an epoch, exactly when its time is over.
#[test]
fn a_timeout_comes_when_the_time_is_over_and_not_again() {
    let mut rig = Rig::new(8, 64, 64);
    rig.data(Side::Primary, 1, 1_000, 10);
    let over = rig.now + Duration::from_millis(400);
    assert_eq!(rig.shard.next_deadline(), Some(over));
    rig.now = Nanos(over.0 - 1);
    rig.pass(Duration::ZERO);
    assert_eq!(rig.causes(), []);
    rig.pass(Duration::from_nanos(1));
    assert_eq!(rig.causes().len(), 1);
    rig.data(Side::Primary, 1, 1_010, 10);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.causes(), []);
    rig.flush();
    rig.data(Side::Primary, 1, 1_020, 10);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.causes().len(), 1, "in the next epoch again");
}

#[test]
fn a_mismatch_names_both_frames_and_the_first_byte() {
    for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
        let mut rig = Rig::new(8, 64, 64);
        for side in Side::BOTH {
            rig.syn(side, 1, 1_000);
        }
        rig.decided();
        rig.payload(first, 1_001, vec![7; 10]);
        rig.now.0 += 500;
        rig.payload(second, 1_001, [vec![7; 6], vec![8; 4]].concat());
        let [cause] = rig.causes()[..] else { panic!("one mismatch") };
        assert_eq!((cause.reason, cause.at), (Reason::Mismatch, rig.now));
        let Detail::Mismatch { kind, offset, primary, secondary, .. } = cause.detail else { panic!() };
        assert_eq!((kind, offset, primary, secondary), (MismatchKind::Payload, 6, Some(1), Some(1)));
    }
}

/// What follows from a contradiction is written down once an epoch, and once more if what timed out turns out to differ.
#[test]
fn a_flow_is_written_down_once_an_epoch() {
    let written = |rig: &mut Rig| rig.shard.store.witness.as_mut().unwrap().take_records().len();
    let mut rig = Rig::new(8, 64, 64);
    rig.shard.set_witness(Witness::patient());
    rig.payload(Side::Primary, 1_000, vec![7; 10]);
    rig.pass(Duration::from_millis(401));
    rig.payload(Side::Secondary, 1_000, vec![8; 10]);
    rig.payload(Side::Primary, 1_010, vec![7; 10]);
    rig.payload(Side::Secondary, 1_010, vec![8; 10]);
    let reasons: Vec<_> = rig.causes().into_iter().map(|cause| cause.reason).collect();
    assert_eq!(reasons[..2], [Reason::Timeout, Reason::Mismatch]);
    rig.flush();
    assert_eq!(written(&mut rig), 2, "the timeout and the mismatch");
    rig.payload(Side::Primary, 1_020, vec![7; 10]);
    rig.payload(Side::Secondary, 1_020, vec![8; 10]);
    rig.pass(Duration::from_millis(401));
    rig.flush();
    assert_eq!(written(&mut rig), 1, "the mismatch; the timeout after it tells nothing new");
    for side in Side::BOTH {
        rig.payload(side, 1_030, vec![7; 10]);
    }
    rig.flush();
    assert_eq!(written(&mut rig), 0);
}

/// A timeout asks for a checkpoint also in a flow that is in quarantine for differing.
#[test]
fn only_mismatches_put_a_flow_aside() {
    let mut rig = Rig::new(8, 64, 64);
    rig.set(|settings| settings.quarantine = Some(QuarantineSettings { after: 1, epochs: 9 }));
    rig.data(Side::Primary, 1, 1_000, 10);
    rig.pass(Duration::from_millis(401));
    assert_eq!(rig.asked(), [Reason::Timeout]);
    rig.payload(Side::Secondary, 1_000, vec![8; 10]);
    assert_eq!(rig.asked(), [], "it differs, and is put aside");
}

/// A flow that timed out is watched: its next frames are written down as well, though they are ordinary ones.
#[test]
fn what_comes_after_a_timeout_is_written_down_too() {
    let mut rig = Rig::new(8, 64, 64);
    rig.shard.set_witness(Witness::patient());
    for side in Side::BOTH {
        rig.data(side, 1, 1_000, 10);
    }
    assert!(rig.is_in_step());
    rig.data(Side::Primary, 1, 1_010, 10);
    rig.pass(Duration::from_millis(401));
    for round in 0..3 {
        rig.data(Side::Secondary, 1, 1_010 + round * 10, 10);
        rig.data(Side::Primary, 1, 1_020 + round * 10, 10);
    }
    rig.flush();
    let records = rig.shard.store.witness.as_mut().unwrap().take_records();
    let roles: Vec<_> = records
        .iter()
        .map(|record| {
            let after = record.notes().iter().filter(|note| note.role == Role::After).count();
            (record.notes().len() - after, after)
        })
        .collect();
    assert_eq!(roles, [(1, 6)], "frames held then, frames after");
}
