//! Frames as a guest's stack writes them, without checksums: nobody here looks at those.

use std::ops::Range;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the frames carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IPv4 and TCP without options: 54 bytes of headers.
    Tcp,
    /// IPv4 and UDP: 42 bytes of headers.
    Udp,
}

const DESTINATION: Range<usize> = 30..34;
const DESTINATION_PORT: Range<usize> = 36..38;
const TCP_SEQUENCE: Range<usize> = 38..42;
/// Flows on one client address.
const PORTS: u32 = 50_000;

impl Protocol {
    /// Ethernet, IP and transport headers, bytes.
    pub fn header_bytes(self) -> usize {
        match self {
            Self::Tcp => 54,
            Self::Udp => 42,
        }
    }

    /// A frame of `len` bytes, the same for all flows and positions.
    pub fn template(self, len: usize) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00];
        let ip_len = u16::try_from(len - 14).expect("no longer than IPv4 allows");
        frame.extend([0x45, 0]);
        frame.extend(ip_len.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, if self == Self::Tcp { 6 } else { 17 }, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 9]);
        frame.extend([0, 80, 0, 0]);
        match self {
            // Acknowledges position 1000; ACK and PSH.
            Self::Tcp => frame.extend([0, 0, 0, 0, 0, 0, 3, 232, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]),
            Self::Udp => {
                frame.extend((ip_len - 20).to_be_bytes());
                frame.extend([0, 0]);
            }
        }
        let payload = (0..len - frame.len()).map(|at| u8::try_from(at * 7 % 251).unwrap_or(0));
        let payload: Vec<_> = payload.collect();
        frame.extend(payload);
        frame
    }

    /// Makes a template a frame of one flow, at a position of its stream; `nonce` goes into the last four bytes.
    pub fn personalise(self, frame: &mut [u8], flow: u32, position: u32, nonce: u32) {
        let address = 0x0a01_0000 + flow / PORTS;
        let port = u16::try_from(1024 + flow % PORTS).unwrap_or(0);
        frame[DESTINATION].copy_from_slice(&address.to_be_bytes());
        frame[DESTINATION_PORT].copy_from_slice(&port.to_be_bytes());
        if self == Self::Tcp {
            frame[TCP_SEQUENCE].copy_from_slice(&position.to_be_bytes());
        }
        let end = frame.len();
        frame[end - 4..].copy_from_slice(&nonce.to_be_bytes());
    }
}
