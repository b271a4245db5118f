//! Which windows leave: what the release rule says of a right edge, seen from outside.

use super::*;
use crate::compare::{AckPolicy, Field, IgnoredFields};

impl Rig {
    /// An ACK that offers this window. The usual one is 1,000.
    fn ack(&mut self, side: Side, ack: u32, window: u16) {
        let mut frame = Sent { flow: 1, seq: 1_010, ack, flags: ACK, payload: Vec::new() }.frame();
        frame[48..50].copy_from_slice(&window.to_be_bytes());
        self.send_frame(side, &frame);
    }

    fn under_way() -> Self {
        let mut rig = Self::new(8, 64, 64);
        for side in Side::BOTH {
            rig.data(side, 1, 1_000, 10);
        }
        rig.decided();
        rig
    }
}

#[test]
fn a_window_beyond_the_secondarys_waits_and_is_lowered() {
    let mut rig = Rig::under_way();
    rig.ack(Side::Primary, 1, 2_000);
    assert_eq!(rig.decided(), []);
    rig.pass(Duration::from_millis(20));
    assert_eq!((rig.decided().len(), rig.decisions.clamped), (1, 1));
    // As far as the secondary's, and no further.
    rig.ack(Side::Secondary, 1, 1_500);
    rig.ack(Side::Primary, 1, 1_500);
    assert_eq!((rig.decided().len(), rig.decisions.clamped), (2, 1));
}

#[test]
fn an_ack_that_may_run_ahead_takes_the_window_with_it() {
    for (policy, waits) in [(AckPolicy::Any, 0), (AckPolicy::Both, 1)] {
        let mut rig = Rig::under_way();
        rig.set(|settings| settings.ack_policy = policy);
        rig.ack(Side::Primary, 501, 1_000);
        assert_eq!(rig.shard.held_frames(Side::Primary), waits, "{policy:?}");
        assert_eq!(rig.decisions.clamped, 0);
    }
    // Its room is the secondary's all the same.
    let mut rig = Rig::under_way();
    rig.set(|settings| settings.ack_policy = AckPolicy::Any);
    rig.ack(Side::Primary, 501, 1_001);
    rig.pass(Duration::from_millis(20));
    assert_eq!((rig.decided().len(), rig.decisions.clamped), (1, 1));
}

/// A secondary that has offered nothing limits nothing.
#[test]
fn without_an_edge_of_the_secondary_a_window_stays() {
    let mut rig = Rig::new(8, 64, 64);
    rig.set(|settings| settings.ack_policy = AckPolicy::Any);
    rig.ack(Side::Primary, 1, 1_000);
    rig.ack(Side::Primary, 1, 2_000);
    rig.pass(Duration::from_millis(30));
    assert_eq!((rig.decided().len(), rig.decisions.clamped), (2, 0));
}

#[test]
fn an_ignored_window_stays() {
    let mut rig = Rig::under_way();
    rig.set(|settings| settings.ignored = IgnoredFields::NONE.with(Field::Window));
    rig.ack(Side::Primary, 1, 2_000);
    assert_eq!((rig.decided().len(), rig.decisions.clamped), (1, 0));
}
