//! The cases of the catalogue that no capture can show: virtio headers, rules that change, links that go. A running
//! `colo compare` between sockets; the rest of the catalogue is in `tests/catalogue`.
#![forbid(unsafe_code)]

mod links;
mod rules;
mod virtio;

use colo_tests::case::{Case, Ns, Packet, Side, Time};
use colo_tests::qemu_link::Framing;
use colo_tests::rig::{Checkpoint, Dial, Setup, Transport};

/// What both guests send: frames of the PVM, then of the SVM. Built as the catalogue's cases are, without their times.
fn frames(
    case: Case,
    primary: impl IntoIterator<Item = Packet>,
    secondary: impl IntoIterator<Item = Packet>,
) -> [Vec<Vec<u8>>; 2] {
    let case = case.p_each(0.ms(), primary).s_each(0.ms(), secondary);
    [Side::Primary, Side::Secondary]
        .map(|side| case.sent(side).iter().map(|sent| sent.bytes.clone()).collect())
}

/// One frame of the PVM.
fn frame(packet: Packet) -> Vec<u8> {
    let case = Case::v4().p(Ns(0), packet);
    case.sent(Side::Primary)[0].bytes.clone()
}

/// Unix sockets on which the engine listens, a notifier, and nobody who is late unless a test says so.
fn setup(framing: Framing, arguments: &str) -> Setup<'_> {
    Setup {
        transport: Transport::Unix,
        dial: Dial::EngineListens,
        framing,
        checkpoint: Checkpoint::Notify,
        arguments,
    }
}
