//! Frames of a class, read once more: whose flow they are, and which of their bytes are compared. The padding behind a
//! packet that says its length is none of them; a frame that says no length is compared to its end.

use colo_engine::flow::{Addresses, FlowKey, Selector, VlanTags};
use colo_engine::wire::{Class, Packet};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{judge_extent, link, place};

const ARP_FOR_IPV4: [u8; 4] = [0x08, 0, 6, 4];
const ARP_FOR_IPV4_LEN: usize = 28;

/// A frame of this class, as it is received.
pub(super) fn judge(class: Class, received: &Packet, data: &[u8]) {
    let Packet::Datagram(flow, content) = received else { panic!("{received:?}: no datagram of {class:?}") };
    judge_extent(*content, data);
    let (kind, vlan, start) = link(data);
    let behind = &data[start..];
    let (expected, (offset, len)) = match (class, kind) {
        (Class::Igmp, 0x0800) => of_v4(behind, vlan),
        (Class::NeighbourDiscovery | Class::MulticastListener, 0x86dd) => of_v6(behind, vlan),
        _ => {
            let mac = |at: usize| data.get(at..at + 6).map_or([0; 6], |mac| mac.try_into().expect("six"));
            let known = class == Class::Arp && behind.get(2..6) == Some(&ARP_FOR_IPV4);
            let len = if known { behind.len().min(ARP_FOR_IPV4_LEN) } else { behind.len() };
            (FlowKey::of_link(class, mac(6), mac(0), kind, vlan), (0, len))
        }
    };
    assert_eq!(*flow, expected.in_class(class), "flow of {class:?}");
    assert_eq!(place(*content), (start + offset, len), "content of {class:?}");
    assert_eq!((flow.class(), flow.vlan()), (Some(class), vlan));
    assert!(flow.to_string().contains(class.label()), "{flow}");
}

/// Flow and IP payload, from the start of the header on.
fn of_v4(packet: &[u8], vlan: VlanTags) -> (FlowKey, (usize, usize)) {
    let header = Ipv4HeaderSlice::from_slice(packet).expect("the parser took it");
    let [source, destination] = [header.source(), header.destination()].map(u32::from_be_bytes);
    let (len, total) = (header.slice().len(), usize::from(header.total_len()));
    let addresses = Addresses::V4 { source, destination };
    (FlowKey::new(addresses, vlan, header.protocol().0, Selector::None), (len, total - len))
}

/// Flow and IP payload with its extension headers.
fn of_v6(packet: &[u8], vlan: VlanTags) -> (FlowKey, (usize, usize)) {
    let header = Ipv6HeaderSlice::from_slice(packet).expect("the parser took it");
    let [source, destination] = [header.source(), header.destination()].map(u128::from_be_bytes);
    let addresses = Addresses::V6 { source, destination };
    let flow = FlowKey::new(addresses, vlan, header.next_header().0, Selector::None);
    (flow, (40, usize::from(header.payload_length())))
}
