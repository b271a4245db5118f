//! Why, in a sentence. By the words of the file, so that a kind that this list does not know still gets one.

use super::file::{Entry, Frame};
use crate::side::Side;

/// What happened, in plain words.
pub(super) fn why(entry: &Entry) -> String {
    let offset = entry.detail.offset.unwrap_or(0);
    match (entry.reason.reason.as_str(), entry.detail.kind.as_deref()) {
        ("timeout", _) => late(entry),
        (_, Some("payload")) => {
            format!("The sides sent different bytes at stream offset {offset}{}.", both(entry, offset))
        }
        (_, Some("self-inconsistent")) => contradicts_itself(entry, offset),
        (_, Some("fin")) => ended(entry, offset),
        (_, Some("rst")) => reset(entry, offset),
        (_, Some("datagram")) => datagrams(entry, offset),
        (_, Some("syn-options")) => syn_options(entry),
        (_, Some("urgent")) => urgent(entry, offset),
        (reason, Some(kind)) => {
            format!("The sides contradict each other at offset {offset} ({reason}, {kind}).")
        }
        (reason, None) => format!("A checkpoint was asked for ({reason})."),
    }
}

/// `0x41 'A'`
pub(super) fn byte(value: u8) -> String {
    if value.is_ascii_graphic() || value == b' ' {
        format!("0x{value:02x} '{}'", char::from(value))
    } else {
        format!("0x{value:02x}")
    }
}

/// Nanoseconds as milliseconds, without zeros at the end.
pub(super) fn millis(nanos: u64) -> String {
    let text = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    format!("{} ms", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `: the primary 0x41 'A', the secondary 0x42 'B'`, if both are known.
fn both(entry: &Entry, offset: i64) -> String {
    match Side::BOTH.map(|side| entry.byte_of(side, offset)) {
        [Some(primary), Some(secondary)] => {
            format!(": the primary {}, the secondary {}", byte(primary), byte(secondary))
        }
        _ => String::new(),
    }
}

/// The side that contradicted itself, what it said before and what it said then.
pub(super) fn twice(entry: &Entry) -> Option<(Side, Option<&Frame>, &Frame)> {
    let named = Side::BOTH.into_iter().filter_map(|side| entry.named(side));
    let now = named.max_by_key(|frame| frame.arrival_ns)?;
    let earlier =
        |one: &&Frame| one.side == now.side && one.number != now.number && one.arrival_ns <= now.arrival_ns;
    let offset = entry.detail.offset.unwrap_or(0);
    let has_it = |one: &&Frame| entry.byte_at(one, offset).is_some();
    let before = entry.of(now.side).filter(earlier);
    let before: Vec<_> = before.collect();
    let best = before.iter().copied().find(has_it);
    Some((now.side, best.or_else(|| before.first().copied()), now))
}

fn contradicts_itself(entry: &Entry, offset: i64) -> String {
    let Some((side, before, now)) = twice(entry) else {
        return format!("A side contradicts what it sent before, at stream offset {offset}.");
    };
    let bytes = before.and_then(|before| Some((entry.byte_at(before, offset)?, entry.byte_at(now, offset)?)));
    match bytes {
        Some((before, now)) => format!(
            "The {side} contradicts itself at stream offset {offset}: it sent {} before and {} now.",
            byte(before),
            byte(now)
        ),
        None => format!("The {side} contradicts at stream offset {offset} what it sent there before."),
    }
}

/// The side among whose frames one fits.
fn who(entry: &Entry, fits: impl Fn(&Frame) -> bool) -> Option<Side> {
    let mut sides = Side::BOTH.into_iter().filter(|side| entry.of(*side).any(&fits));
    let first = sides.next()?;
    // If both fit, it says nothing.
    sides.next().is_none().then_some(first)
}

fn ended(entry: &Entry, offset: i64) -> String {
    let end_of = |frame: &Frame| {
        let len = i64::try_from(frame.payload().len()).unwrap_or(0);
        entry.offset_of(frame).map(|offset| offset + len)
    };
    let ends_there = |frame: &Frame| {
        let fin = frame.decoded.tcp.as_ref().is_some_and(|tcp| tcp.has("FIN"));
        fin && end_of(frame) == Some(offset)
    };
    // Who goes on is in the record; who ended may have left long ago.
    let goes_on = |frame: &Frame| end_of(frame).is_some_and(|end| end > offset);
    match who(entry, ends_there).or_else(|| who(entry, goes_on).map(Side::other)) {
        Some(side) => {
            let other = side.other();
            format!("The {side}'s stream ends at offset {offset} (FIN), where the {other}'s goes on.")
        }
        None => format!("One side's stream ends at offset {offset} (FIN), where the other's goes on."),
    }
}

fn reset(entry: &Entry, offset: i64) -> String {
    match who(entry, |frame| frame.decoded.tcp.as_ref().is_some_and(|tcp| tcp.has("RST"))) {
        Some(side) => {
            let other = side.other();
            format!(
                "The {side} reset the connection at stream offset {offset} (RST), where the {other} goes on."
            )
        }
        None => {
            format!("One side reset the connection at stream offset {offset} (RST), where the other goes on.")
        }
    }
}

fn datagrams(entry: &Entry, offset: i64) -> String {
    let lens = Side::BOTH.map(|side| entry.named(side).map(|frame| frame.payload().len()));
    let bytes = both(entry, offset);
    match lens {
        [Some(primary), Some(secondary)] if bytes.is_empty() => format!(
            "The oldest datagrams of both sides differ in length: the primary's has {primary} bytes, the \
             secondary's {secondary}."
        ),
        _ => format!("The oldest datagrams of both sides differ at byte {offset}{bytes}."),
    }
}

fn syn_options(entry: &Entry) -> String {
    let options = Side::BOTH.map(|side| {
        let mut syns = entry.of(side).filter_map(|frame| frame.decoded.tcp.as_ref());
        syns.find(|tcp| tcp.is_syn()).map(|tcp| tcp.options.join(", "))
    });
    match options {
        [Some(primary), Some(secondary)] => format!(
            "The SYNs of both sides offer different options: the primary {}, the secondary {}.",
            or_none(&primary),
            or_none(&secondary)
        ),
        _ => "The SYNs of both sides offer different options.".to_owned(),
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn urgent(entry: &Entry, offset: i64) -> String {
    let points = Side::BOTH.map(|side| {
        let pointer = entry.named(side)?.decoded.tcp.as_ref()?.urgent;
        Some(pointer.map_or("to none".to_owned(), |by| format!("{by} bytes on")))
    });
    match points {
        [Some(primary), Some(secondary)] => format!(
            "The sides point to different urgent data near stream offset {offset}: the primary {primary}, the \
             secondary {secondary}."
        ),
        _ => format!("The sides point to different urgent data near stream offset {offset}."),
    }
}

/// A frame that waited too long.
fn late(entry: &Entry) -> String {
    let Some((side, frame)) = Side::BOTH.into_iter().find_map(|side| Some((side, entry.named(side)?))) else {
        return "A frame waited too long.".to_owned();
    };
    let waited = millis(entry.reason.t_ns.saturating_sub(frame.arrival_ns));
    let name = format!("{side} frame {}", frame.number);
    match entry.detail.waits_for.as_deref() {
        Some("secondary") => missing(entry, frame, Side::Secondary, &waited),
        Some("primary") => missing(entry, frame, Side::Primary, &waited),
        Some("secondary-ack") => unacknowledged(entry, frame, &waited),
        Some("secondary-reset") => {
            format!("The primary reset the connection (RST); the secondary did not within {waited}.")
        }
        Some("checkpoint") => format!(
            "The {name} waited {waited} for a checkpoint: it lies at or past a contradiction, or its flow cannot \
             be followed."
        ),
        Some(other) => format!("The {name} waited {waited} for: {other}."),
        None => format!("The {name} waited {waited}."),
    }
}

/// What a frame needs and `side` never sent.
fn missing(entry: &Entry, frame: &Frame, side: Side, waited: &str) -> String {
    let name = format!("{} frame {}", frame.side, frame.number);
    let Some(tcp) = &frame.decoded.tcp else {
        return format!("The {side} sent no datagram equal to {name} within {waited}.");
    };
    let Some(start) = entry.offset_of(frame) else {
        return format!("The {side} never sent what {name} carries, within {waited}.");
    };
    if tcp.is_syn() {
        return format!("The {side} sent no SYN within {waited}; {name} waits for it.");
    }
    let len = i64::try_from(frame.payload().len()).unwrap_or(0);
    let state = entry.state(side);
    let first = state.next.map_or(start, |next| next.max(start).min(start + len));
    let what = match start + len - first {
        0 if tcp.has("FIN") => format!("the end of the stream (FIN) at offset {}", start + len),
        0 => format!("what comes before stream offset {}", start + len),
        1 => format!("byte {first} of the stream"),
        _ => format!("bytes {first}–{} of the stream", start + len - 1),
    };
    let reached = match (state.next, state.top) {
        (Some(next), _) if next < start => format!("; its stream has a gap at offset {next}"),
        (Some(next), Some(top)) if next < top => format!("; its stream has a gap at offset {next}"),
        (Some(next), _) => format!("; its stream ended at offset {next}"),
        _ => "; it sent nothing on this connection".to_owned(),
    };
    format!("The {side} never sent {what} within {waited}{reached}.")
}

fn unacknowledged(entry: &Entry, frame: &Frame, waited: &str) -> String {
    let ack = frame.decoded.tcp.as_ref().and_then(|tcp| tcp.ack);
    match (ack, entry.state(Side::Secondary).ack) {
        (Some(primary), Some(secondary)) => format!(
            "The primary acknowledged client byte {primary}, the secondary only {secondary} ({} less), within {waited}.",
            primary.wrapping_sub(secondary)
        ),
        (Some(primary), None) => format!(
            "The primary acknowledged client byte {primary}, the secondary nothing on this connection, within \
             {waited}."
        ),
        _ => format!("The secondary did not acknowledge what the primary did, within {waited}."),
    }
}
