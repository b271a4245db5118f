//! The capture reader against any file, in one piece and in several: the same frames or the same sentence, frames that
//! a port can carry, and what the writer writes of them reads the same again.

use pmd_tap::{Capture, CaptureError, CaptureWriter, CapturedFrame, MAX_FRAME_BYTES};

use super::bytes::Bytes;
use super::scratch::{MOST_PIECE_BYTES, MOST_PIECES, Scratch};

/// The first second that pcap cannot say.
const PCAP_END_NS: u64 = (1 << 32) * 1_000_000_000;
/// What a file must have for each frame at least: an empty one in a simple packet block.
const LEAST_FRAME_BYTES: usize = 16;

/// What a file gives: frames, and the sentence that ended them.
type Read = (Vec<CapturedFrame>, Option<String>);

/// A file; its first two bytes say into which pieces it is cut.
pub fn captures(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let sizes: [u8; 2] = bytes.array();
    let content = bytes.rest();

    let file = Scratch::file(content);
    let whole = read(&file);
    judge(&whole, content.len());
    if let Some(pipe) = in_pieces(sizes, content) {
        assert_eq!(read(&pipe), whole, "in pieces");
    }
    round_trip(whole.0);
}

fn in_pieces(sizes: [u8; 2], content: &[u8]) -> Option<Scratch> {
    let mut pieces = Vec::new();
    let mut rest = content;
    for size in sizes.iter().cycle().take(MOST_PIECES - 1) {
        let (piece, behind) = rest.split_at((usize::from(*size) + 1).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    // A read of nothing would be the end.
    pieces.retain(|piece| !piece.is_empty());
    (rest.len() <= MOST_PIECE_BYTES).then(|| Scratch::pieces(pieces.into_iter())).flatten()
}

fn read(file: &Scratch) -> Read {
    let sentence = |error: CaptureError| {
        let sentence = error.to_string();
        assert!(!sentence.is_empty() && !sentence.contains(char::is_control), "{sentence:?}");
        Some(sentence.replace(&file.path().display().to_string(), "FILE"))
    };
    let mut capture = match Capture::open(file.path()) {
        Ok(capture) => capture,
        Err(error) => return (Vec::new(), sentence(error)),
    };
    let mut frames = Vec::new();
    let ended = loop {
        match capture.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break None,
            Err(error) => break sentence(error),
        }
    };
    assert!(matches!(capture.next_frame(), Ok(None)), "something comes after the end");
    assert_eq!(usize::try_from(capture.frames()), Ok(frames.len()));
    (frames, ended)
}

fn judge((frames, _): &Read, file_bytes: usize) {
    assert!(frames.len() * LEAST_FRAME_BYTES <= file_bytes, "{} frames of {file_bytes} bytes", frames.len());
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert!(bytes <= file_bytes, "more bytes came out than are in the file");
    for frame in frames {
        assert!(frame.bytes.len() <= MAX_FRAME_BYTES, "a frame that no port carries");
    }
}

/// The writer takes every frame whose time pcap can say, and the reader gives it back.
fn round_trip(mut frames: Vec<CapturedFrame>) {
    let file = Scratch::file(b"");
    let mut writer = CaptureWriter::create(file.path()).expect("a file in memory");
    frames.retain(|frame| {
        let written = writer.write(frame.timestamp_ns, &frame.bytes);
        assert_eq!(written.is_ok(), frame.timestamp_ns < PCAP_END_NS, "{} ns", frame.timestamp_ns);
        written.is_ok()
    });
    assert_eq!(usize::try_from(writer.frames()), Ok(frames.len()));
    writer.finish().expect("memory takes bytes");
    for frame in &mut frames {
        frame.original_len = u32::try_from(frame.bytes.len()).expect("a frame is short");
        // pcap, which is written here, has no comments; pcapng, which may have been read, has.
        frame.comment = None;
    }
    assert_eq!(read(&file), (frames, None), "written and read again");
}
