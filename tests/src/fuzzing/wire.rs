//! The parser against any frame. What it says must lie inside the frame, must not depend on padding, and must be the
//! same whichever way it takes: the peek at a usual frame, the walk from header to header, the way of a received frame.
//! What a fragment and a frame of a class say is read here once more, in [`fragment`] and [`class`].

mod class;
mod fragment;

use std::cell::RefCell;

use colo_engine::flow::{FlowHasher, FlowKey, VlanTags};
use colo_engine::shard::{Budget, Work, WorkBurst};
use colo_engine::wire::{Class, Extent, Packet, Segment, Tunnels};
use pmd_tap::{FramePool, MAX_FRAME_BYTES, PoolSettings};

use crate::frame::layout;

/// Where a tag stands, and one with identifier 5.
const TAG_AT: usize = 12;
const TAG: [u8; 4] = [0x81, 0, 0, 5];
/// `EtherType`s of tags: IEEE 802.1Q, 802.1ad and its forerunner.
const TAG_TYPES: [[u8; 2]; 3] = [[0x81, 0], [0x88, 0xa8], [0x91, 0]];

thread_local! {
    static POOL: RefCell<FramePool> = RefCell::new(
        FramePool::new(PoolSettings { small: 1, mtu: 1, jumbo: 1, gso: 2 }).expect("memory for a few frames"),
    );
}

/// One frame through every way there is.
pub fn wire(data: &[u8]) {
    let data = &data[..data.len().min(MAX_FRAME_BYTES)];
    let packet = Packet::parse(data);
    match &packet {
        Packet::Tcp(flow, segment) => {
            judge_flow(flow, data);
            judge_segment(segment, data);
        }
        Packet::Datagram(flow, extent) => {
            judge_flow(flow, data);
            judge_extent(*extent, data);
        }
        Packet::Fragment(found) => {
            judge_extent(found.payload, data);
            fragment::judge(found, data);
        }
        Packet::Class(class) => assert!(Class::ALL.contains(class)),
        Packet::Stray(stray) => panic!("{stray:?}: a single frame does not say so"),
    }
    padding_changes_nothing(&packet, data);
    the_long_way_agrees(&packet, data);
    let opaque = FlowHasher::fixed();
    the_way_of_a_received_frame_agrees(&packet, data, &opaque);
    assert_eq!(packet.in_tunnel(data, &opaque), packet, "nobody asked to look into tunnels");
    let looking = FlowHasher::fixed().with_tunnels(Tunnels::Inner);
    let inner = packet.in_tunnel(data, &looking);
    if inner != packet {
        judge_tunnel(&packet, &inner, data, &looking);
    }
    the_way_of_a_received_frame_agrees(&inner, data, &looking);
}

/// A packet in a tunnel lies inside the datagram that carries it, its flow says that it is in a tunnel, and neither what is
/// behind the outer packet nor a tag in front of it changes anything else.
fn judge_tunnel(outer: &Packet, inner: &Packet, data: &[u8], hasher: &FlowHasher) {
    let Packet::Datagram(outer_flow, around) = outer else { panic!("{outer:?} is no tunnel") };
    assert!(outer_flow.tunnel().is_none(), "a tunnel in a tunnel is opened");
    let (flow, extent) = match inner {
        Packet::Tcp(flow, segment) => (flow, segment.payload),
        Packet::Datagram(flow, extent) => (flow, *extent),
        other => panic!("{other:?} in a tunnel"),
    };
    let name = flow.to_string();
    assert!(flow.tunnel().is_some_and(|tunnel| name.starts_with(&tunnel.to_string())), "{name}");
    judge_extent(extent, data);
    let ((from, len), (start, whole)) = (place(extent), place(*around));
    assert!(start < from && from + len <= start + whole, "{extent:?} in {around:?}");
    let opened = |bytes: &[u8]| Packet::parse(bytes).in_tunnel(bytes, hasher);
    if data.len() < MAX_FRAME_BYTES {
        assert_eq!(opened(&[data, &[0xee; 7]].concat()), *inner, "padded");
    }
    if outer_flow.vlan().identifiers().next().is_some() {
        return;
    }
    let tagged = opened(&[&data[..TAG_AT], &TAG, &data[TAG_AT..]].concat());
    let (key, moved) = match tagged {
        Packet::Tcp(key, segment) => (key, segment.payload),
        Packet::Datagram(key, extent) => (key, extent),
        other => panic!("{other:?} with a tag"),
    };
    assert_eq!(
        (key.to_string(), moved),
        (name, Extent { offset: extent.offset + 4, ..extent }),
        "with a tag"
    );
    assert!(key != *flow, "a tunnel with a tag is another");
}

fn judge_flow(flow: &FlowKey, data: &[u8]) {
    assert!(!flow.to_string().is_empty());
    assert!(flow.vlan().identifiers().count() <= 2, "more tags than are taken off");
    assert!(data.len() >= 14 + 20, "a flow out of {} bytes", data.len());
}

fn judge_segment(segment: &Segment, data: &[u8]) {
    judge_extent(segment.payload, data);
    assert!(segment.positions() <= segment.payload.len + 2);
    assert!(!segment.is_pure_ack() || segment.positions() == 0);
    // The tests' own finder knows frames without tags and extension headers.
    if let Some(found) = layout(data) {
        assert_eq!((found.payload, found.end - found.payload), place(segment.payload), "payload");
        assert_eq!(found.sequence(data), segment.seq.0);
        assert!(segment.ack.is_none_or(|ack| ack.0 == found.ack(data)));
    }
}

fn place(extent: Extent) -> (usize, usize) {
    (usize::try_from(extent.offset).expect("an index"), usize::try_from(extent.len).expect("an index"))
}

/// What a frame says in front of its network layer: `EtherType` behind the tags, identifiers of at most two tags, and
/// where the network layer starts. A frame that is cut within that says nothing.
fn link(data: &[u8]) -> (u16, VlanTags, usize) {
    let (mut at, mut vlan) = (TAG_AT, VlanTags::default());
    let number = |at: usize| data.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    loop {
        match data.get(at..at + 2) {
            Some(kind) if TAG_TYPES.iter().any(|tag| tag == kind) => {
                if data.len() < at + 6 {
                    break;
                }
                if !vlan.push(number(at + 2).unwrap_or_default()) {
                    return (number(at).unwrap_or_default(), vlan, at + 2);
                }
                at += 4;
            }
            Some(_) => return (number(at).unwrap_or_default(), vlan, at + 2),
            None => break,
        }
    }
    (0, VlanTags::default(), data.len().min(14))
}

/// An extent gives the bytes it stands for, and a part of it never more.
fn judge_extent(extent: Extent, data: &[u8]) {
    let (offset, len) = place(extent);
    assert!(offset + len <= data.len(), "{extent:?} in {} bytes", data.len());
    assert_eq!(extent.of(data), &data[offset..offset + len]);
    for (skip, part) in [(0, 1), (1, extent.len), (extent.len, 1), (u32::MAX, 1), (1, u32::MAX)] {
        let bytes = extent.part(data, skip, part);
        let inside = skip.checked_add(part).is_some_and(|end| end <= extent.len);
        assert_eq!(
            u32::try_from(bytes.len()),
            Ok(if inside { part } else { 0 }),
            "{skip}+{part} of {extent:?}"
        );
    }
}

fn padding_changes_nothing(packet: &Packet, data: &[u8]) {
    if *packet == Packet::Class(Class::Malformed) || data.len() == MAX_FRAME_BYTES {
        return;
    }
    let padded = [data, &[0xee; 7][..(MAX_FRAME_BYTES - data.len()).min(7)]].concat();
    assert_eq!(&Packet::parse(&padded), packet, "padded");
    if let Packet::Class(class) = packet {
        class::judge(*class, &packet.with_class_flow(&padded), &padded);
    }
}

/// A tagged frame is nothing usual, so it takes the long way; otherwise it is the same.
fn the_long_way_agrees(packet: &Packet, data: &[u8]) {
    let Some((addresses, rest)) = data.split_at_checked(TAG_AT) else {
        return assert_eq!(*packet, Packet::Class(Class::Malformed));
    };
    if rest.first_chunk().is_some_and(|kind| TAG_TYPES.contains(kind)) {
        return;
    }
    let bytes = [addresses, &TAG, rest].concat();
    let tagged = Packet::parse(&bytes);
    let moved = |extent: Extent| Extent { offset: extent.offset + 4, ..extent };
    let expected = match *packet {
        Packet::Tcp(flow, segment) => {
            Packet::Tcp(tag(&flow), Segment { payload: moved(segment.payload), ..segment })
        }
        Packet::Datagram(flow, extent) => Packet::Datagram(tag(&flow), moved(extent)),
        Packet::Fragment(plain) => return fragment::agrees_with_tagged(&plain, data, &tagged, &bytes),
        Packet::Class(class) => {
            class::judge(class, &tagged.with_class_flow(&bytes), &bytes);
            Packet::Class(class)
        }
        stray @ Packet::Stray(_) => stray,
    };
    assert_eq!(tagged, expected, "with a tag");
}

/// The key of a flow, had its frame the tag.
fn tag(flow: &FlowKey) -> FlowKey {
    let mut vlan = VlanTags::default();
    assert!(flow.vlan() == vlan && vlan.push(u16::from_be_bytes([TAG[2], TAG[3]])));
    FlowKey::new(flow.addresses(), vlan, flow.protocol(), flow.selector())
}

/// A received frame is what the parser says, but that one of a class has that class's flow, so that its policy can be
/// to compare it.
fn the_way_of_a_received_frame_agrees(packet: &Packet, data: &[u8], hasher: &FlowHasher) {
    POOL.with_borrow_mut(|pool| {
        let frame = pool.frame_from(data).expect("one frame is out at a time");
        let mut burst = WorkBurst::new();
        burst.receive(frame, hasher, Budget::Room);
        for Work { frame, label } in burst.drain() {
            match packet {
                Packet::Class(class) => class::judge(*class, &label.packet, data),
                packet => assert_eq!(label.packet, *packet, "received"),
            }
            let hash = label.packet.flow().map(|flow| hasher.hash(flow)).unwrap_or_default();
            assert!(label.hash == hash, "the hash is not that of the flow");
            pool.recycle(frame);
        }
    });
}
