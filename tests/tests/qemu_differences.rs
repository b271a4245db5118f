//! QEMU's colo-compare and `colo`, fed the same frames: some scripts of `tests/peer-diff`, with the answers that
//! `docs/QEMU_DIFFERENCES.md` gives for them. The whole catalogue takes minutes and is no test.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use colo_tests::peer::entries;
use colo_tests::peer::table::Row;

/// A request's time is real, so a machine that stands still for a quarter of a second makes it another answer.
const TRIES: usize = 3;

/// The answers of `colo` and of QEMU to a script.
fn answers(name: &str, colo: &str, qemu: &str) -> Result<()> {
    let entry = entries().into_iter().find(|entry| entry.name == name).with_context(|| name.to_owned())?;
    let mut said = Vec::new();
    for _ in 0..TRIES {
        let row = Row::play(entry.clone())?;
        let found = (row.colo.to_string(), row.qemu.to_string());
        if found == (colo.to_owned(), qemu.to_owned()) {
            ensure!(!row.is_unexplained(), "{name}: explained by {:?}", row.entry.why);
            return Ok(());
        }
        said.push(found);
    }
    panic!("{name}: expected ({colo:?}, {qemu:?}), came {said:#?}");
}

#[test]
fn equal_streams() -> Result<()> {
    answers("equal segments", "all leave", "all leave")?;
    answers("ports used again with a lower sequence number", "all leave", "all leave")?;
    answers("the primary's segment is cut in two", "all leave", "all leave; asks at the timeout")?;
    let waits = "0, 1 leave; asks at the timeout; 2 with the checkpoint";
    answers("the primary sends again what has left", "all leave", waits)?;
    answers("the secondary's segments come out of order", "all leave", "all leave; asks at once")
}

#[test]
fn streams_that_differ() -> Result<()> {
    let held = "0 leave; asks at once; 1 with the checkpoint";
    answers("a byte differs", held, held)?;
    answers("IPv6, a byte differs", held, "all leave")?;
    let late = "0 leave; asks at the timeout; 1 with the checkpoint";
    answers("a pure ack ahead of the secondary's", late, "all leave")
}

#[test]
fn datagrams() -> Result<()> {
    let turned = "all leave, out of order; asks at once";
    answers("UDP, four of the primary, then the same four of the secondary", "all leave", turned)?;
    let held = "nothing leaves; asks at once; 0 with the checkpoint";
    answers("UDP, the payload differs", held, held)?;
    answers("UDP, padded on one side only", "all leave", held)?;
    let first = "0 leave; asks at once; 1 with the checkpoint";
    answers("fragments, cut differently", "all leave", first)
}

#[test]
fn much_at_once() -> Result<()> {
    let lost = "nothing leaves; asks at the timeout; **all are lost**";
    answers("17,000 flows, the secondary behind", "all leave; asks at once", lost)?;
    answers(
        "the output's reader is away for 500 ms, 20 pairs",
        "all leave",
        "nothing leaves; **all are lost**",
    )
}
