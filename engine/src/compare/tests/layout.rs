//! Where a connection keeps what an ordinary frame asks: in the lines that are asked for ahead, wherever the compiler
//! would rather have it.

use super::super::{Connection, Protocol};
use crate::flow::{Addresses, FlowKey, Selector, VlanTags};
use crate::side::Side;
use crate::wire::{Extent, Packet};
use pmd_tap::Nanos;

fn place<T>(field: &T, base: usize) -> std::ops::RangeInclusive<usize> {
    let start = std::ptr::from_ref(field).addr() - base;
    start / 64..=(start + size_of::<T>() - 1) / 64
}

#[test]
fn what_an_ordinary_frame_asks_lies_in_the_hot_lines() {
    let addresses = Addresses::V4 { source: 1, destination: 2 };
    let key = FlowKey::new(addresses, VlanTags::default(), 6, Selector::Ports { source: 80, destination: 9 });
    let segment = super::segment(super::ACK, 1, 1, 1);
    let connection = Some(Connection::new(key, &Packet::Tcp(key, segment), 0, Nanos::ZERO));
    let base = std::ptr::from_ref(&connection).addr();
    assert_eq!(base % 64, 0);
    let connection = connection.as_ref().unwrap();
    let Protocol::Tcp(tcp) = &connection.protocol else { panic!("it is TCP") };
    let life = &tcp.current;
    let mut places = vec![
        ("stamp", place(&connection.in_step, base)),
        ("key", place(&connection.flow.key, base)),
        ("last seen", place(&connection.flow.last_seen, base)),
        ("queues", place(&connection.flow.queues, base)),
        ("tracking", place(&connection.flow.tracking, base)),
        ("ruling", place(&connection.ruling, base)),
        ("overdue", place(&connection.overdue, base)),
        ("alarm", place(&connection.alarm, base)),
        ("mapping", place(&life.mapping, base)),
        ("committed", place(&life.committed, base)),
    ];
    for side in Side::BOTH {
        let stream = &life.streams[side];
        places.extend([
            ("reach", place(&stream.reach, base)),
            ("ack", place(&stream.ack, base)),
            ("edge", place(&stream.edge, base)),
            ("scale", place(&stream.scale, base)),
            ("line", place(&stream.line, base)),
        ]);
        places.push(("stretches' number", {
            let start = std::ptr::from_ref(&stream.held).addr() - base;
            start / 64..=(start + 3) / 64
        }));
    }
    for (what, mut lines) in places {
        assert!(lines.all(|line| Connection::HOT_LINES.contains(&line)), "{what} lies elsewhere");
    }
}

#[test]
fn what_a_datagram_asks_lies_in_its_hot_lines() {
    let addresses = Addresses::V4 { source: 1, destination: 2 };
    let key =
        FlowKey::new(addresses, VlanTags::default(), 17, Selector::Ports { source: 53, destination: 9 });
    let packet = Packet::Datagram(key, Extent::default());
    let connection = Some(Connection::new(key, &packet, 0, Nanos::ZERO));
    let base = std::ptr::from_ref(&connection).addr();
    let connection = connection.as_ref().unwrap();
    let Protocol::Datagram(datagrams) = &connection.protocol else { panic!("it is UDP") };
    let places = [
        place(&connection.flow, base),
        place(&connection.ruling, base),
        place(&connection.overdue, base),
        place(&connection.alarm, base),
        place(datagrams, base),
    ];
    for mut lines in places {
        assert!(lines.all(|line| Connection::HOT_LINES_OF_DATAGRAMS.contains(&line)));
    }
}
