//! Captures of every flavour, cut anywhere, damaged anywhere.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;

use super::pcapng::MAX_INTERFACES;
use super::*;
use crate::{Burst, FramePool, LinkEvent, MAX_FRAME_BYTES, Nanos, PoolSettings, Port, RxState};

type Frames = Vec<(u64, Vec<u8>)>;

/// A file in a folder that goes with it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The frames of a capture with that content, and how it ended.
    fn read(&self, content: &[u8]) -> (Vec<CapturedFrame>, Option<CaptureError>) {
        let path = self.path("c");
        std::fs::write(&path, content).unwrap();
        let mut capture = match Capture::open(&path) {
            Ok(capture) => capture,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut frames = Vec::new();
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => {
                    assert!(capture.next_frame().unwrap().is_none(), "nothing after an error");
                    assert_eq!(capture.frames(), u64::try_from(frames.len()).unwrap());
                    return (frames, Some(error));
                }
            }
        }
    }

    fn good(&self, content: &[u8]) -> Frames {
        let (frames, error) = self.read(content);
        assert!(error.is_none(), "{}", error.unwrap());
        frames.into_iter().map(|frame| (frame.timestamp_ns, frame.bytes)).collect()
    }

    /// How many frames came before the error, and its sentence from behind the file's name.
    fn bad(&self, content: &[u8]) -> (usize, String) {
        let (frames, error) = self.read(content);
        let sentence = error.expect("an error").to_string();
        let name = self.path("c").display().to_string();
        (frames.len(), sentence.replace(&name, "C"))
    }
}

fn pcap(order: Endianness, resolution: TsResolution, frames: &Frames) -> Vec<u8> {
    let header = PcapHeader {
        endianness: order,
        ts_resolution: resolution,
        snaplen: 262_144,
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (ns, bytes) in frames {
        let len = u32::try_from(bytes.len()).unwrap();
        writer.write_packet(&PcapPacket::new(Duration::from_nanos(*ns), len, bytes)).unwrap();
    }
    writer.into_writer()
}

/// Writes pcapng block by block, in either byte order.
struct Blocks {
    big: bool,
    bytes: Vec<u8>,
}

impl Blocks {
    fn new(big: bool) -> Self {
        let mut blocks = Self { big, bytes: Vec::new() };
        blocks.section();
        blocks
    }

    fn u16(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn block(&mut self, kind: u32, content: &[u8]) -> &mut Self {
        let padded = content.len().next_multiple_of(4);
        let len = self.u32(u32::try_from(padded + 12).unwrap());
        let kind = self.u32(kind);
        self.bytes.extend(kind);
        self.bytes.extend(len);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len() + padded - content.len(), 0);
        self.bytes.extend(len);
        self
    }

    fn section(&mut self) -> &mut Self {
        let content = [
            &self.u32(0x1a2b_3c4d)[..],
            &self.u16(1),
            &self.u16(0),
            &[0xff; 8],
            &self.option(4, b"colo!"),
            &[0; 4],
        ]
        .concat();
        self.block(0x0a0d_0d0a, &content)
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.u16(code), self.u16(u16::try_from(value.len()).unwrap())].concat();
        option.extend(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(&mut self, link_type: u16, snap_len: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut content = [&self.u16(link_type)[..], &[0; 2], &self.u32(snap_len)].concat();
        for (code, value) in options {
            content.extend(self.option(*code, value));
        }
        content.extend([0; 4]);
        self.block(1, &content)
    }

    fn packet(&mut self, kind: u32, interface: u32, ticks: u64, frame: &[u8]) -> &mut Self {
        let len = u32::try_from(frame.len()).unwrap();
        let interface = if kind == 2 {
            [self.u16(u16::try_from(interface).unwrap()), self.u16(7)].concat()
        } else {
            self.u32(interface).to_vec()
        };
        let high = self.u32(u32::try_from(ticks >> 32).unwrap());
        let low = self.u32(u32::try_from(ticks & 0xffff_ffff).unwrap());
        let mut content = [&interface[..], &high, &low, &self.u32(len), &self.u32(len), frame].concat();
        content.resize(content.len().next_multiple_of(4), 0xee);
        content.extend(self.option(1, b"a comment that is no UTF-8 \xff\xfe"));
        content.extend([0; 4]);
        self.block(kind, &content)
    }

    fn simple(&mut self, original_len: u32, frame: &[u8]) -> &mut Self {
        let content = [&self.u32(original_len)[..], frame].concat();
        self.block(3, &content)
    }
}

fn three() -> Frames {
    // Backwards in time, odd lengths.
    vec![
        (1_700_000_000_123_456_000, vec![1; 60]),
        (1_700_000_000_000_001_000, vec![2; 61]),
        (5_000, vec![3; 1514]),
    ]
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    let scratch = Scratch::new();
    for order in [Endianness::Big, Endianness::Little] {
        for resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
            assert_eq!(scratch.good(&pcap(order, resolution, &three())), three());
        }
        let frames = vec![(1_700_000_000_999_999_999, vec![9; 64])];
        assert_eq!(scratch.good(&pcap(order, TsResolution::NanoSecond, &frames)), frames);
        assert_eq!(scratch.good(&pcap(order, TsResolution::MicroSecond, &vec![])), vec![]);
    }
}

#[test]
fn a_snapped_frame_keeps_its_original_length() {
    let scratch = Scratch::new();
    let mut file = pcap(Endianness::Little, TsResolution::NanoSecond, &vec![(7, vec![1; 96])]);
    file[16..20].copy_from_slice(&96_u32.to_le_bytes());
    file[36..40].copy_from_slice(&1514_u32.to_le_bytes());
    let (frames, error) = scratch.read(&file);
    assert!(error.is_none());
    assert_eq!((frames[0].bytes.len(), frames[0].original_len), (96, 1514));
}

#[test]
fn pcapng_interfaces_have_their_own_time() {
    let scratch = Scratch::new();
    for big in [false, true] {
        let mut file = Blocks::new(big);
        let hour = if big { 3600_i64.to_be_bytes() } else { 3600_i64.to_le_bytes() };
        let back = if big { (-1_i64).to_be_bytes() } else { (-1_i64).to_le_bytes() };
        file.interface(1, 0, &[])
            .interface(1, 262_144, &[(2, b"eth1"), (9, &[9])])
            .interface(1, 0, &[(9, &[0x8a]), (14, &hour)])
            .interface(1, 0, &[(14, &back)])
            .interface(1, 0, &[(9, &[127])])
            .packet(6, 0, 1_700_000_000_123_456, b"us")
            .packet(6, 1, 1_700_000_000_123_456_789, b"nanos")
            .block(0x0bad, b"whatever this may be")
            .packet(6, 2, 1536, b"1/1024 s, plus an hour")
            .packet(6, 3, 2_000_000, b"back a second")
            .packet(6, 3, 0, b"before the epoch")
            .packet(2, 1, 42, b"obsolete");
        let expected: Frames = vec![
            (1_700_000_000_123_456_000, b"us".to_vec()),
            (1_700_000_000_123_456_789, b"nanos".to_vec()),
            (3_601_500_000_000, b"1/1024 s, plus an hour".to_vec()),
            (1_000_000_000, b"back a second".to_vec()),
            (0, b"before the epoch".to_vec()),
            (42, b"obsolete".to_vec()),
        ];
        assert_eq!(scratch.good(&file.bytes), expected);
        // Another section, in the other order, has its own interfaces.
        file.big = !big;
        file.section().interface(1, 0, &[(9, &[0])]).packet(6, 0, 8, b"seconds");
        assert_eq!(scratch.good(&file.bytes).last(), Some(&(8_000_000_000, b"seconds".to_vec())));
        file.section().packet(6, 0, 8, b"of whom?");
        let (frames, sentence) = scratch.bad(&file.bytes);
        assert_eq!(frames, 7);
        assert_eq!(
            sentence,
            "C is corrupt after frame 7: a frame names interface 0, its section describes 0"
        );
    }
}

#[test]
fn interfaces_are_bounded() {
    let scratch = Scratch::new();
    let mut file = Blocks::new(false);
    (0..MAX_INTERFACES).for_each(|_| _ = file.interface(1, 0, &[]));
    file.packet(6, u32::try_from(MAX_INTERFACES - 1).unwrap(), 1, b"of the last");
    assert_eq!(scratch.good(&file.bytes).len(), 1);
    file.interface(1, 0, &[]);
    let (frames, sentence) = scratch.bad(&file.bytes);
    assert_eq!(frames, 1);
    assert_eq!(sentence, "C is corrupt after frame 1: a section describes more than 65536 interfaces");
}

#[test]
fn a_simple_packet_has_no_padding_and_its_predecessors_time() {
    let scratch = Scratch::new();
    let mut file = Blocks::new(false);
    file.interface(1, 6, &[])
        .simple(5, b"first")
        .packet(6, 0, 3, b"timed")
        .simple(900, b"sixsix")
        .simple(3, b"end");
    let (frames, error) = scratch.read(&file.bytes);
    assert!(error.is_none());
    let told: Vec<_> =
        frames.iter().map(|frame| (frame.timestamp_ns, &frame.bytes[..], frame.original_len)).collect();
    let expected: [(u64, &[u8], u32); 4] =
        [(0, b"first", 5), (3000, b"timed", 5), (3000, b"sixsix", 900), (3000, b"end", 3)];
    assert_eq!(told, expected);
}

#[test]
fn what_pcap_file_writes_is_read() {
    let scratch = Scratch::new();
    for order in [Endianness::Big, Endianness::Little] {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), order).unwrap();
        writer.write_pcapng_block(InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0)).unwrap();
        for (_, bytes) in three() {
            let block = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::from_nanos(5),
                original_len: u32::try_from(bytes.len()).unwrap(),
                data: Cow::Owned(bytes),
                options: vec![EnhancedPacketOption::Comment("mismatch".into())],
            };
            writer.write_pcapng_block(block).unwrap();
        }
        let expected: Frames = three().into_iter().map(|(_, bytes)| (5_000, bytes)).collect();
        assert_eq!(scratch.good(&writer.into_inner()), expected);
    }
}

/// Cuts the file at every offset: the frames that are whole are given, and the sentence counts them.
fn cut_everywhere(file: &[u8], ends: &[usize], boundaries: &[usize]) {
    let scratch = Scratch::new();
    for cut in 0..file.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (frames, error) = scratch.read(&file[..cut]);
        assert_eq!(frames.len(), whole, "cut at {cut}");
        match error {
            None => assert!(boundaries.contains(&cut), "cut at {cut} is not noticed"),
            Some(CaptureError::NotACapture { .. }) => assert!(cut < 4, "cut at {cut}"),
            Some(CaptureError::Truncated { frames, .. }) => {
                assert_eq!(frames, u64::try_from(whole).unwrap(), "cut at {cut}");
                assert!(!boundaries.contains(&cut), "cut at {cut}");
            }
            Some(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn truncated_anywhere() {
    let frames = three();
    for order in [Endianness::Big, Endianness::Little] {
        let file = pcap(order, TsResolution::NanoSecond, &frames);
        let ends = [24 + 76, 24 + 76 + 77, file.len()];
        cut_everywhere(&file, &ends, &[24, ends[0], ends[1]]);
    }
    for big in [false, true] {
        let mut file = Blocks::new(big);
        let mut boundaries = vec![file.bytes.len()];
        boundaries.push(file.interface(1, 0, &[(9, &[9])]).bytes.len());
        let mut ends = vec![file.packet(6, 0, 1, &[1; 61]).bytes.len()];
        ends.push(file.simple(3, b"end").bytes.len());
        boundaries.push(file.block(5, &[0; 40]).bytes.len());
        boundaries.push(file.section().bytes.len());
        boundaries.push(file.interface(1, 0, &[]).bytes.len());
        ends.push(file.packet(2, 0, 1, &[3; 90]).bytes.len());
        boundaries.extend(&ends);
        cut_everywhere(&file.bytes, &ends, &boundaries);
    }
}

#[test]
fn a_sentence_for_every_fault() {
    let scratch = Scratch::new();
    let cut = pcap(Endianness::Little, TsResolution::NanoSecond, &three());
    let sentence = |content: &[u8]| scratch.bad(content).1;
    assert_eq!(
        sentence(&cut[..cut.len() - 1]),
        "C is truncated after frame 2 (it ends inside a frame); capture it again, or cut it there"
    );
    assert_eq!(sentence(b""), "C is neither pcap nor pcapng: it is empty");
    assert_eq!(sentence(b"#!/bin/sh"), "C is neither pcap nor pcapng: it starts with 23 21 2f 62");
    assert_eq!(sentence(b"ab"), "C is neither pcap nor pcapng: it starts with 61 62 and ends there");
    assert!(sentence(b"\x1f\x8b\x08\x00...").ends_with("which is gzip; unpack it first"));
    let mut cooked = cut.clone();
    cooked[20..24].copy_from_slice(&276_u32.to_le_bytes());
    let expected = "C holds Linux cooked (SLL2) (link type 276) frames, Ethernet is needed (link type 1); \
                    capture on one Ethernet interface, not on \"any\"";
    assert_eq!(sentence(&cooked), expected);
    let mut file = Blocks::new(true);
    assert_eq!(sentence(&file.interface(276, 0, &[]).packet(6, 0, 0, b"x").bytes), expected);
    let mut long = cut.clone();
    long[32..36].copy_from_slice(&69_633_u32.to_le_bytes());
    assert_eq!(
        sentence(&long),
        "frame 1 of C has 69633 bytes, the limit is 69632; capture with segmentation offload off"
    );
    long[32..36].copy_from_slice(&0x6000_0000_u32.to_le_bytes());
    assert_eq!(sentence(&long), "C is corrupt after frame 0: its next frame would have 1610612736 bytes");
    let path = scratch.path("none");
    let error = Capture::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open {}: No such file", path.display())), "{error}");
    let error = Capture::open(scratch.0.path()).unwrap_err().to_string();
    assert!(error.contains("after frame 0: Is a directory"), "{error}");
}

#[test]
fn corrupt_blocks_are_named() {
    let scratch = Scratch::new();
    let good = || {
        let mut file = Blocks::new(false);
        file.interface(1, 0, &[]).packet(6, 0, 1, b"good").packet(6, 0, 1, b"bad");
        file.bytes
    };
    let expect = |bytes: &[u8], sentence: &str| assert_eq!(scratch.bad(bytes).1, sentence);
    let last = good().len() - 1;
    let mut file = good();
    file[last] = 1;
    let sentence = scratch.bad(&file).1;
    assert!(sentence.starts_with("C is corrupt after frame 1: a block has length "), "{sentence}");
    let mut file = Blocks::new(false);
    file.bytes[8] = 0;
    expect(&file.bytes, "C is corrupt after frame 0: a section header has no byte-order mark");
    let mut file = Blocks::new(false);
    file.bytes[12] = 2;
    expect(
        &file.bytes,
        "C is corrupt after frame 0: its format has version 2, known is 1; convert it with editcap",
    );
    let mut file = good();
    file.extend([6, 0, 0, 0, 13, 0, 0, 0]);
    expect(&file, "C is corrupt after frame 2: a block has the impossible length 13");
    let mut file = good();
    file.extend([6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff]);
    expect(&file, "C is corrupt after frame 2: its next block would have 4294967280 bytes");
    let mut file = Blocks::new(false);
    file.interface(1, 0, &[(9, &[9, 9])]);
    expect(&file.bytes, "C is corrupt after frame 0: an interface's time resolution is not one byte");
    let mut file = Blocks::new(false);
    file.interface(1, 0, &[]).simple(9, b"short");
    expect(&file.bytes, "C is corrupt after frame 0: a frame is longer than its block");
    let mut file = Blocks::new(false);
    file.interface(1, 0, &[]).block(6, &[0; 8]);
    expect(&file.bytes, "C is corrupt after frame 0: a packet block is too short");
}

#[test]
fn what_is_written_is_read_here_and_elsewhere() {
    let scratch = Scratch::new();
    let path = scratch.path("out.pcap");
    let mut frames = three();
    frames.push((u64::from(u32::MAX) * 1_000_000_000 + 999_999_999, vec![4; MAX_FRAME_BYTES]));
    let mut writer = CaptureWriter::create(&path).unwrap();
    for (ns, bytes) in &frames {
        writer.write(*ns, bytes).unwrap();
    }
    assert!(
        writer.write(u64::MAX, b"in 2554").unwrap_err().to_string().contains("pcap cannot say a time of")
    );
    assert!(writer.write(0, &vec![0; MAX_FRAME_BYTES + 1]).is_err());
    assert_eq!(writer.frames(), 4);
    writer.finish().unwrap();
    let ours: Vec<_> = Capture::open(&path).unwrap().map(|frame| frame.unwrap()).collect();
    assert!(
        ours.iter().zip(&frames).all(|(ours, (ns, bytes))| ours.timestamp_ns == *ns && ours.bytes == *bytes)
    );
    let mut reader = PcapReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    for (ns, bytes) in &frames {
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!((packet.timestamp, &packet.data[..]), (Duration::from_nanos(*ns), &bytes[..]));
    }
    assert!(reader.next_packet().is_none());
    let error = CaptureWriter::create(scratch.path("no/such")).unwrap_err().to_string();
    assert!(error.starts_with("cannot create "), "{error}");
}

#[test]
fn a_capture_as_port() {
    let scratch = Scratch::new();
    let (input, output) = (scratch.path("in.pcap"), scratch.path("out.pcap"));
    let frames: Frames = (0..50).map(|n| (u64::from(n), vec![n; 64])).collect();
    let mut file = pcap(Endianness::Little, TsResolution::NanoSecond, &frames);
    file.extend([0; 3]);
    std::fs::write(&input, file).unwrap();
    let mut pool = FramePool::new(PoolSettings { small: 40, mtu: 0, jumbo: 0, gso: 0 }).unwrap();
    let mut port = ReplayPort::input(&input).unwrap();
    let mut out = ReplayPort::output(&output).unwrap();
    assert!(port.is_up() && matches!(port.poll_link(), Some(LinkEvent::Up { .. })));
    let (mut one, mut two) = (Burst::new(), Burst::new());
    assert_eq!(port.rx_burst(&mut pool, Nanos(1), &mut one), RxState::More);
    assert_eq!(port.rx_burst(&mut pool, Nanos(2), &mut two), RxState::PoolEmpty);
    assert_eq!((one.len(), two.len()), (32, 8));
    port.tx_burst(&mut pool, Nanos(3), &mut one);
    assert_eq!(one.len(), 32, "an input takes nothing");
    out.tx_burst(&mut pool, Nanos(3), &mut one);
    out.tx_burst(&mut pool, Nanos(4), &mut two);
    assert_eq!(port.rx_burst(&mut pool, Nanos(5), &mut one), RxState::Down);
    assert_eq!((one.len(), one[9].ordinal(), one[9].arrival()), (10, 49, Nanos(5)));
    let Some(LinkEvent::Refused { reason }) = port.poll_link() else { panic!("the file is truncated") };
    assert!(reason.contains("is truncated after frame 50"), "{reason}");
    assert!(!port.is_up());
    out.tx_burst(&mut pool, Nanos(5), &mut one);
    assert!(out.flush() && out.is_up());
    assert_eq!(out.rx_burst(&mut pool, Nanos(6), &mut one), RxState::Empty);
    let written: Vec<_> = Capture::open(&output).unwrap().map(|frame| frame.unwrap()).collect();
    assert!(written.iter().zip(&frames).all(|(written, (_, bytes))| written.bytes == *bytes));
    assert_eq!((written.len(), written[39].timestamp_ns, written[40].timestamp_ns), (50, 4, 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the bytes, reading ends, in frames and at most one sentence.
    #[test]
    fn garbage_never_panics(
        start in prop::sample::select(vec![
            &b""[..], b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0",
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
        ]),
        rest in prop::collection::vec(prop_oneof![3 => Just(0_u8), 2 => 0_u8..32, 1 => any::<u8>()], 0..300),
    ) {
        let _ = Scratch::new().read(&[start, &rest].concat());
    }

    /// A good pcapng file with some bytes changed.
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = Blocks::new(false);
        file.interface(1, 0, &[(9, &[9]), (14, &[1; 8])]).packet(6, 0, 9, &[1; 60]).simple(3, b"end");
        let len = file.bytes.len();
        for (place, value) in changes {
            file.bytes[place.index(len)] = value;
        }
        let _ = Scratch::new().read(&file.bytes);
    }
}
