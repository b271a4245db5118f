//! The short way for ordinary segments against the long way for all: the same decisions, the same state.

use proptest::prelude::*;

use super::*;
use crate::compare::short_way;

/// One step of a made-up run. Positions count from the start of a stream.
#[derive(Clone, Debug)]
enum Step {
    Send { side: Side, flow: u32, what: What, ack: u32, differs: bool },
    Commit,
    Wait { millis: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// What comes next.
    Next {
        len: u32,
    },
    /// Anything near.
    At {
        start: u32,
        len: u32,
    },
    Event {
        flags: u8,
    },
    NewLife,
}

pub(super) fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        12 => (0_u32..9).prop_map(|len| What::Next { len }),
        4 => (0_u32..60, 1_u32..20).prop_map(|(start, len)| What::At { start, len }),
        1 => prop_oneof![Just(FIN | ACK), Just(RST), Just(RST | ACK)].prop_map(|flags| What::Event { flags }),
        1 => Just(What::NewLife),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Primary), Just(Side::Secondary)];
    let differs = prop::bool::weighted(0.01);
    prop_oneof![
        30 => (side, 0_u32..2, what(), 0_u32..6, differs)
            .prop_map(|(side, flow, what, ack, differs)| Step::Send { side, flow, what, ack, differs }),
        1 => Just(Step::Commit),
        1 => (0_u64..700).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// Traffic that goes on as it should, but for a step in fifty: most of it takes the short way, and much stands in line.
fn calm_step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Primary), Just(Side::Secondary)];
    let next = (side, 0_u32..2, 0_u32..9, 0_u32..2).prop_map(|(side, flow, len, ack)| Step::Send {
        side,
        flow,
        what: What::Next { len },
        ack,
        differs: false,
    });
    prop_oneof![50 => next, 1 => step()]
}

/// Both sides open both flows, and the connections are in step.
fn opened() -> Vec<Step> {
    let open = |what: What| {
        [Side::Primary, Side::Secondary].into_iter().flat_map(move |side| {
            let what = what.clone();
            (0..2).map(move |flow| Step::Send { side, flow, what: what.clone(), ack: 0, differs: false })
        })
    };
    open(What::NewLife).chain(open(What::Next { len: 5 })).collect()
}

/// A guest's idea of one flow.
#[derive(Clone, Copy)]
struct Guest {
    isn: u32,
    next: u32,
    lives: u32,
}

/// Both guests' ideas of both flows.
pub(super) struct Guests(BySide<[Guest; 2]>);

impl Guests {
    pub(super) fn new(translated: bool) -> Self {
        let start = |isn: u32| [Guest { isn, next: 0, lives: 0 }; 2];
        Self(BySide {
            primary: start(u32::MAX - 30),
            secondary: start(if translated { u32::MAX - 30 } else { 77 }),
        })
    }

    /// The secondary becomes a copy of the primary.
    pub(super) fn commit(&mut self) {
        self.0.secondary = self.0.primary;
    }

    pub(super) fn send(&mut self, side: Side, flow: u32, what: &What, ack: u32, differs: bool) -> Sent {
        let guest = &mut self.0[side][usize::try_from(flow).unwrap()];
        let (flags, at, len) = match what {
            What::NewLife => {
                guest.lives += 1;
                guest.isn = guest.isn.wrapping_add(0x1234_5678);
                guest.next = 0;
                (SYN | ACK, 0, 0)
            }
            What::Next { len } => (ACK, guest.next, *len),
            What::At { start, len } => (ACK, *start, *len),
            What::Event { flags } => (*flags, guest.next, 0),
        };
        guest.next = guest.next.max(at + len);
        let seq = guest.isn.wrapping_add(at).wrapping_add(u32::from(flags & SYN == 0));
        let mut payload: Vec<u8> =
            (at..at + len).map(|at| u8::try_from((at + guest.lives) % 251).unwrap()).collect();
        if differs && let Some(byte) = payload.last_mut() {
            *byte ^= 0x80;
        }
        Sent { flow, seq, ack: 100 + ack, flags, payload }
    }
}

impl Rig {
    /// What the short way knows without writing it down is written down: how else to compare it with the long way's?
    pub(super) fn write_lines_down(&mut self) {
        let Shard { table, store, epoch, .. } = &mut self.shard;
        for index in 0..u32::try_from(table.len()).unwrap() {
            if let Some(connection) = table.get_mut(index) {
                connection.refresh(*epoch);
                connection.break_lines(store, &mut self.decisions);
            }
        }
    }
}

/// All decisions, step by step, and the state at the end.
fn run(steps: &[Step], translated: bool) -> (Vec<Vec<Decision>>, String) {
    let mut rig = Rig::new(8, 512, 16);
    let mut guests = Guests::new(translated);
    let mut decided = Vec::new();
    for step in steps {
        match step {
            Step::Commit => {
                rig.flush();
                guests.commit();
            }
            Step::Wait { millis } => rig.pass(Duration::from_millis(*millis)),
            Step::Send { side, flow, what, ack, differs } => {
                let sent = guests.send(*side, *flow, what, *ack, *differs);
                rig.send(*side, &sent);
                rig.now.0 += 10_000;
            }
        }
        decided.push(rig.decided());
        for (_, connection) in rig.shard.table.iter().filter(|(_, one)| one.epoch() == rig.shard.epoch) {
            connection.assert_lines(&rig.shard.store);
        }
    }
    rig.write_lines_down();
    let connections: Vec<_> = rig.shard.table.iter().collect();
    let held = Side::BOTH.map(|side| rig.shard.held_ordinals(side).collect::<Vec<_>>());
    (decided, format!("{connections:#?} {held:?} {:?}", rig.shard.next_deadline()))
}

proptest! {
    #[test]
    fn the_short_way_decides_what_the_long_way_decides(
        steps in prop::collection::vec(step(), 1..120),
        translated in any::<bool>(),
    ) {
        assert_same_both_ways(&steps, translated);
    }

    #[test]
    fn the_short_way_of_calm_traffic_decides_what_the_long_way_decides(
        steps in prop::collection::vec(calm_step(), 1..120),
        translated in any::<bool>(),
    ) {
        assert_same_both_ways(&[opened(), steps].concat(), translated);
    }
}

fn assert_same_both_ways(steps: &[Step], translated: bool) {
    let short = run(steps, translated);
    let long = short_way::without(|| run(steps, translated));
    for (at, (short, long)) in short.0.iter().zip(&long.0).enumerate() {
        assert_eq!(short, long, "step {at}: {:?}", steps[at]);
    }
    assert_eq!(short.1, long.1);
}

/// That generated traffic takes the short way at all, or the tests above say nothing.
#[test]
fn without_the_short_way_there_is_none() {
    let steps: Vec<_> = (0..40)
        .map(|n| Step::Send {
            side: if n % 2 == 0 { Side::Primary } else { Side::Secondary },
            flow: 0,
            what: What::Next { len: 5 },
            ack: 1,
            differs: false,
        })
        .collect();
    let before = short_way::taken();
    run(&steps, true);
    assert!(short_way::taken() - before >= 36, "ordinary traffic takes the short way");
    let before = short_way::taken();
    short_way::without(|| run(&steps, true));
    assert_eq!(short_way::taken(), before);
}
