//! Rules over a shard's flows: what passes, what waits, what does not count, and what becomes of held frames when that
//! changes.

use std::sync::Arc;

use super::*;
use crate::policy::{ClassPolicies, PayloadMask, Rule};

fn range(offset: u32, length: u32) -> PayloadMask {
    let mut mask = PayloadMask::default();
    mask.add_range(offset, length).unwrap();
    mask
}

fn expression(text: &str) -> PayloadMask {
    let mut mask = PayloadMask::default();
    mask.add_expression(text).unwrap();
    mask
}

impl Rig {
    /// Puts rules in force; held frames follow.
    fn rule(&mut self, rules: Vec<Rule>) {
        let set = RuleSet::new(self.shard.settings.compare, ClassPolicies::default(), rules).unwrap();
        self.shard.replace_rules(Arc::new(set));
        while self.shard.has_rules_to_follow() {
            self.shard.follow_rules(usize::MAX, &mut self.decisions);
        }
    }

    fn mask(&mut self, mask: PayloadMask) {
        self.rule(vec![Rule { mask, ..Rule::default() }]);
    }

    fn act(&mut self, action: Action) {
        self.rule(vec![Rule { action, ..Rule::default() }]);
    }

    fn text(&mut self, side: Side, seq: u32, payload: &str) {
        self.send(side, &Sent { flow: 1, seq, ack: 1, flags: ACK, payload: payload.into() });
    }

    /// A UDP datagram (RFC 768) between the addresses of flow 0.
    fn udp(&mut self, side: Side, payload: &[u8]) {
        let mut frame = Sent { flow: 0, seq: 0, ack: 0, flags: 0, payload: Vec::new() }.frame();
        frame.truncate(42);
        frame[23] = 17;
        let length = u16::try_from(8 + payload.len()).unwrap();
        frame[16..18].copy_from_slice(&(20 + length).to_be_bytes());
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        frame[40..42].fill(0);
        frame.extend_from_slice(payload);
        self.send_frame(side, &frame);
    }

    fn forgiven(&self) -> Vec<u64> {
        self.shard.store.masks.forgiven().take(2).collect()
    }

    /// Where the sides differed.
    fn offsets(&mut self) -> Vec<i64> {
        let offset = |decision| match decision {
            Decision::Ask(cause) => match cause.detail {
                Detail::Mismatch { offset, .. } => Some(offset),
                _ => None,
            },
            _ => None,
        };
        self.decided().into_iter().filter_map(offset).collect()
    }
}

const MATCHED: [Decision; 2] =
    [Decision::Discard(0, Discard::Matched), Decision::Release(0, Release::Matched)];

#[test]
fn masked_bytes_of_a_stream_are_forgiven_and_counted_where_the_mask_is() {
    // "abcdefghij" from offset 0 on; what the mask covers may differ, the rest may not.
    for (mask, other, differs_at) in [
        (range(3, 4), "abcDEFGhij", None),
        (range(3, 4), "abcDEFGHij", Some(7)),
        (range(3, 4), "abCDEFGhij", Some(2)),
        (range(0, 1), "Abcdefghij", None),
        (range(9, 1), "abcdefghiJ", None),
        (expression("d.*g"), "abcdXYghij", None),
        (expression("d.*g"), "abcdXYghiJ", Some(9)),
    ] {
        for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
            let mut rig = Rig::new(8, 64, 64);
            rig.mask(mask.clone());
            rig.text(first, 1_000, "abcdefghij");
            rig.text(second, 1_000, other);
            match differs_at {
                None => {
                    assert_eq!(rig.decided().len(), 2, "{other}");
                    assert_eq!(rig.forgiven(), [1, 0], "{other}");
                    // What comes next is equal: nothing to forgive.
                    rig.text(first, 1_010, "klm");
                    rig.text(second, 1_010, "klm");
                    assert_eq!((rig.decided().len(), rig.forgiven()), (2, vec![1, 0]));
                }
                Some(at) => {
                    assert_eq!(rig.offsets(), [at], "{other}");
                    assert_eq!(rig.forgiven(), [0, 0], "{other}");
                }
            }
        }
    }
}

/// Datagrams are given time to meet; the mismatch is found when it is over, under the second rule.
#[test]
fn a_cause_says_when_and_under_which_rule() {
    let mut rig = Rig::new(8, 64, 64);
    let other = Rule { vlan: Some(9), ..Rule::default() };
    rig.rule(vec![other, Rule { mask: range(20, 1), ..Rule::default() }]);
    rig.udp(Side::Primary, b"one");
    rig.udp(Side::Secondary, b"two");
    rig.pass(Duration::from_millis(20));
    let [Decision::Ask(cause)] = &rig.decided()[..] else { panic!("one mismatch") };
    assert_eq!(cause.at, rig.now);
    let Detail::Mismatch { scene, .. } = cause.detail else { panic!("{cause:?}") };
    assert_eq!(scene.rule, Some(2));
}

/// The mask counts from where the stream begins, however it is cut.
#[test]
fn offsets_of_a_mask_count_through_all_segments() {
    let mut rig = Rig::new(8, 64, 64);
    rig.mask(range(13, 2));
    for side in Side::BOTH {
        rig.syn(side, 1, 999);
        rig.text(side, 1_000, "abcdefghij");
    }
    rig.text(Side::Primary, 1_010, "klmnopqrst");
    rig.text(Side::Secondary, 1_010, "klm");
    rig.decided();
    rig.text(Side::Secondary, 1_013, "NOp");
    assert_eq!((rig.offsets(), rig.forgiven()), (vec![], vec![1, 0]));
    rig.text(Side::Secondary, 1_016, "qrsT");
    assert_eq!(rig.offsets(), [19]);
}

#[test]
fn a_mask_is_its_rules_alone() {
    let masked: Rule = Rule { peer_ports: "1024".parse().unwrap(), mask: range(0, 10), ..Rule::default() };
    let other = Rule { mask: range(20, 1), ..Rule::default() };
    let mut rig = Rig::new(8, 64, 64);
    rig.rule(vec![masked, other]);
    for (flow, is_masked) in [(0, true), (1, false)] {
        for (side, byte) in [(Side::Primary, 1), (Side::Secondary, 2)] {
            rig.send(side, &Sent { flow, seq: 1_000, ack: 1, flags: ACK, payload: vec![byte; 5] });
        }
        let expected: &[i64] = if is_masked { &[] } else { &[0] };
        assert_eq!(rig.offsets(), expected, "flow {flow}");
    }
    assert_eq!(rig.forgiven(), [1, 0]);
}

#[test]
fn masked_bytes_of_datagrams_are_forgiven_but_no_length() {
    for mask in [range(2, 2), expression("c.")] {
        for (one, other, differs_at) in
            [("abcdef", "abcXef", None), ("abcdef", "abcXeF", Some(5)), ("abcdef", "abcXe", Some(5))]
        {
            let mut rig = Rig::new(8, 64, 64);
            rig.mask(mask.clone());
            rig.udp(Side::Primary, one.as_bytes());
            rig.udp(Side::Secondary, other.as_bytes());
            rig.pass(Duration::from_millis(30));
            if differs_at.is_none() {
                assert_eq!(rig.decided(), MATCHED, "{other}");
                assert_eq!(rig.forgiven(), [1, 0]);
            } else {
                assert_eq!(rig.offsets(), Vec::from_iter(differs_at), "{other}");
            }
        }
    }
}

/// Reordered datagrams find each other by what counts of them.
#[test]
fn masked_datagrams_in_another_order_find_their_partners() {
    for mask in [range(1, 1), expression("[0-9]")] {
        for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
            let mut rig = Rig::new(8, 64, 64);
            rig.mask(mask.clone());
            for text in ["a1", "b1", "c1"] {
                rig.udp(first, text.as_bytes());
            }
            for text in ["c2", "b2", "a2"] {
                rig.udp(second, text.as_bytes());
            }
            let decided = rig.decided();
            assert_eq!(decided.len(), 6, "{decided:?}");
            assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [0, 0]);
            rig.pass(Duration::from_millis(500));
            assert_eq!(rig.decided(), []);
        }
    }
}

#[test]
fn what_passes_needs_no_secondary() {
    let mut rig = Rig::new(8, 64, 64);
    rig.act(Action::Pass);
    rig.text(Side::Primary, 1_000, "abc");
    rig.text(Side::Secondary, 1_000, "xyz");
    assert_eq!(rig.decided(), [Decision::Release(0, Release::Pass), Decision::Discard(0, Discard::Pass)]);
}

#[test]
fn what_is_held_by_a_rule_waits_for_the_commit() {
    let mut rig = Rig::new(8, 64, 64);
    rig.act(Action::Hold);
    rig.text(Side::Primary, 1_000, "abc");
    rig.text(Side::Secondary, 1_000, "abc");
    assert_eq!(rig.decided(), [Decision::Discard(0, Discard::Pass)]);
    rig.pass(Duration::from_millis(500));
    let waits = |decision: &Decision| {
        matches!(decision, Decision::Ask(cause)
            if matches!(cause.detail, Detail::Timeout { waits_for: WaitsFor::Checkpoint, .. }))
    };
    assert!(rig.decided().iter().all(waits));
    rig.flush();
    assert_eq!(rig.decided(), [Decision::Release(0, Release::Flush)]);
}

/// Held frames of a flow that passes from now on leave in their order, and nothing of them is left.
#[test]
fn a_rule_that_lets_pass_lets_out_what_is_held() {
    let mut rig = Rig::new(8, 64, 64);
    for number in 0..3 {
        rig.text(Side::Primary, 1_000 + number * 6, "abc");
    }
    rig.text(Side::Secondary, 1_003, "def");
    rig.text(Side::Secondary, 1_009, "def");
    rig.decided();
    rig.act(Action::Pass);
    let mut decided = rig.decided();
    let released: Vec<_> = decided.extract_if(.., |one| matches!(one, Decision::Release(..))).collect();
    assert_eq!(released, [0, 1, 2].map(|frame| Decision::Release(frame, Release::Pass)));
    assert_eq!(decided, [0, 1].map(|frame| Decision::Discard(frame, Discard::Pass)));
    assert_eq!(rig.shard.used(), [0, 0, 0]);
}

/// Compared again: what a rule has held stays until the commit, and what comes waits behind it. A flow of which nothing is
/// held is compared at once.
#[test]
fn a_rule_that_compares_again_lets_nothing_overtake() {
    for is_held in [true, false] {
        let mut rig = Rig::new(8, 64, 64);
        for side in Side::BOTH {
            rig.text(side, 1_000, "abc");
        }
        rig.act(Action::Hold);
        if is_held {
            rig.text(Side::Primary, 1_003, "def");
        }
        rig.act(Action::Compare);
        rig.decided();
        for side in Side::BOTH {
            rig.text(side, 1_006, "ghi");
        }
        let released =
            rig.decided().iter().filter(|one| matches!(one, Decision::Release(_, Release::Matched))).count();
        assert_eq!(released, usize::from(!is_held));
        assert_eq!(rig.shard.held_frames(Side::Primary), 2 * usize::from(is_held));
    }
}

/// Datagrams that were held for their partners are found by nobody once a rule has other plans.
#[test]
fn datagrams_under_another_rule_are_forgotten() {
    let mut rig = Rig::new(8, 64, 64);
    for text in [b"a", b"b", b"c"] {
        rig.udp(Side::Primary, text);
    }
    // Looked for behind the oldest, so that all have a digest.
    rig.udp(Side::Secondary, b"b");
    rig.udp(Side::Secondary, b"x");
    rig.udp(Side::Secondary, b"y");
    assert_eq!(rig.decided(), [Decision::Discard(0, Discard::Matched)]);
    rig.act(Action::Hold);
    assert_eq!(rig.decided(), [1, 2].map(|frame| Decision::Discard(frame, Discard::Pass)));
    assert_eq!(rig.shard.held_frames(Side::Primary), 3);
    rig.flush();
    rig.decided();
    rig.act(Action::Compare);
    // What is remembered of them must not be taken for these.
    for text in [b"b", b"c", b"a"] {
        rig.udp(Side::Secondary, text);
    }
    for text in [b"c", b"a", b"b"] {
        rig.udp(Side::Primary, text);
    }
    let decided = rig.decided();
    assert_eq!(decided.len(), 6, "{decided:?}");
}

#[test]
fn the_same_rules_again_change_nothing() {
    let mut rig = Rig::new(8, 64, 64);
    rig.text(Side::Primary, 1_000, "abc");
    rig.rule(vec![Rule::default()]);
    assert_eq!(rig.decided(), []);
    rig.text(Side::Secondary, 1_000, "abc");
    assert_eq!(rig.decided().len(), 2, "still compared");
}
