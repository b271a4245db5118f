//! Kernel, `colo`, kernel: real TCP and UDP through the engine's TAP and `AF_PACKET` ports, in namespaces that the test makes.
//! Every byte is checked, and both sides must be equal from beginning to end: no checkpoint, no frame lost, none held.
//!
//! `COLO_TRANSFER_BYTES` makes the transfers longer; `cargo run -p colo-tests --example kernels` measures.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use colo_tests::kernels::transfer::Order;
use colo_tests::kernels::{Kernels, Kind, Offloads};

/// Bytes from the server to the client unless told otherwise; a quarter of them go the other way.
const DEFAULT_BYTES: u64 = 48 << 20;

fn transfer(kind: Kind, offloads: Offloads, more: &str) -> Result<()> {
    let down = match std::env::var("COLO_TRANSFER_BYTES") {
        Ok(text) => text.parse().context("COLO_TRANSFER_BYTES is no number")?,
        Err(_) => DEFAULT_BYTES,
    };
    let order = Order { down, up: down / 4, datagrams: 200 };
    let outcome = Kernels::start(kind, offloads, more)?.run(&order)?;
    outcome.expect_equal()
}

#[test]
fn tap_with_offloads_carries_every_byte() -> Result<()> {
    transfer(Kind::Tap, Offloads::On, "")
}

#[test]
fn tap_without_offloads_carries_every_byte() -> Result<()> {
    transfer(Kind::Tap, Offloads::Off, "")
}

#[test]
fn packet_sockets_with_offloads_carry_every_byte() -> Result<()> {
    transfer(Kind::Packet, Offloads::On, "")
}

#[test]
fn packet_sockets_without_offloads_carry_every_byte() -> Result<()> {
    transfer(Kind::Packet, Offloads::Off, "")
}

#[test]
fn packet_sockets_share_an_interface_out() -> Result<()> {
    transfer(Kind::PacketQueues, Offloads::On, "--workers 2")
}

#[test]
fn tap_devices_of_several_queues_are_attached_to() -> Result<()> {
    transfer(Kind::TapQueues, Offloads::On, "--workers 2")
}
