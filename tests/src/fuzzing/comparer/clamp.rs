//! A frame that left with a lower window: nothing else of it may be changed, and a checksum stays as right or as wrong
//! as it was.

use colo_engine::wire::{Packet, Segment};

/// The window's word and that of the checksum behind it.
const CHANGED: usize = 4;

/// What left, as a packet, after a look at its bytes.
pub(super) fn judge(came: &Packet, before: &[u8], after: &[u8]) -> Packet {
    let Packet::Tcp(flow, segment) = came else { panic!("{came:?} has no window") };
    let left = Packet::parse(after);
    let Packet::Tcp(_, Segment { window, .. }) = left else { panic!("{left:?} left, but {came:?} came") };
    assert!(window < segment.window, "{window} for a window of {}", segment.window);
    assert_eq!(left, Packet::Tcp(*flow, Segment { window, ..*segment }), "more than the window");
    assert_eq!(before.len(), after.len());
    let differs = || (0..before.len()).filter(|at| before[*at] != after[*at]);
    let (first, last) = (differs().next().unwrap_or_default(), differs().next_back().unwrap_or_default());
    // The window's high byte may be the same in both.
    let starts = first.saturating_sub(1)..=first;
    let explains = |start: usize| {
        let [old, new] = [before, after].map(|bytes| bytes.get(start..start + CHANGED));
        let (Some(old), Some(new)) = (old, new) else { return false };
        last < start + CHANGED
            && old[..2] == segment.window.to_be_bytes()
            && new[..2] == window.to_be_bytes()
            && sum(old) == sum(new)
    };
    assert!(starts.into_iter().any(explains), "changed from {first} to {last}: {before:02x?} {after:02x?}");
    left
}

/// The one's complement sum of two words (RFC 1071), as a residue.
fn sum(words: &[u8]) -> u32 {
    words.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>() % 0xffff
}
