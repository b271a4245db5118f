//! Turns two recordings of separate runs into the two sides of one COLO pair, and plants differences in them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use crate::frame::{self, flag, protocol};
use crate::sniff::Captured;

/// Addresses and ports of a flow, and its protocol.
type Flow = (Vec<u8>, u8);

/// A TCP server's first numbers on each of its connections, from its SYN/ACKs.
fn handshakes(frames: &[Captured]) -> HashMap<Flow, Handshake> {
    let mut found = HashMap::new();
    for captured in frames {
        let Some(layout) = tcp_layout(&captured.bytes) else {
            continue;
        };
        if layout.flags(&captured.bytes) & flag::SYN != 0 {
            let handshake = Handshake {
                own: layout.sequence(&captured.bytes),
                client: layout.ack(&captured.bytes).wrapping_sub(1),
            };
            found.entry(layout.flow(&captured.bytes)).or_insert(handshake);
        }
    }
    found
}

#[derive(Debug, Clone, Copy)]
struct Handshake {
    own: u32,
    client: u32,
}

fn tcp_layout(bytes: &[u8]) -> Option<frame::Layout> {
    frame::layout(bytes).filter(|layout| layout.protocol == protocol::TCP)
}

/// Moves a second run's acks into the first run's client numbers; returns the number of TCP flows.
///
/// A real pair has one client, so both guests acknowledge the same numbers; two separate runs have two clients that
/// each chose an ISN. The guest's own ISNs stay as they are, raw.
pub fn share_the_client(first: &[Captured], second: &mut [Captured]) -> Result<usize> {
    let wanted = handshakes(first);
    let own = handshakes(second);
    ensure!(wanted.len() == own.len(), "{} flows in one run, {} in the other", wanted.len(), own.len());
    for captured in second {
        let Some(layout) = tcp_layout(&captured.bytes) else {
            continue;
        };
        let flow = layout.flow(&captured.bytes);
        let from = own.get(&flow).context("a flow without SYN/ACK")?.client;
        let to = wanted.get(&flow).context("a flow that the first run lacks")?.client;
        if layout.flags(&captured.bytes) & flag::ACK != 0 {
            let ack = layout.ack(&captured.bytes).wrapping_sub(from).wrapping_add(to);
            layout.set_ack(&mut captured.bytes, ack);
            layout.mend_checksum(&mut captured.bytes)?;
        }
    }
    ensure!(
        wanted.iter().any(|(flow, handshake)| own[flow].own != handshake.own),
        "both runs have the same ISNs: the kernel chose none"
    );
    Ok(wanted.len())
}

/// Frames that carry the byte at `offset` of the stream to `client_port` over IPv4, with the byte's place in each.
/// Offset 0 is the byte after the SYN.
pub fn carriers(frames: &[Captured], client_port: u16, offset: u32) -> Vec<(usize, usize)> {
    let own = handshakes(frames);
    let carries = |captured: &Captured| {
        let layout = tcp_layout(&captured.bytes)?;
        let flow = layout.flow(&captured.bytes);
        // Four bytes an address, four of ports.
        if layout.destination_port(&captured.bytes) != client_port || flow.0.len() != 12 {
            return None;
        }
        let start = layout.sequence(&captured.bytes).wrapping_sub(own.get(&flow)?.own.wrapping_add(1));
        let place = usize::try_from(offset.checked_sub(start)?).ok()? + layout.payload;
        (place < layout.end).then_some(place)
    };
    frames
        .iter()
        .enumerate()
        .filter_map(|(index, captured)| carries(captured).map(|place| (index, place)))
        .collect()
}

/// Alters the byte at `offset` of a stream wherever it was sent; returns the frames touched.
pub fn alter(frames: &mut [Captured], client_port: u16, offset: u32) -> Result<Vec<usize>> {
    let carriers = carriers(frames, client_port, offset);
    ensure!(!carriers.is_empty(), "no frame to port {client_port} carries the byte at {offset}");
    for (index, place) in &carriers {
        let bytes = &mut frames[*index].bytes;
        bytes[*place] ^= 0x20;
        tcp_layout(bytes).context("a TCP frame")?.mend_checksum(bytes)?;
    }
    Ok(carriers.into_iter().map(|(index, _)| index).collect())
}
