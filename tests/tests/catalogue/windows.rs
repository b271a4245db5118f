//! Rule 4 and the SYN's window scale: cases 21 to 23 and 26. A window may promise no more than the SVM does; what is
//! lowered keeps its checksum in step, and an update that somebody may still repeat waits a grace.

use colo_tests::case::{Case, Time, WINDOW, ack, fin, on_both, seg, syn_ack, udp};

/// After a handshake both right edges are at `WINDOW`; 1 ms later the PVM offers 5,000 more.
fn raised(case: Case) -> Case {
    case.handshake(0.ms()).p(1.ms(), ack(0).window(65_000))
}

#[test]
fn case_21_window_update_followed_in_time() {
    on_both(|case| {
        let outcome = raised(case).s(10.ms(), ack(0).window(65_000)).run();
        outcome.quiet().released(1, 10.ms(), "ack").window(1, 65_000).checksum_right(1);
    });
}

#[test]
fn case_21_window_update_never_followed() {
    on_both(|case| {
        let outcome = raised(case).clamped(&[1]).run();
        outcome.quiet().released(1, 21.ms(), "ack").window(1, WINDOW).checksum_right(1);
    });
}

#[test]
fn case_21_window_update_followed_half_way() {
    on_both(|case| {
        let outcome = raised(case).clamped(&[1]).s(5.ms(), ack(0).window(62_000)).run();
        outcome.quiet().released(1, 21.ms(), "ack").window(1, 62_000).checksum_right(1);
    });
}

#[test]
fn case_21_window_update_followed_just_too_late() {
    // §7.12: a timer due at t runs before the frames of t.
    on_both(|case| {
        let outcome = raised(case).clamped(&[1]).s(21.ms(), ack(0).window(65_000)).run();
        outcome.quiet().released(1, 21.ms(), "ack").window(1, WINDOW);
    });
}

#[test]
fn case_21_window_update_the_secondary_was_first() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(0).window(65_000));
        // As much, less, and once more as much: none of it waits.
        let case = case.p(2.ms(), ack(0).window(65_000)).p(3.ms(), ack(0).window(100));
        let outcome = case.p(4.ms(), ack(0).window(65_000)).run();
        outcome.quiet().released(1, 2.ms(), "ack").released(2, 3.ms(), "ack").released(3, 4.ms(), "ack");
    });
}

#[test]
fn case_21_window_update_followed_by_data_of_the_secondary() {
    // Any segment of the SVM carries its edge.
    on_both(|case| {
        let outcome = raised(case).s(4.ms(), seg(0..10).window(65_000)).p(5.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 4.ms(), "ack").window(1, 65_000).released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_21_a_waiting_update_keeps_its_place() {
    // Released order is arrival order: the data behind the update is matched at 3 ms and waits for it.
    on_both(|case| {
        let case = raised(case).clamped(&[1]).p(2.ms(), seg(0..10)).s(3.ms(), seg(0..10));
        let outcome = case.run();
        outcome.quiet().released(1, 21.ms(), "ack").released(2, 21.ms(), "matched");
    });
}

#[test]
fn case_21_grace_is_a_setting() {
    on_both(|case| {
        let longer = raised(case.clone().set("window_grace", "50")).clamped(&[1]).run();
        longer.quiet().released(1, 51.ms(), "ack").window(1, WINDOW);
        let in_time = raised(case.clone().set("window_grace", "50")).s(40.ms(), ack(0).window(65_000)).run();
        in_time.quiet().released(1, 40.ms(), "ack").window(1, 65_000);
        let none = raised(case.set("window_grace", "0")).clamped(&[1]).run();
        none.quiet().released(1, 1.ms(), "ack").window(1, WINDOW);
    });
}

#[test]
fn case_21_policy_ignore_leaves_windows_alone() {
    on_both(|case| {
        let outcome = raised(case.set("window_policy", "ignore")).run();
        outcome.quiet().released(1, 1.ms(), "ack").window(1, 65_000);
    });
}

#[test]
fn case_21_an_update_is_flushed_as_it_came() {
    // The commit at 7 ms ends the grace: the SVM is the PVM's copy from then on, its edge included.
    on_both(|case| {
        let case = case.handshake_of(0, 0.ms()).handshake_of(1, 0.ms()).p(1.ms(), ack(0).window(65_000));
        let case = case.p(1.ms(), seg(0..10).flow(1)).s(2.ms(), seg(0..10).flow(1).with_byte(1, 0xFF));
        let outcome = case.p(30.ms(), ack(0).window(65_000)).run();
        outcome.mismatch(2.ms(), "payload").released(2, 7.ms(), "flush").window(2, 65_000);
        outcome.released(4, 30.ms(), "ack").window(4, 65_000);
    });
}

#[test]
fn case_22_data_leaves_clamped_at_once() {
    on_both(|case| {
        let case = case.clamped(&[1]).handshake(0.ms()).p(1.ms(), seg(0..10).window(65_000));
        let outcome = case.s(2.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, WINDOW).checksum_right(1);
    });
}

#[test]
fn case_22_secondary_first() {
    on_both(|case| {
        let case = case.clamped(&[1]).handshake(0.ms()).s(1.ms(), seg(0..10).window(61_000));
        let outcome = case.p(2.ms(), seg(0..10).window(65_000)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, 61_000).checksum_right(1);
    });
}

#[test]
fn case_22_equal_and_smaller_windows_are_left_alone() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).window(61_000));
        let case = case.s(2.ms(), seg(0..10).window(61_000)).p(3.ms(), seg(10..20).window(5_000));
        let outcome = case.s(4.ms(), seg(10..20).window(61_000)).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_22_the_highest_edge_counts() {
    // The SVM shrinks its window after it had offered more: the offer stands, an edge never moves left.
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(0).window(64_000)).s(2.ms(), ack(0).window(1_000));
        let outcome = case.p(3.ms(), ack(0).window(64_000)).run();
        outcome.quiet().released(1, 3.ms(), "ack").window(1, 64_000);
    });
}

#[test]
fn case_22_edges_are_compared_not_fields() {
    // The PVM acknowledges 1,000 less, so its larger field reaches just as far.
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(2_000).window(60_000));
        let outcome = case.clone().p(2.ms(), ack(1_000).window(61_000)).run();
        outcome.quiet().released(1, 2.ms(), "ack").window(1, 61_000);
        let beyond = case.clamped(&[1]).p(2.ms(), seg(0..10).ack(1_000).window(61_001));
        let outcome = beyond.s(3.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 3.ms(), "matched").window(1, 61_000).checksum_right(1);
    });
}

#[test]
fn case_22_edges_across_the_wrap() {
    // The edges lie beyond 2^32 and the acks before it.
    on_both(|case| {
        let case = case.client_isn(0xFFFF_FF00).clamped(&[1]).handshake(0.ms());
        let outcome = case.p(1.ms(), seg(0..10).window(65_000)).s(2.ms(), seg(0..10).window(62_000)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, 62_000).checksum_right(1);
    });
}

#[test]
fn case_22_scaled_windows() {
    on_both(|case| {
        let syn = || syn_ack().wscale(7);
        let case = case.clamped(&[1, 2]).p(0.ms(), syn()).s(0.ms(), syn());
        // 600 << 7 = 76,800 against 64,000. The windows of SYNs are never scaled.
        let case = case.p(1.ms(), seg(0..10).window(600)).s(2.ms(), seg(0..10).window(500));
        // The SVM's edge is 64,100 from here; 64,050 is the highest that an ack of 50 can name without passing it.
        let case = case.s(3.ms(), ack(100).window(500)).p(4.ms(), seg(10..20).ack(50).window(600));
        let outcome = case.s(5.ms(), seg(10..20).window(500)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, 500).checksum_right(1);
        outcome.released(2, 5.ms(), "matched").window(2, 500).checksum_right(2);
    });
}

#[test]
fn case_22_the_window_of_a_syn_is_clamped_too() {
    on_both(|case| {
        let case = case.clamped(&[0]).p(0.ms(), syn_ack().wscale(7).window(64_000));
        let outcome = case.s(1.ms(), syn_ack().wscale(7).window(61_000)).run();
        outcome.quiet().released(0, 1.ms(), "matched").window(0, 61_000).checksum_right(0);
    });
}

#[test]
fn case_22_a_fin_is_clamped_too() {
    on_both(|case| {
        let case = case.clamped(&[1]).handshake(0.ms()).p(1.ms(), fin().window(65_000)).s(2.ms(), fin());
        case.run().quiet().released(1, 2.ms(), "matched").window(1, WINDOW).checksum_right(1);
    });
}

#[test]
fn case_22_picked_up_in_the_middle() {
    // Nobody has seen the scales. They are the same on both sides, so raw fields are compared.
    on_both(|case| {
        let case = case.clamped(&[0]).p(0.ms(), seg(0..10).ack(5).window(600));
        let outcome = case.s(1.ms(), seg(0..10).ack(5).window(500)).run();
        outcome.quiet().released(0, 1.ms(), "matched").window(0, 500).checksum_right(0);
    });
}

#[test]
fn case_22_after_a_commit_the_edge_is_the_primarys() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).window(65_000));
        let case = case.s(2.ms(), seg(0..10).with_byte(1, 0xFF)).p(10.ms(), ack(0).window(65_000));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").released(1, 7.ms(), "flush").window(1, 65_000);
        outcome.released(2, 10.ms(), "ack").window(2, 65_000);
    });
}

#[test]
fn case_22_policy_ignore_leaves_windows_alone() {
    on_both(|case| {
        let case = case.set("window_policy", "ignore").handshake(0.ms());
        let outcome = case.p(1.ms(), seg(0..10).window(65_000)).s(2.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, 65_000);
    });
}

#[test]
fn case_22_datagrams_have_no_window() {
    // The bytes where TCP has its window differ in nothing here; they are payload and leave as they are.
    on_both(|case| {
        let text = b"sixteen bytes or more of a datagram";
        case.p(0.ms(), udp(text)).s(1.ms(), udp(text)).run().quiet().released(0, 1.ms(), "matched");
    });
}

/// The SVM's buffer is full at client byte 60,000; the PVM, quicker, has taken all and offers as much again.
fn zero_window(case: Case) -> Case {
    let case = case.handshake(0.ms()).s(1.ms(), ack(60_000).window(0));
    case.p(2.ms(), ack(60_000).window(60_000))
}

#[test]
fn case_23_secondary_zero_window() {
    on_both(|case| {
        let outcome = zero_window(case).clamped(&[1]).run();
        outcome.quiet().released(1, 22.ms(), "ack").window(1, 0).checksum_right(1);
    });
}

#[test]
fn case_23_the_next_frame_carries_the_opening() {
    on_both(|case| {
        let case = zero_window(case).clamped(&[1]).s(50.ms(), ack(60_000).window(60_000));
        let outcome = case.p(60.ms(), ack(60_000).window(60_000)).run();
        outcome.quiet().released(1, 22.ms(), "ack").window(1, 0);
        outcome.released(2, 60.ms(), "ack").window(2, 60_000).checksum_right(2);
    });
}

#[test]
fn case_23_never_beyond_the_secondarys_edge() {
    on_both(|case| {
        let case = zero_window(case).clamped(&[1, 2, 3]).s(50.ms(), ack(60_000).window(40_000));
        let case = case.p(60.ms(), seg(0..10).window(60_000)).s(61.ms(), seg(0..10).window(40_000));
        let outcome = case.p(70.ms(), ack(60_000).window(60_000)).run();
        outcome.quiet().released(1, 22.ms(), "ack").window(1, 0);
        outcome.released(2, 61.ms(), "matched").window(2, 40_000).checksum_right(2);
        outcome.released(3, 90.ms(), "ack").window(3, 40_000).checksum_right(3);
    });
}

#[test]
fn case_23_opens_within_the_grace() {
    on_both(|case| {
        let outcome = zero_window(case).s(12.ms(), ack(60_000).window(60_000)).run();
        outcome.quiet().released(1, 12.ms(), "ack").window(1, 60_000);
    });
}

#[test]
fn case_23_the_primary_closes_its_window() {
    // The PVM may promise less than the SVM: at once, as it is.
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(60_000).window(60_000));
        let outcome = case.p(2.ms(), ack(60_000).window(0)).run();
        outcome.quiet().released(1, 2.ms(), "ack").window(1, 0);
    });
}

/// SYN/ACKs with these scales, then ten bytes and windows of both.
fn scaled(case: Case, scales: (u8, u8), windows: (u16, u16)) -> Case {
    let case = case.p(0.ms(), syn_ack().wscale(scales.0)).s(1.ms(), syn_ack().wscale(scales.1));
    case.p(2.ms(), seg(0..10).window(windows.0)).s(3.ms(), seg(0..10).window(windows.1))
}

#[test]
fn case_26_window_scale_differs() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack().wscale(7)).s(1.ms(), syn_ack().wscale(8));
        let outcome = case.p(2.ms(), ack(0)).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0);
        outcome.detail("primary_frame", 0).detail("secondary_frame", 0).commits(&[6.ms()]);
        outcome.released(0, 6.ms(), "flush").released(1, 6.ms(), "flush");
    });
}

#[test]
fn case_26_window_scale_differs_secondary_first() {
    on_both(|case| {
        let case = case.s(0.ms(), syn_ack().wscale(8)).p(1.ms(), syn_ack().wscale(7));
        let outcome = case.run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0).released(0, 6.ms(), "flush");
    });
}

#[test]
fn case_26_window_scale_on_one_side_only() {
    on_both(|case| {
        let with = || syn_ack().wscale(7);
        let primary = case.clone().p(0.ms(), with()).s(1.ms(), syn_ack()).run();
        primary.mismatch(1.ms(), "syn-options").detail("offset", 0);
        let secondary = case.p(0.ms(), syn_ack()).s(1.ms(), with()).run();
        secondary.mismatch(1.ms(), "syn-options").detail("offset", 0);
    });
}

#[test]
fn case_26_equal_scales() {
    on_both(|case| {
        let outcome = scaled(case, (7, 7), (500, 500)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_26_ignored_and_each_scaled_by_its_own() {
    on_both(|case| {
        let case = case.set("syn_options", "ignore");
        // 800 << 7 and 400 << 8 are one window, 102,400.
        let equal = scaled(case.clone(), (7, 8), (800, 400)).run();
        equal.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched").window(1, 800);
        // 300 << 8 is 76,800, which the PVM spells 600.
        let lower = scaled(case.clone(), (7, 8), (800, 300)).clamped(&[1]).run();
        lower.quiet().released(1, 3.ms(), "matched").window(1, 600).checksum_right(1);
        // 699 << 7 is 89,472, which the PVM cannot say: 349 << 8 is 89,344.
        let odd = scaled(case, (8, 7), (800, 699)).clamped(&[1]).run();
        odd.quiet().released(1, 3.ms(), "matched").window(1, 349).checksum_right(1);
    });
}

#[test]
fn case_26_the_new_epoch_is_scaled_by_the_primarys() {
    // After the commit both are the PVM, whose scale is 7.
    on_both(|case| {
        let case = case.clamped(&[1]).p(0.ms(), syn_ack().wscale(7)).s(1.ms(), syn_ack().wscale(8));
        let case = case.p(10.ms(), seg(0..10).window(800)).s(11.ms(), seg(0..10).window(700));
        let outcome = case.run();
        outcome.mismatch(1.ms(), "syn-options").released(0, 6.ms(), "flush");
        outcome.released(1, 11.ms(), "matched").window(1, 700).checksum_right(1);
    });
}
