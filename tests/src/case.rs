//! A catalogue case: what both guests send and when, written as two captures, replayed, and judged. It reads like
//! a row of comparison.md §8; what must hold for every case is checked on every run (`invariants.rs`).
//!
//! Frames are counted from 0 in each capture, as the verdicts count them: after `handshake` the SYN/ACK is frame 0
//! of either side and the first data is frame 1.

mod capture;
mod carriage;
mod cut;
mod departures;
mod invariants;
mod others;
mod outcome;
mod packet;
mod table;
mod time;
mod verdict;
mod wire;
mod wrap;

use std::collections::HashMap;
use std::path::Path;

pub use capture::{Decoded, FILE_HEADER_LEN, Format, RECORD_HEADER_LEN, Record, decode, encode};
pub use cut::{cut, piece, tagged, with_extensions, with_options};
pub use others::{
    Embedded, arp, echo_reply, embedded, frame, group_report, ip_protocol, listener_report, lldp,
    neighbour_advertisement, other_frame, port_unreachable,
};
pub use outcome::Outcome;
pub use packet::{Flag, Packet, WINDOW, ack, content, fin, rst, seg, syn, syn_ack, udp};
pub use time::{Ns, Time};
pub use verdict::Verdict;
pub use wire::{IpVersion, flow_name};

use others::Icmp;
use packet::{Ack, Body, From, Space, Tcp};
use wire::Numbers;

/// Name of the configuration file of a case that has one.
const CONFIG: &str = "colo.toml";

/// Whose output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The PVM.
    Primary,
    /// The SVM.
    Secondary,
}

/// Initial sequence numbers of one incarnation of the connections.
#[derive(Debug, Clone, Copy)]
pub struct Isns {
    /// The PVM's.
    pub primary: u32,
    /// The SVM's.
    pub secondary: u32,
    /// The client's, the same for both: there is only one client.
    pub client: u32,
}

/// When a requested checkpoint commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// So long after the request.
    After(Ns),
    /// Never.
    Never,
}

/// A frame of one side, ready to be captured.
#[derive(Debug, Clone)]
pub struct Sent {
    /// When the engine sees it.
    pub at: Ns,
    /// What its record says; another time than `at` when the clock of the capture was set back.
    pub stamp: Ns,
    /// The Ethernet frame.
    pub bytes: Vec<u8>,
    /// What it is, for the failure table.
    pub what: String,
    /// Its flow: frames of one flow leave in order.
    pub flow: (&'static str, u16),
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    next: i64,
    acked: i64,
}

/// A case under construction.
#[derive(Debug, Clone)]
pub struct Case {
    ip: IpVersion,
    incarnations: Vec<Isns>,
    secondary_space: Space,
    streams: HashMap<(Side, u16, usize), Stream>,
    primary: Vec<Sent>,
    secondary: Vec<Sent>,
    settings: Vec<(String, String)>,
    commit: Commit,
    format: Format,
    config: String,
    clamped: Vec<usize>,
    workers: Option<usize>,
}

/// Runs the same case over IPv4 and over IPv6.
pub fn on_both(check: impl Fn(Case)) {
    check(Case::new(IpVersion::V4));
    check(Case::new(IpVersion::V6));
}

impl Case {
    /// An empty case: equal ISNs, checkpoints after the default 5 ms, nanosecond pcap.
    pub fn new(ip: IpVersion) -> Self {
        Self {
            ip,
            incarnations: vec![Isns { primary: 1_000_000, secondary: 1_000_000, client: 7_000_000 }],
            secondary_space: Space::Own,
            streams: HashMap::new(),
            primary: Vec::new(),
            secondary: Vec::new(),
            settings: Vec::new(),
            commit: Commit::After(5.ms()),
            format: Format::PcapNs,
            config: String::new(),
            clamped: Vec::new(),
            workers: None,
        }
    }

    /// An empty IPv4 case.
    pub fn v4() -> Self {
        Self::new(IpVersion::V4)
    }

    /// Sets both guests' initial sequence numbers.
    #[must_use]
    pub fn isns(mut self, primary: u32, secondary: u32) -> Self {
        assert!(self.primary.is_empty() && self.secondary.is_empty(), "ISNs come before frames");
        self.incarnations[0] = Isns { primary, secondary, ..self.incarnations[0] };
        self
    }

    /// Sets the client's initial sequence number.
    #[must_use]
    pub fn client_isn(mut self, client: u32) -> Self {
        assert!(self.primary.is_empty() && self.secondary.is_empty(), "ISNs come before frames");
        self.incarnations[0].client = client;
        self
    }

    /// Adds an incarnation; its packets say `.of(n)`, the first added being 1.
    #[must_use]
    pub fn new_incarnation(mut self, isns: Isns) -> Self {
        self.incarnations.push(isns);
        self
    }

    /// Puts a rewriter in front of the SVM: all but its SYN/ACK is in the PVM's sequence space.
    #[must_use]
    pub fn secondary_translated(mut self) -> Self {
        self.secondary_space = Space::Primary;
        self
    }

    /// Adds `--set key=value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds lines of a configuration file, for what `--set` cannot say.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Exactly these PVM frames leave with a lower window than they came with; all others leave unchanged.
    #[must_use]
    pub fn clamped(mut self, frames: &[usize]) -> Self {
        self.clamped = frames.to_vec();
        self
    }

    /// Replays with so many workers only. Elsewhere one and two must decide alike; each has its share of the
    /// connection table, so a full one is full at another time.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// Commits every requested checkpoint this much later.
    #[must_use]
    pub fn commit_after(mut self, delay: Ns) -> Self {
        self.commit = Commit::After(delay);
        self
    }

    /// Never commits a checkpoint.
    #[must_use]
    pub fn never(mut self) -> Self {
        self.commit = Commit::Never;
        self
    }

    /// Writes the captures in this format.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The PVM sends a packet.
    #[must_use]
    pub fn p(self, at: Ns, packet: Packet) -> Self {
        self.send(Side::Primary, at, packet)
    }

    /// The SVM sends a packet.
    #[must_use]
    pub fn s(self, at: Ns, packet: Packet) -> Self {
        self.send(Side::Secondary, at, packet)
    }

    /// The PVM sends packets, one each millisecond from `first` on.
    #[must_use]
    pub fn p_each(self, first: Ns, packets: impl IntoIterator<Item = Packet>) -> Self {
        (0..).zip(packets).fold(self, |case, (n, packet)| case.p(first + n.ms(), packet))
    }

    /// The SVM sends packets, one each millisecond from `first` on.
    #[must_use]
    pub fn s_each(self, first: Ns, packets: impl IntoIterator<Item = Packet>) -> Self {
        (0..).zip(packets).fold(self, |case, (n, packet)| case.s(first + n.ms(), packet))
    }

    /// A side sends a packet at `at`, and the clock of its capture says `stamp`.
    #[must_use]
    pub fn stamped(self, side: Side, at: Ns, stamp: Ns, packet: Packet) -> Self {
        let mut case = self.send(side, at, packet);
        let list = match side {
            Side::Primary => &mut case.primary,
            Side::Secondary => &mut case.secondary,
        };
        list.last_mut().expect("just sent").stamp = stamp;
        case
    }

    /// Both guests answer the client's SYN at once: frame 0 of either side, when it comes first.
    #[must_use]
    pub fn handshake(self, at: Ns) -> Self {
        self.handshake_of(0, at)
    }

    /// Both guests answer the SYN of flow n at once.
    #[must_use]
    pub fn handshake_of(self, flow: u16, at: Ns) -> Self {
        self.p(at, syn_ack().flow(flow)).s(at, syn_ack().flow(flow))
    }

    /// What one side has sent so far.
    pub fn sent(&self, side: Side) -> &[Sent] {
        match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        }
    }

    /// The IP version of all frames.
    pub fn ip(&self) -> IpVersion {
        self.ip
    }

    /// The value of a setting in milliseconds, or what the specification gives it.
    fn setting_ms(&self, key: &str, default: u64) -> Ns {
        let set = self.settings.iter().rev().find(|(k, _)| k == key);
        set.map_or(default, |(_, value)| value.parse().expect("milliseconds")).ms()
    }

    /// Writes the captures of both sides into a directory, as `p.pcap` and `s.pcap`, and the configuration beside them.
    pub fn write(&self, directory: &Path) {
        for (name, sent) in [("p.pcap", &self.primary), ("s.pcap", &self.secondary)] {
            let records: Vec<Record> = sent.iter().map(|frame| (frame.stamp, frame.bytes.clone())).collect();
            std::fs::write(directory.join(name), encode(self.format, &records))
                .expect("a temp dir is writable");
        }
        if !self.config.is_empty() {
            std::fs::write(directory.join(CONFIG), &self.config).expect("a temp dir is writable");
        }
    }

    /// The arguments that say how to replay it, without the files.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--checkpoint-ms".to_owned()];
        arguments.push(match self.commit {
            Commit::After(delay) => (delay.0 / 1_000_000).to_string(),
            Commit::Never => "never".to_owned(),
        });
        for (key, value) in &self.settings {
            arguments.push("--set".to_owned());
            arguments.push(format!("{key}={value}"));
        }
        arguments
    }

    /// Replays the case, checks what must always hold, and hands over what happened.
    pub fn run(self) -> Outcome {
        Outcome::of(self)
    }

    fn send(mut self, side: Side, at: Ns, packet: Packet) -> Self {
        let sent = self.build(side, at, packet);
        let list = match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        };
        assert!(list.last().is_none_or(|last| last.at <= at), "a capture is in order of time: {sent:?}");
        list.push(sent);
        self
    }

    fn build(&mut self, side: Side, at: Ns, mut packet: Packet) -> Sent {
        let (numbers, mut payload, what) = match &packet.body {
            Body::Tcp(tcp) => self.place(side, packet.flow, tcp),
            Body::Udp(payload, _) => {
                (Numbers::default(), payload.clone(), format!("UDP {} bytes", payload.len()))
            }
            Body::Icmp(message) => (Numbers::default(), Vec::new(), format!("{message:?}")),
            Body::Ip(number, bytes) => {
                (Numbers::default(), Vec::new(), format!("protocol {number}, {} bytes", bytes.len()))
            }
            Body::Frame(bytes, what) => {
                (Numbers::default(), Vec::new(), format!("{what}, {} bytes", bytes.len()))
            }
        };
        let start = match &packet.body {
            Body::Tcp(tcp) => self.start(side, packet.flow, tcp) + i64::from(tcp.has(Flag::Syn)),
            _ => 0,
        };
        for (position, byte) in packet.planted.drain(..) {
            let index = usize::try_from(position - start).expect("planted inside the payload");
            payload[index] = byte;
        }
        let bytes = wire::frame(self.ip, &packet, numbers, &payload);
        if let Body::Tcp(tcp) = &packet.body {
            self.remember(side, packet.flow, tcp, start - i64::from(tcp.has(Flag::Syn)));
        }
        let what = if packet.flow == 0 { what } else { format!("flow {}: {what}", packet.flow) };
        let what = match &packet.carriage.piece {
            Some(piece) => format!("{what}, piece {:?} of {}", piece.bytes, piece.id),
            None => what,
        };
        let order = self.sent(side).len();
        Sent { at, stamp: at, bytes, what, flow: ordered_with(&packet, order) }
    }

    fn stream(&self, side: Side, flow: u16, tcp: &Tcp) -> Stream {
        self.streams.get(&(side, flow, tcp.incarnation)).copied().unwrap_or_default()
    }

    /// The stream position a segment starts at; a raw one counts as next, its content is all the position is for.
    fn start(&self, side: Side, flow: u16, tcp: &Tcp) -> i64 {
        match tcp.from {
            From::Position(position) => position,
            From::Next | From::Raw(_) => self.stream(side, flow, tcp).next,
        }
    }

    fn remember(&mut self, side: Side, flow: u16, tcp: &Tcp, start: i64) {
        let stream = self.streams.entry((side, flow, tcp.incarnation)).or_default();
        if !matches!(tcp.from, From::Raw(_)) {
            stream.next = stream.next.max(start + tcp.span());
        }
        if let Ack::Client(position) = tcp.ack {
            stream.acked = stream.acked.max(position);
        }
    }

    /// The wire's numbers, the payload and the description of a segment.
    fn place(&self, side: Side, flow: u16, tcp: &Tcp) -> (Numbers, Vec<u8>, String) {
        let isns = self.incarnations[tcp.incarnation];
        let start = self.start(side, flow, tcp);
        let space = match tcp.space {
            // A rewriter leaves the SYN/ACK alone: it learns the difference from it.
            Space::OfCase if tcp.has(Flag::Syn) => Space::Own,
            Space::OfCase => self.secondary_space,
            told => told,
        };
        let isn = match (side, space) {
            (Side::Secondary, Space::Own | Space::OfCase) => isns.secondary,
            _ => isns.primary,
        };
        let acked = match tcp.ack {
            Ack::Client(position) => position,
            _ => self.stream(side, flow, tcp).acked,
        };
        let numbers = Numbers {
            seq: if let From::Raw(raw) = tcp.from { raw } else { wrap(isn, start + 1) },
            ack: if let Ack::Raw(raw) = tcp.ack { raw } else { wrap(isns.client, acked + 1) },
        };
        let first = start + i64::from(tcp.has(Flag::Syn));
        let payload = (first..first + tcp.len).map(|position| content(tcp.incarnation, position)).collect();
        let what = format!(
            "[{first},{}) {:?} seq {:#010x} ack {}{}",
            first + tcp.len,
            tcp.flags,
            numbers.seq,
            if tcp.ack == Ack::Absent {
                "none".to_owned()
            } else {
                format!("{acked} ({:#010x})", numbers.ack)
            },
            if tcp.incarnation == 0 { String::new() } else { format!(" of incarnation {}", tcp.incarnation) },
        );
        (numbers, payload, what)
    }
}

/// What a frame keeps its order with. Pieces of a datagram take their place when the last one is there, so they keep it
/// only with each other; a frame that is not compared keeps it with none.
fn ordered_with(packet: &Packet, index: usize) -> (&'static str, u16) {
    let tags =
        packet.carriage.tags.iter().fold(0, |sum: u16, (_, id)| sum.rotate_left(3) ^ id.rotate_left(8));
    let alone = u16::try_from(index % 65_536).unwrap_or_default();
    if let Some(piece) = &packet.carriage.piece {
        return ("pieces", piece.id);
    }
    match &packet.body {
        Body::Tcp(_) => ("tcp", packet.flow ^ tags),
        Body::Udp(..) => ("udp", packet.flow ^ tags),
        Body::Icmp(Icmp::EchoReply { id, .. }) => ("echo", id ^ tags),
        Body::Icmp(Icmp::PortUnreachable(_)) => ("icmp error", tags),
        Body::Icmp(Icmp::V6 { .. }) => ("neighbours", alone),
        Body::Ip(number, _) => ("ip", u16::from(*number) ^ tags),
        Body::Frame(..) => ("frame", alone),
    }
}

/// A sequence number so far behind another, modulo 2^32.
fn wrap(base: u32, distance: i64) -> u32 {
    let sum = (i64::from(base) + distance).rem_euclid(1 << 32);
    u32::try_from(sum).expect("reduced modulo 2^32")
}

#[cfg(test)]
mod carriage_tests;
#[cfg(test)]
mod tests;
