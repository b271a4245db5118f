//! The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, blocks, and the time of an interface.

use super::reader::{Order, SECTION_HEADER, Source, index};
use super::{CaptureError, CapturedFrame, NANOS_PER_SECOND};

/// The longest block whose content is read (Wireshark's limit): above it the file is corrupt. Others are passed over.
const MAX_BLOCK_BYTES: u32 = 16 * 1024 * 1024;
/// Most interfaces of a section. Files have a handful; a hostile one must not fill the memory with them.
pub(super) const MAX_INTERFACES: usize = 65_536;
/// Type, length, length again.
const BLOCK_FRAME_BYTES: u32 = 12;

const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// The state of a pcapng file between blocks.
#[derive(Debug)]
pub(super) struct Sections {
    order: Order,
    interfaces: Vec<Interface>,
    last_timestamp_ns: u64,
    /// The content of the current block.
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    /// Longest frame captured, bytes; 0: no limit.
    snap_len: u32,
    resolution: Resolution,
    offset_s: i64,
}

/// What fraction of a second a tick is (`if_tsresol`).
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// 10^-n
    Decimal(u32),
    /// 2^-n
    Binary(u32),
}

impl Interface {
    /// Nanoseconds since the epoch; what does not fit is the nearest that does.
    fn nanos(self, ticks: u64) -> u64 {
        let scaled = u128::from(ticks) * u128::from(NANOS_PER_SECOND);
        let nanos = match self.resolution {
            Resolution::Binary(exponent) => scaled >> exponent,
            Resolution::Decimal(exponent) => 10_u128.checked_pow(exponent).map_or(0, |unit| scaled / unit),
        };
        let offset = i128::from(self.offset_s) * i128::from(NANOS_PER_SECOND);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }
}

impl Sections {
    /// Reads the first section header, whose type has been read.
    pub(super) fn open(source: &mut Source) -> Result<Self, CaptureError> {
        let mut sections =
            Self { order: Order::Little, interfaces: Vec::new(), last_timestamp_ns: 0, block: Vec::new() };
        let mut len = [0; 4];
        source.read(&mut len, "its header")?;
        sections.section(source, len)?;
        Ok(sections)
    }

    /// The next frame, with whatever blocks stand before it.
    pub(super) fn next_frame(&mut self, source: &mut Source) -> Result<Option<CapturedFrame>, CaptureError> {
        let mut head = [0_u8; 8];
        while source.read_or_end(&mut head, "a block's header")? {
            let [a, b, c, d, len @ ..] = head;
            if [a, b, c, d] == SECTION_HEADER {
                self.section(source, len)?;
                continue;
            }
            let kind = self.order.u32([a, b, c, d]);
            let len = block_len(source, self.order.u32(len))?;
            match kind {
                INTERFACE => {
                    self.read_block(source, len, "an interface block")?;
                    let interface = self.interface(source)?;
                    if self.interfaces.len() == MAX_INTERFACES {
                        let sentence = format!("a section describes more than {MAX_INTERFACES} interfaces");
                        return Err(source.corrupt(sentence));
                    }
                    self.interfaces.push(interface);
                }
                ENHANCED_PACKET | OBSOLETE_PACKET | SIMPLE_PACKET => {
                    self.read_block(source, len, "a packet block")?;
                    let frame = if kind == SIMPLE_PACKET {
                        self.simple_packet(source)
                    } else {
                        self.packet(source, kind)
                    };
                    return frame.map(Some);
                }
                _ => {
                    source.skip(u64::from(len), "a block")?;
                    self.end_block(source, len)?;
                }
            }
        }
        Ok(None)
    }

    /// A section header behind its type: the byte order is in its content, and interfaces start again.
    fn section(&mut self, source: &mut Source, len: [u8; 4]) -> Result<(), CaptureError> {
        const INSIDE: &str = "a section header";
        let mut magic = [0; 4];
        source.read(&mut magic, INSIDE)?;
        self.order = match magic {
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            _ => return Err(source.corrupt("a section header has no byte-order mark")),
        };
        let len = block_len(source, self.order.u32(len))?;
        // Byte-order mark, version, section length.
        let Some(rest) = len.checked_sub(16) else {
            return Err(source.corrupt("a section header is too short"));
        };
        let mut version = [0; 2];
        source.read(&mut version, INSIDE)?;
        let version = self.order.u16(version);
        if version != 1 {
            return Err(source
                .corrupt(format!("its format has version {version}, known is 1; convert it with editcap")));
        }
        source.skip(u64::from(rest) + 10, INSIDE)?;
        self.end_block(source, len)?;
        self.interfaces.clear();
        Ok(())
    }

    /// A block's content into `self.block`.
    fn read_block(
        &mut self,
        source: &mut Source,
        len: u32,
        inside: &'static str,
    ) -> Result<(), CaptureError> {
        if len > MAX_BLOCK_BYTES {
            return Err(source.corrupt(format!("its next block would have {len} bytes")));
        }
        self.block.resize(index(len), 0);
        source.read(&mut self.block, inside)?;
        self.end_block(source, len)
    }

    /// The length again, behind the content.
    fn end_block(&self, source: &mut Source, len: u32) -> Result<(), CaptureError> {
        let mut again = [0; 4];
        source.read(&mut again, "a block")?;
        let again = self.order.u32(again);
        if again != len + BLOCK_FRAME_BYTES {
            let len = len + BLOCK_FRAME_BYTES;
            return Err(source.corrupt(format!("a block has length {len} in front and {again} behind")));
        }
        Ok(())
    }

    fn interface(&self, source: &Source) -> Result<Interface, CaptureError> {
        let Some((head, mut options)) = self.block.split_first_chunk::<8>() else {
            return Err(source.corrupt("an interface block is too short"));
        };
        let mut interface = Interface {
            link_type: self.order.u16([head[0], head[1]]),
            snap_len: self.order.word(head, 1),
            resolution: Resolution::Decimal(6),
            offset_s: 0,
        };
        while let Some(([a, b, c, d], rest)) = options.split_first_chunk() {
            let (code, len) = (self.order.u16([*a, *b]), usize::from(self.order.u16([*c, *d])));
            if code == OPTION_END {
                break;
            }
            let Some(value) = rest.get(..len) else {
                return Err(source.corrupt("an interface's option is longer than its block"));
            };
            match (code, value) {
                (OPTION_RESOLUTION, [value]) => interface.resolution = resolution(*value),
                (OPTION_OFFSET, value) => {
                    let value = value.first_chunk().filter(|_| value.len() == 8);
                    let value =
                        value.ok_or_else(|| source.corrupt("an interface's time offset is no 8 bytes"))?;
                    interface.offset_s = self.order.i64(*value);
                }
                (OPTION_RESOLUTION, _) => {
                    return Err(source.corrupt("an interface's time resolution is not one byte"));
                }
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(interface)
    }

    fn the_interface(&self, source: &Source, number: u32) -> Result<Interface, CaptureError> {
        let interface = self.interfaces.get(index(number)).copied().ok_or_else(|| {
            let known = self.interfaces.len();
            source.corrupt(format!("a frame names interface {number}, its section describes {known}"))
        })?;
        source.judge_link_type(interface.link_type)?;
        Ok(interface)
    }

    /// An enhanced packet block; the obsolete one differs in its first word.
    fn packet(&mut self, source: &Source, kind: u32) -> Result<CapturedFrame, CaptureError> {
        let Some((head, rest)) = self.block.split_first_chunk::<20>() else {
            return Err(source.corrupt("a packet block is too short"));
        };
        let word = |number| self.order.word(head, number);
        let interface = match kind {
            OBSOLETE_PACKET => u32::from(self.order.u16([head[0], head[1]])),
            _ => word(0),
        };
        let interface = self.the_interface(source, interface)?;
        source.judge_len(word(3))?;
        let Some(bytes) = rest.get(..index(word(3))) else {
            return Err(source.corrupt("a frame is longer than its block"));
        };
        let ticks = u64::from(word(1)) << 32 | u64::from(word(2));
        let timestamp_ns = interface.nanos(ticks);
        let options = rest.get(bytes.len().next_multiple_of(4)..).unwrap_or_default();
        let comment = self.comment(options);
        let frame = CapturedFrame { timestamp_ns, bytes: bytes.to_vec(), original_len: word(4), comment };
        self.last_timestamp_ns = timestamp_ns;
        Ok(frame)
    }

    /// The first comment among a packet's options. What is wrong with them harms no frame.
    fn comment(&self, mut options: &[u8]) -> Option<String> {
        while let Some(([a, b, c, d], rest)) = options.split_first_chunk() {
            let (code, len) = (self.order.u16([*a, *b]), usize::from(self.order.u16([*c, *d])));
            let value = rest.get(..len)?;
            match code {
                OPTION_END => return None,
                OPTION_COMMENT => return Some(String::from_utf8_lossy(value).into_owned()),
                _ => options = rest.get(len.next_multiple_of(4)..).unwrap_or_default(),
            }
        }
        None
    }

    /// A simple packet block: of the first interface, as long as it was or as the snap length lets it be.
    fn simple_packet(&self, source: &Source) -> Result<CapturedFrame, CaptureError> {
        let Some((original_len, rest)) = self.block.split_first_chunk() else {
            return Err(source.corrupt("a packet block is too short"));
        };
        let original_len = self.order.u32(*original_len);
        let interface = self.the_interface(source, 0)?;
        let snap_len = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
        let len = original_len.min(snap_len);
        source.judge_len(len)?;
        let Some(bytes) = rest.get(..index(len)) else {
            return Err(source.corrupt("a frame is longer than its block"));
        };
        Ok(CapturedFrame {
            timestamp_ns: self.last_timestamp_ns,
            bytes: bytes.to_vec(),
            original_len,
            comment: None,
        })
    }
}

/// The bytes of a block's content, from its announced length.
fn block_len(source: &Source, len: u32) -> Result<u32, CaptureError> {
    match len.checked_sub(BLOCK_FRAME_BYTES) {
        Some(content) if len.is_multiple_of(4) => Ok(content),
        _ => Err(source.corrupt(format!("a block has the impossible length {len}"))),
    }
}

fn resolution(value: u8) -> Resolution {
    let exponent = u32::from(value & 0x7f);
    if value & 0x80 == 0 { Resolution::Decimal(exponent) } else { Resolution::Binary(exponent) }
}
