//! Made-up conversations: one stream of bytes per flow, cut differently on each side, with retransmission, overlap,
//! reordering, ack skew, delays, and at most one contradiction.

use std::fmt;

use colo_engine::side::{BySide, Side};
use proptest::prelude::*;

use crate::drive::MS;
use crate::traffic::{Flow, Ip, Numbering, Offer, Segment, Sent, What};

/// A whole case: flows, and what each side sends, in order of time.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) flows: Vec<Flow>,
    pub(crate) sent: BySide<Vec<Sent>>,
    pub(crate) min_interval_ms: u64,
}

/// One line a frame, as short as a failure report must be.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "min_checkpoint_interval {} ms", self.min_interval_ms)?;
        for (index, flow) in self.flows.iter().enumerate() {
            writeln!(f, "flow {index}: {flow:?}")?;
        }
        for side in Side::BOTH {
            for (frame, sent) in self.sent[side].iter().enumerate() {
                let at_us = sent.at_ns / 1000;
                write!(f, "{side} {frame} at {at_us} us, flow {}: ", sent.flow)?;
                match &sent.what {
                    What::Datagram(payload) => writeln!(f, "{payload:02x?}")?,
                    What::Segment(segment) => {
                        let Segment { start, syn, fin, ack, payload, window, urgent, offer, .. } = segment;
                        let flags = [(*syn, " SYN"), (*fin, " FIN")];
                        let flags: String =
                            flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
                        if *syn {
                            write!(f, "{offer:?} ")?;
                        }
                        let len = payload.len();
                        writeln!(
                            f,
                            "{start}+{len}{flags} ack {ack:?} window {window} urgent {urgent:?} {payload:02x?}"
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    New,
    Overlap,
    Resend,
    Ack,
    KeepAlive,
}

/// One segment of one side, relative to where it stands.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: Move,
    len: usize,
    back: usize,
    acks: u32,
    gap_us: u64,
    late_us: u64,
    padding: usize,
    window: u16,
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        5 => Just(Move::New), 1 => Just(Move::Overlap), 1 => Just(Move::Resend),
        2 => Just(Move::Ack), 1 => Just(Move::KeepAlive),
    ];
    let gap_us =
        prop_oneof![4 => Just(0_u64), 8 => 1_u64..3_000, 1 => 3_000_u64..120_000, 1 => 380_000_u64..450_000];
    let late_us = prop_oneof![12 => Just(0_u64), 3 => 1_u64..8_000, 1 => 300_000_u64..500_000];
    let acks = prop_oneof![2 => Just(0_u32), 1 => 1_u32..40];
    let window =
        prop_oneof![8 => Just(40_u16), 2 => Just(41), 2 => 20_u16..80, 1 => Just(0), 1 => any::<u16>()];
    (what, 1_usize..70, 1_usize..90, acks, gap_us, late_us, 0_usize..8, window).prop_map(
        |(what, len, back, acks, gap_us, late_us, padding, window)| Step {
            what,
            len,
            back,
            acks,
            gap_us,
            late_us,
            padding,
            window,
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The secondary's stream has another byte there.
    Byte(usize),
    /// The secondary's stream ends that much earlier.
    Shorter(usize),
    /// The secondary's SYN offers something else.
    Offer,
    /// One side does not announce its urgent positions.
    Calm(Side),
    /// A side sends a byte again, another one.
    Again(Side, usize, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Passive,
    Active,
    MidStream,
}

#[derive(Clone, Debug)]
struct Script {
    flow: Flow,
    opening: Opening,
    bytes: Vec<u8>,
    steps: [Vec<Step>; 2],
    start_us: [u64; 2],
    fin: Option<Step>,
    fault: Fault,
    offers: [Offer; 2],
    syn_window: u16,
    /// Behind the bytes that are urgent, lowest first.
    urgent: Vec<usize>,
}

fn near_the_wrap() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), u32::MAX - 300..=u32::MAX, 0_u32..3]
}

fn flow() -> impl Strategy<Value = Flow> {
    let ip = prop_oneof![Just(Ip::V4), Just(Ip::V6)];
    let numbering = prop_oneof![Just(Numbering::Equal), Just(Numbering::Raw), Just(Numbering::Translated)];
    // Further apart than what is taken for one sequence space.
    let apart = 1_u32 << 22..u32::MAX - (1 << 22);
    (ip, numbering, near_the_wrap(), near_the_wrap(), apart).prop_map(
        |(ip, numbering, isn, client_isn, apart)| {
            let secondary = if numbering == Numbering::Equal { isn } else { isn.wrapping_add(apart) };
            Flow { ip, port: 0, isns: BySide { primary: isn, secondary }, client_isn, numbering }
        },
    )
}

fn offer() -> impl Strategy<Value = Offer> {
    let scale = prop_oneof![Just(None), Just(Some(0_u8)), Just(Some(1)), Just(Some(3)), Just(Some(14))];
    (prop::option::of(1460_u16..1462), scale, any::<bool>(), any::<bool>())
        .prop_map(|(mss, scale, sack, timestamps)| Offer { mss, scale, sack, timestamps })
}

fn script() -> impl Strategy<Value = Script> {
    let opening =
        prop_oneof![3 => Just(Opening::Passive), 1 => Just(Opening::Active), 1 => Just(Opening::MidStream)];
    let steps = || prop::collection::vec(step(), 0..14);
    let start_us = [0_u64..3_000, 0_u64..6_000];
    let bytes = prop::collection::vec(any::<u8>(), 0..260);
    let urgent = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::btree_set(1_usize..200, 1..3).prop_map(|set| set.into_iter().collect()),
    ];
    let syn = ([offer(), offer()], prop_oneof![Just(600_u16), any::<u16>()], urgent);
    (flow(), opening, bytes, [steps(), steps()], start_us, prop::option::of(step()), syn).prop_map(
        |(flow, opening, bytes, steps, start_us, fin, (offers, syn_window, urgent))| Script {
            flow,
            opening,
            bytes,
            steps,
            start_us,
            fin,
            fault: Fault::None,
            offers,
            syn_window,
            urgent,
        },
    )
}

impl Script {
    /// Only equal numbers tell where a stream goes on whose beginning was not seen; and until both SYNs were seen,
    /// a checkpoint leaves nothing to translate by, so they come together.
    fn settle(&mut self, port: u16) {
        self.flow.port = port;
        if self.opening == Opening::MidStream {
            self.flow.numbering = Numbering::Equal;
            self.flow.isns.secondary = self.flow.isns.primary;
        }
        if self.flow.numbering != Numbering::Equal {
            self.start_us[1] = self.start_us[0];
        }
    }

    fn stream_of(&self, side: Side) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        match (side, self.fault) {
            (Side::Secondary, Fault::Byte(at)) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x20;
                }
            }
            (Side::Secondary, Fault::Shorter(by)) => bytes.truncate(bytes.len().saturating_sub(by)),
            _ => {}
        }
        bytes
    }

    fn send(&self, side: Side, flow: usize) -> Vec<Sent> {
        let place = usize::from(side == Side::Secondary);
        let mut sender = Sender {
            bytes: self.stream_of(side),
            cursor: 0,
            ack: 0,
            at_us: self.start_us[place],
            flow,
            sent: Vec::new(),
            urgent: if self.fault == Fault::Calm(side) { Vec::new() } else { self.urgent.clone() },
        };
        if self.opening != Opening::MidStream {
            let ack = (self.opening == Opening::Passive).then_some(0);
            let differs = side == Side::Secondary && self.fault == Fault::Offer;
            let offer = self.offers[usize::from(differs)];
            let window = self.syn_window;
            sender.emit(Segment { syn: true, start: -1, ack, offer, window, ..Segment::default() }, 0);
        }
        for step in &self.steps[place] {
            sender.take(step);
        }
        if let Some(step) = &self.fin {
            sender.finish(step);
        }
        if let Fault::Again(of, at, late_us) = self.fault
            && of == side
            && let Some(byte) = sender.bytes.get(at).copied()
            && at < sender.cursor
        {
            let segment = Segment::data(i64::try_from(at).unwrap(), &[byte ^ 1]);
            sender.at_us = self.start_us[place];
            sender.emit(segment, late_us);
        }
        sender.sent
    }
}

struct Sender {
    bytes: Vec<u8>,
    cursor: usize,
    ack: u32,
    at_us: u64,
    flow: usize,
    sent: Vec<Sent>,
    urgent: Vec<usize>,
}

impl Sender {
    fn emit(&mut self, segment: Segment, late_us: u64) {
        let at_ns = (self.at_us + late_us) * (MS / 1000);
        self.sent.push(Sent { at_ns, flow: self.flow, what: What::Segment(segment) });
    }

    fn segment(&self, from: usize, to: usize, step: &Step) -> Segment {
        let payload = self.bytes.get(from..to).unwrap_or_default().to_vec();
        let start = i64::try_from(from).unwrap();
        let (ack, padding, window) = (Some(self.ack), step.padding, step.window);
        // As stacks do: the next urgent position that was written, from every segment before it.
        let next = self.urgent.iter().find(|position| **position > from && **position <= self.bytes.len());
        let urgent = next.map(|position| u16::try_from(position - from).unwrap());
        Segment { start, payload, ack, padding, window, urgent, ..Segment::default() }
    }

    fn take(&mut self, step: &Step) {
        self.at_us += step.gap_us;
        self.ack += step.acks;
        let back = self.cursor.saturating_sub(step.back);
        let ahead = (self.cursor + step.len).min(self.bytes.len());
        let segment = match step.what {
            Move::New => self.segment(self.cursor, ahead, step),
            Move::Overlap => self.segment(back, ahead, step),
            Move::Resend => self.segment(back, (back + step.len).min(self.cursor), step),
            Move::Ack => self.segment(self.cursor, self.cursor, step),
            Move::KeepAlive => {
                let mut segment = self.segment(self.cursor, self.cursor, step);
                segment.start -= 1;
                segment.urgent = None;
                segment
            }
        };
        if matches!(step.what, Move::New | Move::Overlap) {
            self.cursor = ahead;
        }
        self.emit(segment, step.late_us);
    }

    /// The rest of the stream, its FIN in the last segment or behind it.
    fn finish(&mut self, step: &Step) {
        self.at_us += step.gap_us;
        let mut rest = self.segment(self.cursor, self.bytes.len(), step);
        let mut bare = self.segment(self.bytes.len(), self.bytes.len(), step);
        self.cursor = self.bytes.len();
        if matches!(step.what, Move::New) {
            rest.fin = true;
        } else {
            bare.fin = true;
        }
        for segment in [rest, bare] {
            self.emit(segment, step.late_us);
        }
        let end = i64::try_from(self.bytes.len()).unwrap() + 1;
        let ack = Some(self.ack + step.acks);
        self.at_us += 500;
        self.emit(Segment { start: end, ack, ..Segment::default() }, step.late_us);
    }
}

/// Datagrams by number: which ones a side sends, and when.
fn datagrams() -> impl Strategy<Value = [Vec<(u8, u64)>; 2]> {
    let late_us = prop_oneof![6 => 0_u64..4_000, 2 => 4_000_u64..40_000, 1 => 300_000_u64..500_000];
    let side = prop::collection::vec((0_u8..6, late_us), 0..12);
    [side.clone(), side]
}

fn fault() -> impl Strategy<Value = Fault> {
    let side = prop_oneof![Just(Side::Primary), Just(Side::Secondary)];
    prop_oneof![
        4 => Just(Fault::None),
        2 => (0_usize..260).prop_map(Fault::Byte),
        1 => (1_usize..40).prop_map(Fault::Shorter),
        1 => Just(Fault::Offer),
        1 => side.clone().prop_map(Fault::Calm),
        1 => (side, 0_usize..200, 0_u64..20_000).prop_map(|(side, at, late)| Fault::Again(side, at, late)),
    ]
}

/// One to three TCP flows, perhaps a datagram flow beside them.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let scripts = prop::collection::vec(script(), 1..=3);
    let interval = prop_oneof![Just(0_u64), Just(100_u64)];
    (scripts, prop::option::of((flow(), datagrams())), fault(), interval).prop_map(
        |(mut scripts, datagrams, fault, min_interval_ms)| {
            scripts[0].fault = fault;
            let mut case = Case { flows: Vec::new(), sent: BySide::default(), min_interval_ms };
            for (index, script) in scripts.iter_mut().enumerate() {
                script.settle(80 + u16::try_from(index).unwrap());
                case.flows.push(script.flow);
                for side in Side::BOTH {
                    case.sent[side].extend(script.send(side, index));
                }
            }
            if let Some((flow, [primary, secondary])) = datagrams {
                let index = case.flows.len();
                case.flows.push(Flow { port: 53, ..flow });
                for (side, datagrams) in [(Side::Primary, primary), (Side::Secondary, secondary)] {
                    case.sent[side].extend(datagrams.into_iter().map(|(number, at_us)| {
                        let payload = vec![number / 2; usize::from(number % 3) + 4];
                        Sent { at_ns: at_us * 1000, flow: index, what: What::Datagram(payload) }
                    }));
                }
            }
            for side in Side::BOTH {
                case.sent[side].sort_by_key(|sent| sent.at_ns);
            }
            case
        },
    )
}
