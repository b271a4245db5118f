//! §7.6, positions already released: bytes are compared only while they are held. And what follows from it.

use colo_tests::case::{Time, on_both, seg};

#[test]
fn fine_point_06_released_positions_are_judged_by_position() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
        let case = case.p(3.ms(), seg(0..10).with_byte(4, 0xFF)).s(4.ms(), seg(0..10).with_byte(4, 0xEE));
        let outcome = case.run();
        outcome.quiet().released(2, 3.ms(), "matched").dropped(2, 4.ms(), "duplicate|stale|matched");
    });
}

#[test]
fn fine_point_06_the_new_part_of_a_retransmission_is_compared() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10)).p(3.ms(), seg(0..20));
        let outcome = case.s(4.ms(), seg(5..20).with_byte(6, 0xFF).with_byte(12, 0xFE)).run();
        // Position 6 has left; position 12 is held and differs.
        outcome.mismatch(4.ms(), "payload").detail("offset", 12).released(2, 9.ms(), "flush");
    });
}
