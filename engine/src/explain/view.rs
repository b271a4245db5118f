//! A record on paper: heading, sentence, both frames, bytes, the rest as a timeline. And the same for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::dump::{Column, Style, dump};
use super::file::{Entry, Explained, Frame};
use super::sentence::{millis, twice, why};
use crate::side::{BySide, Side};

/// Width of a column of the table of frames.
const WIDTH: usize = 34;

/// Some records of a file for people.
pub fn to_text(explained: &Explained, records: &[&Entry], style: Style) -> String {
    let mut text = String::new();
    for entry in records {
        text.push_str(&record(entry, style));
        text.push('\n');
    }
    if let Some(cut) = &explained.cut {
        let _ = writeln!(text, "The file's end is missing: {cut}. What is whole stands above.");
    }
    text
}

fn record(entry: &Entry, style: Style) -> String {
    let mut text = String::new();
    let reason = match &entry.detail.kind {
        Some(kind) => format!("{}, {kind}", entry.reason.reason),
        None => entry.reason.reason.clone(),
    };
    let flow = entry.reason.flow.as_deref().unwrap_or("no single flow");
    let head = format!("record {}: {reason}, at {}, {flow}", entry.number, millis(entry.reason.t_ns));
    let _ = match style {
        Style::Plain => writeln!(text, "{head}"),
        Style::Colour => writeln!(text, "\x1b[1m{head}\x1b[0m"),
    };
    let _ = writeln!(text, "\n{}\n", wrapped(&why(entry)));
    text.push_str(&table(entry));
    if let Some(bytes) = bytes(entry, style) {
        text.push('\n');
        text.push_str(&bytes);
    }
    text.push('\n');
    text.push_str(&timeline(entry));
    text
}

/// At most 96 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= 96);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// What stands in a column: the frame that the reason names.
fn table(entry: &Entry) -> String {
    let mut text = String::new();
    let mut row = |label: &str, cells: [Option<String>; 2]| {
        let [one, other] = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        let line = format!("{label:<13}{one:<WIDTH$}  {other}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    let sides = Side::BOTH.map(|side| (side, entry.named(side), entry.state(side)));
    let of =
        |cell: &dyn Fn(&Frame) -> Option<String>| [sides[0].1, sides[1].1].map(|frame| frame.and_then(cell));
    row("", sides.each_ref().map(|(side, ..)| Some(side.to_string())));
    row("frame", of(&|frame| Some(frame.number.to_string())));
    row("arrived", of(&|frame| Some(millis(frame.arrival_ns))));
    row("length", of(&|frame| Some(format!("{}, payload {}", frame.len, frame.payload().len()))));
    if entry.is_stream() {
        let tcp = |frame: &Frame, cell: &dyn Fn(&super::decode::Tcp) -> Option<String>| {
            frame.decoded.tcp.as_ref().and_then(cell)
        };
        row("flags", of(&|frame| tcp(frame, &|tcp| Some(tcp.flags.join(" ")))));
        row(
            "sequence",
            of(&|frame| {
                let offset = entry.offset_of(frame).map(|offset| format!(" (offset {offset})"));
                tcp(frame, &|tcp| Some(format!("{}{}", tcp.seq, offset.clone().unwrap_or_default())))
            }),
        );
        row("ack", of(&|frame| tcp(frame, &|tcp| Some(tcp.ack?.to_string()))));
        row("window", of(&|frame| tcp(frame, &|tcp| Some(tcp.window.to_string()))));
        let number = |number: Option<i64>| number.map(|number| format!("offset {number}"));
        row("sent up to", sides.each_ref().map(|(.., state)| number(state.next)));
        row("highest sent", sides.each_ref().map(|(.., state)| number(state.top)));
        row("acknowledged", sides.each_ref().map(|(.., state)| state.ack.map(|ack| ack.to_string())));
        if sides.iter().any(|(.., state)| state.edge.is_some()) {
            row("right edge", sides.each_ref().map(|(.., state)| state.edge.map(|edge| edge.to_string())));
        }
    }
    let held = sides.each_ref().map(|(.., state)| {
        let oldest = state.oldest_held_ns.map(|nanos| format!(", the oldest for {}", millis(nanos)));
        Some(format!("{}{}", state.held, oldest.unwrap_or_default()))
    });
    row("held before", held);
    if let Some(rule) = entry.detail.rule {
        row("rule", [Some(rule.to_string()), Some(rule.to_string())]);
    }
    text
}

/// The bytes around what differs, if the record has any.
fn bytes(entry: &Entry, style: Style) -> Option<String> {
    let mark = mark(entry)?;
    let column = |side: Side| Column {
        title: side.to_string(),
        byte: Box::new(move |offset| entry.byte_of(side, offset)),
    };
    let columns = match twice(entry) {
        Some((side, Some(before), now)) if entry.detail.kind.as_deref() == Some("self-inconsistent") => [
            Column {
                title: format!("{side}, frame {}", before.number),
                byte: Box::new(move |offset| entry.byte_at(before, offset)),
            },
            Column {
                title: format!("{side}, frame {}", now.number),
                byte: Box::new(move |offset| entry.byte_at(now, offset)),
            },
        ],
        _ => [column(Side::Primary), column(Side::Secondary)],
    };
    // A reset or a FIN alone has no bytes to show.
    let near = mark - 24..mark + 40;
    let any = near.into_iter().any(|offset| columns.iter().any(|column| (column.byte)(offset).is_some()));
    any.then(|| dump(&columns, mark, style))
}

/// The offset to look at.
fn mark(entry: &Entry) -> Option<i64> {
    if let Some(offset) = entry.detail.offset {
        return Some(offset);
    }
    let frame = Side::BOTH.into_iter().find_map(|side| entry.named(side))?;
    let start = entry.offset_of(frame)?;
    if frame.decoded.tcp.is_none() {
        return Some(0);
    }
    // Where the other side stopped, if that is in the frame.
    let next = entry.state(frame.side.other()).next.unwrap_or(start);
    Some(next.clamp(start, start + i64::try_from(frame.payload().len()).unwrap_or(0)))
}

/// All frames of the record, one a line.
fn timeline(entry: &Entry) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:>14}  {:<10} {:>7}  {:<8} what", "arrived", "side", "frame", "role");
    for frame in &entry.frames {
        let _ = writeln!(
            text,
            "{:>14}  {:<10} {:>7}  {:<8} {}",
            millis(frame.arrival_ns),
            frame.side.label(),
            frame.number,
            frame.role.label(),
            what(entry, frame)
        );
    }
    for (side, count) in by_side(BySide::from(entry.reason.left_out)) {
        if count > 0 {
            let _ = writeln!(
                text,
                "{count} more frames of the {side} were held; the record had no room for them."
            );
        }
    }
    if entry.frames.len() < entry.reason.frames {
        let missing = entry.reason.frames - entry.frames.len();
        let _ = writeln!(text, "{missing} more frames of this record are missing in the file.");
    }
    text
}

fn by_side(counts: BySide<u32>) -> [(Side, u32); 2] {
    Side::BOTH.map(|side| (side, counts[side]))
}

/// `bytes 64–163, ACK PSH, ack 7000011`
fn what(entry: &Entry, frame: &Frame) -> String {
    let len = i64::try_from(frame.payload().len()).unwrap_or(0);
    let Some(tcp) = &frame.decoded.tcp else { return format!("{len} bytes") };
    let place = match entry.offset_of(frame) {
        Some(at) if len == 0 => format!("at {at}"),
        Some(from) => format!("bytes {from}–{}", from + len - 1),
        None => format!("{len} bytes, sequence {}", tcp.seq),
    };
    let ack = tcp.ack.map(|ack| format!(", ack {ack}")).unwrap_or_default();
    format!("{place}, {}{ack}", tcp.flags.join(" "))
}

/// Some records of a file for programs.
pub fn to_json(explained: &Explained, records: &[&Entry]) -> Value {
    json!({
        "file": explained.path.display().to_string(),
        "cut": explained.cut,
        "records": records.iter().map(|entry| record_json(entry)).collect::<Vec<_>>(),
    })
}

fn record_json(entry: &Entry) -> Value {
    let bytes = entry.detail.offset.map(|offset| {
        let [primary, secondary] = Side::BOTH.map(|side| entry.byte_of(side, offset));
        json!({ "offset": offset, "primary": primary, "secondary": secondary })
    });
    json!({
        "record": entry.number,
        "t_ns": entry.reason.t_ns,
        "reason": entry.reason.reason,
        "flow": entry.reason.flow,
        "sentence": why(entry),
        "detail": entry.reason.detail,
        "bytes": bytes,
        "left_out": {
            "primary": entry.reason.left_out.primary,
            "secondary": entry.reason.left_out.secondary,
        },
        "frames": entry.frames.iter().map(|frame| frame_json(entry, frame)).collect::<Vec<_>>(),
    })
}

fn frame_json(entry: &Entry, frame: &Frame) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("side", frame.side.label().into());
    put("role", frame.role.label().into());
    put("frame", frame.number.into());
    put("arrival_ns", frame.arrival_ns.into());
    put("length", frame.len.into());
    put("captured", frame.bytes.len().into());
    put("flow", frame.decoded.flow.clone().into());
    put("payload_length", frame.payload().len().into());
    if let Some(tcp) = &frame.decoded.tcp {
        put("offset", entry.offset_of(frame).into());
        put("sequence", tcp.seq.into());
        put("ack", tcp.ack.into());
        put("window", tcp.window.into());
        put("flags", tcp.flags.clone().into());
        put("options", tcp.options.clone().into());
    }
    Value::Object(object)
}
