//! Captures what one host of a veth pair sends, and turns it into the capture files `colo replay` reads.

use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};

use crate::frame;

/// Longest frame that is legal anywhere here, bytes.
pub const LONGEST_FRAME: usize = 69_632;
/// Every kind of frame: `ETH_P_ALL`, in network order.
const ALL_PROTOCOLS: u32 = 0x0300;
/// Room for a whole run's frames, so that a slow reader loses none.
const SOCKET_BUFFER_BYTES: usize = 128 << 20;
/// Silence after which a conversation is over.
const QUIET: Duration = Duration::from_millis(300);

/// One captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Since the capture's first frame.
    pub at: Duration,
    /// Ethernet frame, checksum complete.
    pub bytes: Vec<u8>,
}

/// A socket that sees every frame of its network namespace.
pub struct Sniffer {
    socket: OwnedFd,
}

impl Sniffer {
    /// Opens it in the calling thread's namespace; capturing starts here.
    pub fn open() -> Result<Self> {
        let protocol = NonZeroU32::new(ALL_PROTOCOLS).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .context("cannot open an AF_PACKET socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(20)))?;
        Ok(Self { socket })
    }

    /// Frames sent from `source`, until `over` is set and the wire has been quiet, `limit` at most.
    pub fn collect(&self, source: [u8; 6], over: &AtomicBool, limit: Duration) -> Result<Vec<Captured>> {
        let start = Instant::now();
        let mut first = None;
        let mut last = start;
        let mut frames = Vec::new();
        let mut buffer = vec![0; LONGEST_FRAME];
        while !(over.load(Ordering::Acquire) && last.elapsed() >= QUIET) {
            if start.elapsed() > limit {
                bail!("the conversation is not over after {limit:?}; {} frames captured", frames.len());
            }
            let length = match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => length,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot read the AF_PACKET socket"),
            };
            last = Instant::now();
            if buffer[6..12] == source {
                let mut bytes = buffer[..length].to_vec();
                if let Some(layout) = frame::layout(&bytes) {
                    layout.mend_checksum(&mut bytes)?;
                }
                let at = last - *first.get_or_insert(last);
                frames.push(Captured { at, bytes });
            }
        }
        Ok(frames)
    }
}

/// Writes a pcap file, nanoseconds, Ethernet.
pub fn write_pcap(path: &Path, frames: &[Captured]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let header = PcapHeader {
        version_major: 2,
        version_minor: 4,
        ts_correction: 0,
        ts_accuracy: 0,
        snaplen: u32::try_from(LONGEST_FRAME)?,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::Little,
    };
    let mut writer = PcapWriter::with_header(BufWriter::new(file), header)?;
    for frame in frames {
        let length = u32::try_from(frame.bytes.len())?;
        writer.write_packet(&PcapPacket::new(CAPTURE_EPOCH + frame.at, length, &frame.bytes))?;
    }
    Ok(())
}

/// Both captures start here, so that their first frames are simultaneous.
const CAPTURE_EPOCH: Duration = Duration::from_secs(1_700_000_000);
