//! Pairs whose halves are at hand together: the same decisions and the same state as if they came one after the other.

use proptest::prelude::*;

use super::short_way::{Guests, What, what};
use super::*;
use crate::shard::together::apart;

/// A frame that both guests send, or one of them.
#[derive(Clone, Debug)]
struct Turn {
    flow: u32,
    what: What,
    acks: BySide<u32>,
    differs: bool,
    who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Both,
    Primary,
    Secondary,
}

/// What happens one after the other.
#[derive(Clone, Debug)]
enum Step {
    /// What is at hand at the same time.
    Bursts(Vec<Turn>),
    Commit,
    Wait {
        millis: u64,
    },
}

fn turn() -> impl Strategy<Value = Turn> {
    let usual = (0_u32..9).prop_map(|len| What::Next { len });
    let what = prop_oneof![20 => usual, 1 => what()];
    let who = prop_oneof![20 => Just(Who::Both), 1 => Just(Who::Primary), 1 => Just(Who::Secondary)];
    let acks = prop_oneof![8 => (0_u32..4).prop_map(|ack| [ack, ack]), 1 => prop::array::uniform2(0_u32..6)];
    let differs = prop::bool::weighted(0.01);
    (0_u32..2, what, acks, differs, who).prop_map(|(flow, what, [primary, secondary], differs, who)| Turn {
        flow,
        what,
        acks: BySide { primary, secondary },
        differs,
        who,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => prop::collection::vec(turn(), 1..12).prop_map(Step::Bursts),
        1 => Just(Step::Commit),
        1 => (0_u64..700).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// Both guests open both flows and send something.
fn opened() -> Vec<Step> {
    let turns = [What::NewLife, What::Next { len: 5 }].into_iter().flat_map(|what| {
        let acks = BySide { primary: 0, secondary: 0 };
        (0..2).map(move |flow| Turn { flow, what: what.clone(), acks, differs: false, who: Who::Both })
    });
    turns.map(|turn| Step::Bursts(vec![turn])).collect()
}

impl Rig {
    /// What both have sent is at hand; what one has sent alone is not kept waiting. How many pairs met.
    fn handle_bursts(&mut self, bursts: &mut BySide<WorkBurst>) -> usize {
        let met = self.shard.handle_bursts(bursts, self.now, &mut self.decisions);
        for side in Side::BOTH {
            self.shard.handle_burst(side, &mut bursts[side], self.now, &mut self.decisions);
        }
        met
    }
}

/// All decisions, step by step, in no order within a step; the state at the end; and how many pairs met.
fn run(steps: &[Step], translated: bool) -> (Vec<Vec<String>>, String, usize) {
    let mut rig = Rig::new(8, 512, 16);
    let mut guests = Guests::new(translated);
    let mut bursts: BySide<WorkBurst> = BySide::default();
    let (mut decided, mut met) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Commit => {
                rig.flush();
                guests.commit();
            }
            Step::Wait { millis } => rig.pass(Duration::from_millis(*millis)),
            Step::Bursts(turns) => {
                for Turn { flow, what, acks, differs, who } in turns {
                    for (side, not) in [(Side::Primary, Who::Secondary), (Side::Secondary, Who::Primary)] {
                        if *who != not {
                            let differs = *differs && side == Side::Secondary;
                            let sent = guests.send(side, *flow, what, acks[side], differs);
                            rig.receive(side, &sent.frame(), &mut bursts[side]);
                        }
                    }
                }
                met += rig.handle_bursts(&mut bursts);
                rig.now.0 += 10_000;
            }
        }
        let mut step: Vec<_> = rig.decided().iter().map(|decision| format!("{decision:?}")).collect();
        step.sort_unstable();
        decided.push(step);
    }
    rig.write_lines_down();
    // Who was held for no time had a timer set: it comes up, and nothing is due.
    for index in 0..u32::try_from(rig.shard.table.len()).unwrap() {
        rig.shard.table.get_mut(index).unwrap().clear_alarm();
    }
    let connections: Vec<_> = rig.shard.table.iter().collect();
    let held =
        Side::BOTH.map(|side| rig.shard.held_ordinals(side).collect::<std::collections::BTreeSet<_>>());
    (decided, format!("{} {held:?}", without_slots(&format!("{connections:#?}"))), met)
}

/// A state but for the slots that hold things, which are given out again in another order.
fn without_slots(state: &str) -> String {
    let is_slot =
        |line: &&str| ["head: ", "tail: ", "root: "].iter().any(|slot| line.trim_start().starts_with(slot));
    state.lines().filter(|line| !is_slot(line)).collect::<Vec<_>>().join("\n")
}

proptest! {
    #[test]
    fn together_or_one_after_the_other_is_the_same(
        steps in prop::collection::vec(step(), 1..40),
        translated in any::<bool>(),
    ) {
        let steps = [opened(), steps].concat();
        let together = run(&steps, translated);
        let apart = apart::always(|| run(&steps, translated));
        for (at, (together, apart)) in together.0.iter().zip(&apart.0).enumerate() {
            prop_assert_eq!(together, apart, "step {}: {:?}", at, steps[at]);
        }
        prop_assert_eq!(together.1, apart.1);
    }
}

fn pair(flow: u32) -> Turn {
    let acks = BySide { primary: 1, secondary: 1 };
    Turn { flow, what: What::Next { len: 5 }, acks, differs: false, who: Who::Both }
}

#[test]
fn pairs_meet_and_nothing_is_held() {
    let steps = [opened(), vec![Step::Bursts((0..30).map(|n| pair(n % 2)).collect())]].concat();
    let (decided, state, met) = run(&steps, true);
    assert_eq!((met, decided.last().unwrap().len()), (30, 60));
    assert!(decided.iter().flatten().all(|decision| decision.contains("Matched")), "{decided:?}");
    assert!(state.ends_with("[{}, {}]"));
}

/// What was sent by one guest alone, or came much earlier, does not keep what follows from meeting.
#[test]
fn bursts_find_each_other_again() {
    let alone = |who| Turn { who, what: What::Next { len: 0 }, ..pair(0) };
    for who in [Who::Primary, Who::Secondary] {
        let turns: Vec<_> =
            [alone(who), alone(who)].into_iter().chain((0..30).map(|n| pair(n % 2))).collect();
        let (_, _, met) = run(&[opened(), vec![Step::Bursts(turns)]].concat(), true);
        assert!(met >= 27, "{met} with acknowledgments of {who:?} in front");
    }
    // The secondary's frames are seven behind, from the last burst on.
    let mut rig = Rig::new(8, 512, 64);
    let mut guests = Guests::new(true);
    let mut bursts: BySide<WorkBurst> = BySide::default();
    let mut met = 0;
    for (primaries, secondaries) in [(1, 1), (1, 1), (10, 3), (10, 10), (10, 17), (10, 10)] {
        for (side, count) in [(Side::Primary, primaries), (Side::Secondary, secondaries)] {
            for _ in 0..count {
                let sent = guests.send(side, 0, &What::Next { len: 5 }, 1, false);
                rig.receive(side, &sent.frame(), &mut bursts[side]);
            }
        }
        met = rig.handle_bursts(&mut bursts);
    }
    assert_eq!(met, 10);
    assert_eq!(Side::BOTH.map(|side| rig.shard.held_frames(side)), [0, 0]);
}

/// Nothing leaves that the secondary sent otherwise, or for which there was no room.
#[test]
fn what_differs_or_has_no_room_does_not_meet() {
    let differing = Turn { differs: true, ..pair(0) };
    let (decided, _, met) = run(&[opened(), vec![Step::Bursts(vec![differing, pair(0)])]].concat(), true);
    assert_eq!(met, 0);
    assert!(decided.last().unwrap().iter().any(|decision| decision.contains("Mismatch")), "{decided:?}");
}
