//! What a guest can take up, and what it leaves to others.

use super::*;

/// Half a life: SYN, bytes, and stretches of the secondary with gaps in front.
fn live(rig: &mut Rig, flow: u32, isn: u32) {
    let other_isn = isn ^ 0x5555_0000;
    rig.syn(Side::Primary, flow, isn);
    rig.syn(Side::Secondary, flow, other_isn);
    rig.data(Side::Primary, flow, isn.wrapping_add(1), 10);
    rig.data(Side::Secondary, flow, other_isn.wrapping_add(1), 10);
    for gap in 1..4 {
        rig.data(Side::Secondary, flow, other_isn.wrapping_add(1 + gap * 20), 5);
    }
}

#[test]
fn ports_reused_without_a_commit_leave_nothing_behind() {
    let mut rig = Rig::new(64, 256, 64);
    let mut most = [0; 3];
    for life in 0..100_000_u32 {
        live(&mut rig, 1, life.wrapping_mul(0x9e37_79b9));
        rig.now = rig.now + Duration::from_micros(50);
        for (most, used) in most.iter_mut().zip(rig.shard.used()) {
            *most = used.max(*most);
        }
        assert_eq!(rig.asked(), [], "life {life}");
    }
    assert!(most[0] > 0 && most[0] <= 8 && most[1] > 0 && most[1] <= 8, "stretches and gaps {most:?}");
    assert_eq!(most[2], 1, "former lives");
    // Two lives of which nothing stays held, and the connection is forgotten in time.
    for isn in [5, 70_000_000] {
        for side in Side::BOTH {
            rig.syn(side, 1, isn);
        }
        for side in Side::BOTH {
            rig.data(side, 1, isn + 1, 10);
        }
    }
    assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [0, 0]);
    rig.now = rig.now + Duration::from_hours(3);
    rig.syn(Side::Primary, 1, 5);
    assert_eq!(rig.shard.used(), [0, 0, 0]);
}

#[test]
fn a_former_life_is_forgotten_when_its_latecomers_have_had_their_time() {
    let mut rig = Rig::new(64, 256, 64);
    for isn in [1_000, 90_000_000] {
        rig.syn(Side::Primary, 1, isn);
        rig.syn(Side::Secondary, 1, isn);
    }
    assert_eq!(rig.shard.used()[2], 1);
    rig.now = rig.now + Duration::from_millis(1_001);
    rig.data(Side::Primary, 1, 90_000_001, 10);
    assert_eq!(rig.shard.used()[2], 0);
}

/// More connections than former lives are kept for: those of which nothing is held make room.
#[test]
fn many_connections_reuse_their_ports_at_once() {
    let mut rig = Rig::new(6_000, 32_768, 64);
    for isn in [1_000, 90_000_000, 180_000_000] {
        for flow in 0..6_000 {
            rig.syn(Side::Primary, flow, isn);
            rig.syn(Side::Secondary, flow, isn + 77);
        }
    }
    assert_eq!(rig.asked(), []);
    assert!((4_000..=4_096).contains(&rig.shard.used()[2]));
}

/// Single bytes at every second position, by either side.
#[test]
fn gaps_of_one_connection_leave_room_for_others() {
    for greedy in Side::BOTH {
        let mut rig = Rig::new(64, 1_024, 400);
        for flow in [1, 2] {
            rig.syn(Side::Primary, flow, 1_000);
            rig.syn(Side::Secondary, flow, 1_000);
        }
        assert_eq!(rig.asked(), []);
        for at in 0..390 {
            rig.data(greedy, 1, 1_003 + at * 2, 1);
        }
        // Half of the queue is the first reason to ask, the share of the gaps the second.
        let asked = rig.asked();
        assert!(!asked.is_empty() && asked.iter().all(|reason| *reason == Reason::QueueFull), "{asked:?}");
        let [_, gaps, _] = rig.shard.used();
        assert!(gaps <= 1_024 / 2, "{gaps} nodes");
        for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
            let start = if first == Side::Primary { 1_001 } else { 2_001 };
            for at in (0..100).rev() {
                rig.data(first, 2, start + at * 10, 10);
            }
            for at in 0..100 {
                rig.data(second, 2, start + at * 10, 10);
            }
        }
        let decided = rig.decided();
        assert_eq!(decided.len(), 400, "nobody is asked");
        let matched = decided.iter().filter(|decision| {
            matches!(
                decision,
                Decision::Release(_, Release::Matched) | Decision::Discard(_, Discard::Matched)
            )
        });
        assert_eq!(matched.count(), 400);
    }
}

#[test]
fn a_connection_beyond_its_share_of_gaps_is_followed_again_after_the_commit() {
    let mut rig = Rig::new(64, 1_024, 100);
    for side in Side::BOTH {
        rig.syn(side, 1, 1_000);
    }
    for at in 0..150 {
        rig.data(Side::Primary, 1, 1_003 + at * 2, 1);
    }
    for at in 0..300 {
        rig.data(Side::Secondary, 1, 1_001 + at, 1);
    }
    let released = |decided: &[Decision]| {
        decided.iter().filter(|decision| matches!(decision, Decision::Release(..))).count()
    };
    assert_eq!(released(&rig.decided()), 1, "the SYN: the rest waits for the commit");
    rig.flush();
    assert_eq!(released(&rig.decided()), 150);
    assert_eq!(rig.shard.used(), [0, 0, 0]);
    for side in Side::BOTH {
        rig.data(side, 1, 1_302, 10);
    }
    let expected = [Decision::Discard(301, Discard::Matched), Decision::Release(151, Release::Matched)];
    assert_eq!(rig.decided(), expected);
}

/// Resets of the secondary that wait are found behind a long queue.
#[test]
fn a_reset_finds_its_partner_behind_a_long_queue() {
    let mut rig = Rig::new(64, 2_048, 2_000);
    for side in Side::BOTH {
        rig.syn(side, 1, 1_000);
    }
    for at in 0..900 {
        rig.data(Side::Secondary, 1, 1_001 + at * 10, 10);
    }
    let reset = Sent { flow: 1, seq: 10_001, ack: 1, flags: RST | ACK, payload: Vec::new() };
    rig.send(Side::Secondary, &reset);
    assert_eq!(rig.shard.held_frames(Side::Secondary), 901);
    for at in 0..899 {
        rig.data(Side::Primary, 1, 1_001 + at * 10, 10);
    }
    rig.data(Side::Primary, 1, 9_991, 10);
    rig.send(Side::Primary, &reset);
    assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [0, 0]);
    assert_eq!(rig.asked(), []);
}

/// Case 89: the table is full of half-open connections, and live ones go on.
#[test]
fn a_syn_flood_leaves_live_connections_alone() {
    let mut rig = Rig::new(1_024, 66_000, 64);
    for flow in 0..8 {
        for side in Side::BOTH {
            rig.syn(side, flow, 1_000);
        }
    }
    rig.decided();
    for attempt in 0..65_536_u32 {
        for side in Side::BOTH {
            rig.syn(side, 1_000 + attempt, attempt.wrapping_mul(0x9e37_79b9));
        }
        if attempt % 4_096 == 0 {
            rig.now = rig.now + Duration::from_millis(1);
        }
    }
    assert_eq!(rig.asked(), [Reason::TableFull], "asked once");
    assert_eq!(rig.shard.connections(), 1_024);
    for flow in 0..8 {
        for side in Side::BOTH {
            rig.data(side, flow, 1_001, 10);
        }
        let decided = rig.decided();
        assert!(
            matches!(
                decided[..],
                [Decision::Discard(_, Discard::Matched), Decision::Release(_, Release::Matched)]
            ),
            "{decided:?}"
        );
    }
    rig.flush();
    assert_eq!(rig.shard.held_frames(Side::Primary), 0);
    assert!(rig.shard.connections() < 1_024, "the commit makes room");
}

/// Case 89: each flow has a timer of its own, all due at once.
#[test]
fn all_flows_time_out_at_once_and_each_once() {
    const FLOWS: u32 = 65_536;
    let mut rig = Rig::new(65_536, 65_536, 64);
    for flow in 0..FLOWS {
        rig.data(Side::Primary, flow, 1_000, 10);
        rig.now.0 += 100;
    }
    rig.decided();
    rig.pass(Duration::from_secs(1));
    let asked = rig.asked();
    assert_eq!(asked.len(), 65_536);
    assert!(asked.iter().all(|reason| *reason == Reason::Timeout));
    assert_eq!(rig.shard.next_deadline(), None);
}
