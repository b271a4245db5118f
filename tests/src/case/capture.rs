//! Capture files by hand: pcap and pcapng writers, a pcap reader. The formats are a page each, and a reader of our
//! own keeps the tests independent of the library the engine uses.

use super::time::Ns;

/// How a capture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Classic pcap, nanoseconds.
    PcapNs,
    /// Classic pcap, microseconds.
    PcapUs,
    /// Classic pcap of a big-endian machine, nanoseconds.
    PcapNsBigEndian,
    /// pcapng with an interface in nanoseconds.
    PcapNgNs,
    /// pcapng whose interface says nothing, so microseconds.
    PcapNgUs,
}

/// Length of a classic file header.
pub const FILE_HEADER_LEN: usize = 24;
/// Length of a classic record header.
pub const RECORD_HEADER_LEN: usize = 16;

const MAGIC_NS: u32 = 0xA1B2_3C4D;
const MAGIC_US: u32 = 0xA1B2_C3D4;
const LINK_ETHERNET: u32 = 1;
/// Captures are not of 1970: an engine that keeps wall-clock time in 32 bits of milliseconds would show.
const BASE_NS: u64 = 1_700_000_000_000_000_000;

/// A record of a capture: time since the case's start, bytes.
pub type Record = (Ns, Vec<u8>);

/// The bytes of a capture file.
pub fn encode(format: Format, records: &[Record]) -> Vec<u8> {
    match format {
        Format::PcapNs => pcap(MAGIC_NS, 1, u32::to_le_bytes, records),
        Format::PcapUs => pcap(MAGIC_US, 1_000, u32::to_le_bytes, records),
        Format::PcapNsBigEndian => pcap(MAGIC_NS, 1, u32::to_be_bytes, records),
        Format::PcapNgNs => pcapng(Some(9), 1, records),
        Format::PcapNgUs => pcapng(None, 1_000, records),
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("fits 32 bits")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a frame is short")
}

fn pcap(magic: u32, unit_ns: u64, put: fn(u32) -> [u8; 4], records: &[Record]) -> Vec<u8> {
    let mut file = Vec::new();
    // Version 2.4 is two 16-bit fields; written as one word its halves swap with the byte order.
    let version = if put(1) == 1_u32.to_le_bytes() { 0x0004_0002 } else { 0x0002_0004 };
    for word in [magic, version, 0, 0, 0x0004_0000, LINK_ETHERNET] {
        file.extend(put(word));
    }
    for (at, bytes) in records {
        let time = BASE_NS + at.0;
        let (seconds, fraction) = (time / 1_000_000_000, time % 1_000_000_000 / unit_ns);
        for word in [narrow(seconds), narrow(fraction), length(bytes), length(bytes)] {
            file.extend(put(word));
        }
        file.extend(bytes);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = body.len().next_multiple_of(4) - body.len();
    let total = length(body) + narrow(u64::try_from(padding).expect("at most 3")) + 12;
    let mut block = Vec::new();
    block.extend(kind.to_le_bytes());
    block.extend(total.to_le_bytes());
    block.extend(body);
    block.extend(std::iter::repeat_n(0, padding));
    block.extend(total.to_le_bytes());
    block
}

fn pcapng(resolution: Option<u8>, unit_ns: u64, records: &[Record]) -> Vec<u8> {
    let mut section = Vec::new();
    section.extend(0x1A2B_3C4D_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    section.extend(u64::MAX.to_le_bytes());
    let mut file = block(0x0A0D_0D0A, &section);
    let mut interface = vec![1, 0, 0, 0];
    interface.extend(0_u32.to_le_bytes());
    if let Some(exponent) = resolution {
        // if_tsresol (9), one byte, padded; then end of options.
        interface.extend([9, 0, 1, 0, exponent, 0, 0, 0, 0, 0, 0, 0]);
    }
    file.extend(block(1, &interface));
    for (at, bytes) in records {
        let time = (BASE_NS + at.0) / unit_ns;
        let mut packet = Vec::new();
        packet.extend(0_u32.to_le_bytes());
        packet.extend(narrow(time >> 32).to_le_bytes());
        packet.extend(narrow(time & 0xFFFF_FFFF).to_le_bytes());
        packet.extend(length(bytes).to_le_bytes());
        packet.extend(length(bytes).to_le_bytes());
        packet.extend(bytes);
        file.extend(block(6, &packet));
    }
    file
}

/// A capture read back: its records and the length of one tick in nanoseconds.
#[derive(Debug)]
pub struct Decoded {
    /// The frames, times since the case's start.
    pub records: Vec<Record>,
    /// 1 or 1,000.
    pub unit_ns: u64,
}

/// Reads a classic little-endian pcap, the kind `colo` writes here.
pub fn decode(file: &[u8]) -> Result<Decoded, String> {
    let word = |at: usize| -> Result<u32, String> {
        let bytes = file.get(at..at + 4).ok_or_else(|| format!("cut off at byte {at}"))?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| "four bytes")?))
    };
    let unit_ns = match word(0)? {
        MAGIC_NS => 1,
        MAGIC_US => 1_000,
        other => return Err(format!("magic {other:#x} is not a little-endian pcap's")),
    };
    if word(20)? != LINK_ETHERNET {
        return Err(format!("link type {} is not Ethernet", word(20)?));
    }
    let mut records = Vec::new();
    let mut at = FILE_HEADER_LEN;
    while at < file.len() {
        let time = u64::from(word(at)?) * 1_000_000_000 + u64::from(word(at + 4)?) * unit_ns;
        let len = usize::try_from(word(at + 8)?).map_err(|e| e.to_string())?;
        let start = at + RECORD_HEADER_LEN;
        let bytes = file.get(start..start + len).ok_or_else(|| format!("record cut off at byte {at}"))?;
        let since = time.checked_sub(BASE_NS).ok_or("a release before the case began")?;
        records.push((Ns(since), bytes.to_vec()));
        at = start + len;
    }
    Ok(Decoded { records, unit_ns })
}
