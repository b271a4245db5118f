//! Lists of spans against a model, in the orders that a hostile guest would choose, and their memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn range(start: u32, len: u32) -> SeqRange {
    SeqRange::new(SeqNumber(start), len)
}

fn spans(capacity: usize) -> Spans {
    Spans::new(capacity, u32::MAX, 7)
}

/// Everything in a list, found by walking positions.
fn contents(spans: &Spans, list: &SpanList, from: SeqNumber) -> Vec<Span> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(span) = spans.first_ending_after(list, at) {
        at = span.range.end;
        found.push(span);
    }
    found
}

/// Nodes that a search without a finger steps on.
fn steps_to(spans: &Spans, list: &SpanList, position: SeqNumber) -> usize {
    let mut steps = 0;
    let mut node = spans.node(list.head).unwrap();
    for level in (0..node.height()).rev() {
        while node.links[level].to != NONE && node.links[level].start.is_before(position) {
            node = spans.node(node.links[level].to).unwrap();
            steps += 1;
        }
    }
    steps
}

#[test]
fn a_full_slab_refuses_and_a_removal_makes_room() {
    let (mut spans, mut list) = (spans(2), SpanList::default());
    assert!(spans.insert(&mut list, Span { range: range(0, 5), owner: Owner(1) }));
    assert!(!spans.insert(&mut list, Span { range: range(9, 5), owner: Owner(2) }));
    assert_eq!((list.len(), spans.used()), (1, 0), "nothing is lost, nothing is kept");
    assert_eq!(spans.remove(&mut list, SeqNumber(1)), None);
    assert!(spans.remove(&mut list, SeqNumber(0)).is_some());
    assert!(spans.insert(&mut list, Span { range: range(9, 5), owner: Owner(2) }));
}

#[test]
fn one_list_has_its_share_and_leaves_the_rest_to_others() {
    let mut spans = Spans::new(64, 8, 7);
    let (mut greedy, mut modest) = (SpanList::default(), SpanList::default());
    for at in 0..8 {
        assert!(spans.join(&mut greedy, range(at * 2, 1)));
    }
    assert!(!spans.join(&mut greedy, range(100, 1)));
    assert!(!spans.insert(&mut greedy, Span { range: range(100, 1), owner: Owner(1) }));
    assert!(spans.join(&mut greedy, range(1, 1)), "what joins two spans needs no room");
    assert_eq!(greedy.len(), 7);
    for at in 0..8 {
        assert!(spans.join(&mut modest, range(at * 2, 1)));
    }
}

#[test]
fn a_list_gives_all_its_memory_back() {
    let mut spans = spans(4_000);
    let mut kept = SpanList::default();
    for at in 0..9 {
        assert!(spans.join(&mut kept, range(at * 2, 1)));
    }
    let before = spans.used();
    for _ in 0..10 {
        let mut list = SpanList::default();
        for at in 0..3_000 {
            assert!(spans.join(&mut list, range(at * 2, 1)));
        }
        spans.free(&mut list);
        assert_eq!((spans.used(), list.len()), (before, 0));
    }
    assert_eq!(contents(&spans, &kept, SeqNumber(0)).len(), 9);
    for at in 0..9 {
        assert!(spans.remove(&mut kept, SeqNumber(at * 2)).is_some());
    }
    assert_eq!(spans.used(), 0, "the head of an empty list is given back, too");
}

fn assert_short(spans: &Spans, list: &SpanList, count: u32, order: &str) {
    let steps: Vec<_> = (0..count).map(|n| steps_to(spans, list, SeqNumber(n * 2))).collect();
    let (sum, longest) = (steps.iter().sum::<usize>(), steps.iter().max().unwrap());
    assert!(sum <= 30 * steps.len() && *longest <= 120, "{order}: {sum} in all, {longest} at most");
}

/// Where the n-th span goes.
type Place = fn(u32) -> u32;

/// Orders of insertion and removal that make a search in a tree without balance linear.
#[test]
fn searches_stay_short_in_every_order() {
    const COUNT: u32 = 8_192;
    let orders: [(&str, Place); 4] = [
        ("forward", |n| n),
        ("backward", |n| COUNT - 1 - n),
        ("scattered", |n| n * 5_167 % COUNT),
        ("inward", |n| if n % 2 == 0 { n / 2 } else { COUNT - 1 - n / 2 }),
    ];
    for (order, place) in orders {
        let (mut spans, mut list) = (spans(9_000), SpanList::default());
        for n in 0..COUNT {
            assert!(spans.insert(&mut list, Span { range: range(place(n) * 2, 1), owner: Owner(n) }));
        }
        assert_short(&spans, &list, COUNT, order);
        for n in (0..COUNT).filter(|n| n % 4 != 0) {
            assert!(spans.remove(&mut list, SeqNumber(place(n) * 2)).is_some());
        }
        assert_short(&spans, &list, COUNT, order);
    }
}

proptest! {
    /// Against a sorted map, around the wrap of the sequence space.
    #[test]
    fn lists_agree_with_a_sorted_map(
        ops in prop::collection::vec((0_u8..5, 0_u32..200), 1..400),
        seed in any::<u64>(),
    ) {
        let origin = SeqNumber(u32::MAX - 500);
        let (mut spans, mut list) = (Spans::new(256, u32::MAX, seed), SpanList::default());
        let mut other = SpanList::default();
        for at in 0..3 {
            let apart = Span { range: range(7 + at * 2, 1), owner: Owner::NOBODY };
            prop_assert!(spans.insert(&mut other, apart));
        }
        let mut model = BTreeMap::new();
        for (kind, slot) in ops {
            let start = origin + slot * 5;
            match kind {
                0 => prop_assert_eq!(spans.remove(&mut list, start), model.remove(&slot)),
                1 => {
                    let expected = model.range(slot..).next().map(|(_, span)| *span);
                    prop_assert_eq!(spans.first_ending_after(&list, start), expected);
                }
                _ if model.contains_key(&slot) => {}
                _ => {
                    let span = Span { range: SeqRange::new(start, 1 + slot % 5), owner: Owner(slot) };
                    prop_assert!(spans.insert(&mut list, span));
                    model.insert(slot, span);
                }
            }
            prop_assert_eq!(usize::try_from(list.len()).unwrap(), model.len());
            prop_assert_eq!(spans.first(&list), model.values().next().copied());
        }
        let expected: Vec<_> = model.values().copied().collect();
        prop_assert_eq!(contents(&spans, &list, origin), expected);
        prop_assert_eq!(other.len(), 3);
        spans.free(&mut list);
        spans.free(&mut other);
        prop_assert_eq!(spans.used(), 0);
    }

    /// Joined positions against a set of positions.
    #[test]
    fn joined_spans_agree_with_a_set_of_positions(
        ops in prop::collection::vec((any::<bool>(), 0_u32..300, 1_u32..12), 1..200),
    ) {
        let origin = SeqNumber(u32::MAX - 150);
        let (mut spans, mut list) = (spans(512), SpanList::default());
        let mut sent = [false; 320];
        for (joins, at, len) in ops {
            if joins {
                prop_assert!(spans.join(&mut list, SeqRange::new(origin + at, len)));
                sent.iter_mut().skip(usize::try_from(at).unwrap()).take(usize::try_from(len).unwrap()).for_each(|sent| *sent = true);
            } else if let Some(span) = spans.first_ending_after(&list, origin + at) {
                prop_assert_eq!(spans.remove(&mut list, span.range.start), Some(span));
                let start = usize::try_from(span.range.start.past(origin)).unwrap();
                sent[start..start + usize::try_from(span.range.len()).unwrap()].fill(false);
            }
        }
        let mut expected = Vec::new();
        let mut start = None;
        for (at, is_sent) in sent.iter().enumerate() {
            match (start, is_sent) {
                (None, true) => start = Some(at),
                (Some(from), false) => {
                    expected.push((from, at));
                    start = None;
                }
                _ => {}
            }
        }
        let place = |number: SeqNumber| usize::try_from(number.past(origin)).unwrap();
        let found: Vec<_> = contents(&spans, &list, origin)
            .iter()
            .map(|span| (place(span.range.start), place(span.range.end)))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
