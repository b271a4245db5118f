//! Captures, in and out: pcap and pcapng files read frame by frame, pcap and pcapng files written, and both as a port.
//!
//! The readers are our own. `pcap-file` 2.0 gives every pcapng timestamp as if its unit were the nanosecond, keeps the
//! padding of simple packet blocks, and refuses snapped pcap frames (original length above the snap length) and pcapng
//! frames whose comment is no UTF-8. The tests write with it.
//!
//! Nothing here judges frames or time: timestamps are given as they are, and may go backwards.

mod error;
mod pcapng;
mod port;
mod reader;
mod rotation;
#[cfg(test)]
mod tests;
mod writer;
mod writer_ng;

pub use error::CaptureError;
pub use port::ReplayPort;
pub use reader::{Capture, CapturedFrame};
pub use rotation::{Former, RotatingWriter, Rotation};
pub use writer::CaptureWriter;
pub use writer_ng::{CommentedFrame, PcapngWriter};

/// Link type of Ethernet in both formats (`LINKTYPE_ETHERNET`, tcpdump.org/linktypes.html).
const LINK_TYPE_ETHERNET: u16 = 1;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
