//! Bounds: frames of a side, bytes of a record, records of an epoch, frames afterwards.

use pmd_tap::{FramePool, PoolSettings};

use super::*;
use crate::flow::{Addresses, Selector, VlanTags};
use crate::held::Matched;
use crate::verdict::{MismatchKind, Reason, Scene};
use crate::wire::Extent;

struct Bench {
    pool: FramePool,
    held: HeldFrames,
    queues: BySide<Queue>,
    sent: BySide<u64>,
}

fn key(port: u16) -> FlowKey {
    let ports = Selector::Ports { source: 80, destination: port };
    FlowKey::new(Addresses::V4 { source: 1, destination: 2 }, VlanTags::default(), 17, ports)
}

impl Bench {
    fn new() -> Self {
        let pool = FramePool::new(PoolSettings { small: 64, mtu: 64, jumbo: 8, gso: 16 }).unwrap();
        Self { pool, held: HeldFrames::new(128), queues: BySide::default(), sent: BySide::default() }
    }

    fn frame(&mut self, side: Side, len: usize) -> Frame {
        let ordinal = self.sent[side];
        self.sent[side] += 1;
        let fill = ordinal.to_le_bytes()[0];
        let mut frame = self.pool.frame_from(&vec![fill; len]).unwrap();
        frame.stamp(Nanos(100 * ordinal), ordinal);
        frame
    }

    fn hold(&mut self, side: Side, len: usize) {
        let frame = self.frame(side, len);
        let content = Content::Datagram { content: Extent::default(), digest: None, matched: Matched::No };
        self.held.push(&mut self.queues[side], Held { frame, connection: 0, side, content });
    }

    fn sighting(&self, port: u16) -> Sighting<'static> {
        let detail = Detail::Mismatch {
            kind: MismatchKind::Datagram,
            offset: 3,
            primary: Some(2),
            secondary: None,
            scene: Scene::default(),
        };
        let cause = Cause { reason: Reason::Mismatch, at: Nanos(5_000), flow: Some(key(port)), detail };
        Sighting { cause, queues: self.queues, arriving: None, with: None, at: None }
    }
}

#[test]
fn a_record_has_the_named_frame_and_the_first_of_each_side() {
    let mut bench = Bench::new();
    (0..40).for_each(|_| bench.hold(Side::Primary, 60));
    (0..3).for_each(|_| bench.hold(Side::Secondary, 60));
    let mut witness = Witness::patient();
    assert_eq!(witness.write_down(&bench.held, &bench.sighting(1)), Watch::Yes);
    witness.close_all();
    let records = witness.take_records();
    let [record] = &records[..] else { panic!("{records:?}") };
    let of = |side: Side| record.notes().iter().filter(move |note| note.side == side);
    assert_eq!((of(Side::Primary).count(), of(Side::Secondary).count()), (HELD_PER_SIDE, 3));
    assert_eq!(record.left_out(), BySide { primary: 24, secondary: 0 });
    let differs: Vec<_> = record.notes().iter().filter(|note| note.role == Role::Differs).collect();
    assert_eq!(differs.iter().map(|note| note.ordinal).collect::<Vec<_>>(), [2]);
    assert_eq!(record.bytes_of(differs[0]), [2; 60]);
    let arrivals: Vec<_> = record.notes().iter().map(|note| note.arrival).collect();
    assert!(arrivals.is_sorted(), "{arrivals:?}");
}

#[test]
fn bytes_are_bounded_and_the_named_frame_is_whole() {
    let mut bench = Bench::new();
    (0..6).for_each(|_| bench.hold(Side::Primary, 65_000));
    let mut witness = Witness::patient();
    witness.write_down(&bench.held, &bench.sighting(1));
    let later = bench.frame(Side::Primary, 65_000);
    (0..3).for_each(|_| assert_eq!(witness.see(&key(1), Side::Primary, &later), Watch::Yes));
    witness.close_all();
    let record = witness.take_records().pop().unwrap();
    let bytes: usize = record.notes().iter().map(|note| record.bytes_of(note).len()).sum();
    assert_eq!(bytes, RECORD_BYTES);
    let differs = record.notes().iter().find(|note| note.role == Role::Differs).unwrap();
    assert_eq!(record.bytes_of(differs).len(), 65_000);
    assert!(record.left_out().primary > 0);
}

#[test]
fn a_storm_is_skipped_and_counted_until_the_next_epoch() {
    let mut bench = Bench::new();
    bench.hold(Side::Primary, 60);
    let exchange = Exchange::new(1);
    let mut witness = Witness::new(Arc::clone(&exchange));
    let write = |witness: &mut Witness, port| witness.write_down(&bench.held, &bench.sighting(port));
    for port in 0..4 {
        assert_eq!(write(&mut witness, port), Watch::Yes);
    }
    assert_eq!(write(&mut witness, 4), Watch::No);
    assert_eq!(exchange.skipped(), 1);
    witness.end_epoch();
    // The writer does not come: what it has not given back is missing.
    for port in 0..20 {
        write(&mut witness, port);
        witness.end_epoch();
    }
    let records = RECORDS_PER_EPOCH + WAITING_RECORDS;
    assert_eq!(exchange.skipped(), 1 + 20 - u64::try_from(records - 4).unwrap());
    let mut written = 0;
    while let Some(record) = exchange.next() {
        assert!(record.cause().is_some());
        exchange.give_back(record);
        written += 1;
    }
    assert_eq!(written, records);
    assert_eq!(write(&mut witness, 1), Watch::Yes, "there is room again");
}

#[test]
fn the_next_few_frames_of_the_flow_follow_and_then_it_is_over() {
    let mut bench = Bench::new();
    bench.hold(Side::Primary, 60);
    let exchange = Exchange::new(1);
    let mut witness = Witness::new(Arc::clone(&exchange));
    witness.write_down(&bench.held, &bench.sighting(1));
    let frame = bench.frame(Side::Secondary, 90);
    assert_eq!(witness.see(&key(2), Side::Secondary, &frame), Watch::No, "another flow");
    for place in 1..=FRAMES_AFTER {
        let wanted = if place < FRAMES_AFTER { Watch::Yes } else { Watch::No };
        assert_eq!(witness.see(&key(1), Side::Secondary, &frame), wanted);
    }
    assert_eq!(witness.see(&key(1), Side::Secondary, &frame), Watch::No);
    let record = exchange.next().unwrap();
    assert_eq!(record.notes().iter().filter(|note| note.role == Role::After).count(), FRAMES_AFTER);
    // Or until a while is over.
    witness.write_down(&bench.held, &bench.sighting(1));
    witness.close_due(Nanos(5_000) + Duration::from_millis(999));
    assert!(exchange.next().is_none());
    witness.close_due(Nanos(5_000) + WATCH);
    assert!(exchange.next().is_some());
}
