//! What can be wrong with a capture. Each message is the sentence that the user reads.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::MAX_FRAME_BYTES;

/// Why a capture cannot be read or written. Frames are counted from 1, as in the lists of capture tools.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Reading it failed on the way.
    #[error("cannot read {} after frame {frames}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Complete frames before.
        frames: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is neither pcap nor pcapng: {found}", path.display())]
    NotACapture {
        /// Which file.
        path: PathBuf,
        /// What it starts with.
        found: String,
    },
    /// Its frames are not Ethernet.
    #[error(
        "{} holds {} frames, Ethernet is needed (link type 1); capture on one Ethernet interface, not on \"any\"",
        path.display(), LinkType(*link_type)
    )]
    LinkType {
        /// Which file.
        path: PathBuf,
        /// What it has instead: a number of tcpdump.org/linktypes.html.
        link_type: u16,
    },
    /// It ends too early.
    #[error("{} is truncated after frame {frames} (it ends inside {inside}); capture it again, or cut it there", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Complete frames before.
        frames: u64,
        /// Inside of what it ends.
        inside: &'static str,
    },
    /// It contradicts itself.
    #[error("{} is corrupt after frame {frames}: {problem}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Complete frames before.
        frames: u64,
        /// What is wrong.
        problem: String,
    },
    /// A frame longer than any port carries.
    #[error(
        "frame {frame} of {} has {bytes} bytes, the limit is {MAX_FRAME_BYTES}; capture with segmentation offload off",
        path.display()
    )]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Which frame, from 1.
        frame: u64,
        /// How long it is, bytes.
        bytes: u32,
    },
    /// The file to be written cannot be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Writing it failed.
    #[error("cannot write {} after frame {frames}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Complete frames before.
        frames: u64,
        /// The system's answer.
        source: io::Error,
    },
}

/// A link type with its name, where capture tools on Linux make it.
struct LinkType(u16);

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "BSD loopback",
            9 => "PPP",
            12 | 14 | 101 => "raw IP",
            105 => "802.11",
            113 => "Linux cooked (SLL)",
            127 => "802.11 radiotap",
            228 => "raw IPv4",
            229 => "raw IPv6",
            239 => "netfilter log",
            276 => "Linux cooked (SLL2)",
            other => return write!(f, "link type {other}"),
        };
        write!(f, "{name} (link type {})", self.0)
    }
}
