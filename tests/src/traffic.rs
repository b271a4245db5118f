//! Made-up TCP traffic of two guests: many flows, equal bytes, and for part of the flows other segment boundaries on
//! the secondary. Everything follows from a seed, so a frame that came out can be made again and compared.

use anyhow::{Context, Result};

use crate::frame::{Tcp4, flag, layout};

/// Longest payload of a 1514-byte frame, bytes.
pub const FULL_SEGMENT: usize = 1_460;
/// Secondary frames carry this in their IP identification, primary frames never do.
const SECONDARY_MARK: u16 = 0x8000;
/// A merging secondary keeps back at most so many primary segments, which bounds what the engine must hold.
const MERGED_SEGMENTS: usize = 4;
const SERVER_PORT: u16 = 80;

/// How a flow's secondary cuts the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// As the primary does.
    Same,
    /// Each of the primary's segments in two.
    Halves,
    /// Several of the primary's segments in one.
    Merged,
}

/// Size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of connections.
    pub flows: usize,
    /// Primary frames of each: a SYN/ACK, data and pure ACKs, a FIN.
    pub frames_per_flow: usize,
    /// Where all sizes come from.
    pub seed: u64,
}

/// The frames of one step: one primary frame of a flow, and what the secondary sends about it.
#[derive(Debug, Default)]
pub struct Step {
    /// Primary's frame.
    pub primary: Vec<u8>,
    /// Secondary's frames; none while it merges.
    pub secondary: Vec<Vec<u8>>,
}

/// One connection as both guests send it.
#[derive(Debug)]
pub struct Flow {
    index: usize,
    cut: Cut,
    frames: usize,
    sent: usize,
    random: SplitMix,
    /// Stream position of the primary's next byte, and of the secondary's.
    primary_at: u32,
    secondary_at: u32,
    kept_back: Vec<u8>,
    kept_segments: usize,
    secondary_sent: u16,
}

impl Flow {
    /// Connection `index` of a run.
    pub fn new(shape: &Shape, index: usize) -> Self {
        let cut = [Cut::Same, Cut::Halves, Cut::Merged][index % 3];
        Self {
            index,
            cut,
            frames: shape.frames_per_flow,
            sent: 0,
            random: SplitMix(shape.seed ^ u64::try_from(index).unwrap_or_default().wrapping_mul(0x9e37_79b9)),
            primary_at: 0,
            secondary_at: 0,
            kept_back: Vec::new(),
            kept_segments: 0,
            secondary_sent: 0,
        }
    }

    /// The next primary frame with the secondary's frames that belong to it; `None` after the FIN.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.sent == self.frames {
            return Ok(None);
        }
        let last = self.sent + 1 == self.frames;
        let identification = u16::try_from(self.sent)?;
        let mut step = Step::default();
        if self.sent == 0 {
            step.primary = self.syn(0, identification)?;
            step.secondary.push(self.syn(self.secondary_isn_shift(), SECONDARY_MARK)?);
        } else {
            let payload = if last { Vec::new() } else { self.payload() };
            let flags = if last { flag::FIN | flag::ACK } else { flag::ACK };
            step.primary = self.segment(0, self.primary_at, flags, identification, &payload)?;
            self.primary_at += u32::try_from(payload.len())?;
            self.secondary(&payload, &mut step.secondary)?;
            if last {
                self.secondary_finishes(&mut step.secondary)?;
            }
        }
        self.sent += 1;
        Ok(Some(step))
    }

    /// A raw ISN for every other flow, the primary's own for the rest.
    fn secondary_isn_shift(&self) -> u32 {
        if self.index.is_multiple_of(2) { 0 } else { 0x7654_3210 }
    }

    fn syn(&self, shift: u32, identification: u16) -> Result<Vec<u8>> {
        self.tcp(self.isn().wrapping_add(shift), self.client_isn(), flag::SYN | flag::ACK, identification)
            .frame(&[])
    }

    fn segment(&self, shift: u32, at: u32, flags: u8, mark: u16, payload: &[u8]) -> Result<Vec<u8>> {
        let sequence = self.isn().wrapping_add(1).wrapping_add(shift).wrapping_add(at);
        // What is acknowledged grows with the stream: neither side may be ahead for good.
        let ack = self.client_isn().wrapping_add(at / 3);
        self.tcp(sequence, ack, flags, mark).frame(payload)
    }

    fn tcp(&self, sequence: u32, ack: u32, flags: u8, identification: u16) -> Tcp4 {
        let [low, high, ..] = self.index.to_le_bytes();
        Tcp4 {
            source: ([10, 0, 0, 1], SERVER_PORT),
            destination: ([10, 9, high, low], 40_000 + u16::from(low)),
            sequence,
            ack,
            flags,
            identification,
        }
    }

    /// Just before and after the end of the number space: many flows wrap.
    fn isn(&self) -> u32 {
        0_u32.wrapping_sub(20_000).wrapping_add(SplitMix(self.random_base()).low() & 0xffff)
    }

    fn client_isn(&self) -> u32 {
        SplitMix(self.random_base() ^ 1).low()
    }

    fn random_base(&self) -> u64 {
        u64::try_from(self.index).unwrap_or_default() << 8
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = match self.random.below(8) {
            0 | 1 => 0,
            2 => FULL_SEGMENT,
            3 | 4 => 1 + self.random.below(10),
            _ => 1 + self.random.below(FULL_SEGMENT),
        };
        (0..length).map(|_| self.random.low().to_le_bytes()[0]).collect()
    }

    fn secondary(&mut self, payload: &[u8], out: &mut Vec<Vec<u8>>) -> Result<()> {
        match self.cut {
            Cut::Same => self.secondary_sends(payload, out)?,
            Cut::Halves => {
                let (front, back) = payload.split_at(payload.len() / 2);
                self.secondary_sends(front, out)?;
                self.secondary_sends(back, out)?;
            }
            Cut::Merged => {
                self.kept_back.extend_from_slice(payload);
                self.kept_segments += 1;
                if self.kept_segments == MERGED_SEGMENTS {
                    self.secondary_sends_the_kept(out)?;
                }
            }
        }
        Ok(())
    }

    fn secondary_sends_the_kept(&mut self, out: &mut Vec<Vec<u8>>) -> Result<()> {
        self.kept_segments = 0;
        for segment in std::mem::take(&mut self.kept_back).chunks(FULL_SEGMENT) {
            self.secondary_sends(segment, out)?;
        }
        // The client bytes up to here: the primary's last segment may acknowledge more than ours did.
        self.secondary_sends(&[], out)
    }

    fn secondary_finishes(&mut self, out: &mut Vec<Vec<u8>>) -> Result<()> {
        self.secondary_sends_the_kept(out)?;
        let mark = SECONDARY_MARK | self.secondary_sent;
        let shift = self.secondary_isn_shift();
        out.push(self.segment(shift, self.secondary_at, flag::FIN | flag::ACK, mark, &[])?);
        Ok(())
    }

    fn secondary_sends(&mut self, payload: &[u8], out: &mut Vec<Vec<u8>>) -> Result<()> {
        self.secondary_sent += 1;
        let mark = SECONDARY_MARK | self.secondary_sent;
        out.push(self.segment(self.secondary_isn_shift(), self.secondary_at, flag::ACK, mark, payload)?);
        self.secondary_at += u32::try_from(payload.len())?;
        Ok(())
    }
}

/// Flow index and place in the flow of a frame that came out; fails on a secondary's frame.
pub fn identify(frame: &[u8]) -> Result<(usize, usize)> {
    layout(frame).context("a frame without TCP came out")?;
    let flow = usize::from(frame[32]) << 8 | usize::from(frame[33]);
    let mark = u16::from(frame[18]) << 8 | u16::from(frame[19]);
    anyhow::ensure!(mark & SECONDARY_MARK == 0, "a frame of the secondary came out, flow {flow}");
    Ok((flow, usize::from(mark)))
}

/// Steele, Lea, Flood 2014: a generator that needs one word of state.
#[derive(Debug, Clone, Copy)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn low(&mut self) -> u32 {
        let bytes = self.next().to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap_or_default() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Stream {
        isn: u32,
        bytes: Vec<u8>,
        fin: Option<usize>,
        ack: u32,
        longest: usize,
    }

    impl Stream {
        fn take(&mut self, frame: &[u8]) {
            let layout = layout(frame).unwrap();
            let at = layout.sequence(frame);
            self.longest = self.longest.max(frame.len());
            self.ack = layout.ack(frame);
            if layout.flags(frame) & flag::SYN != 0 {
                self.isn = at;
                return;
            }
            let place = usize::try_from(at.wrapping_sub(self.isn.wrapping_add(1))).unwrap();
            assert_eq!(place, self.bytes.len(), "in order, without gaps");
            self.bytes.extend_from_slice(&frame[layout.payload..layout.end]);
            if layout.flags(frame) & flag::FIN != 0 {
                self.fin = Some(place);
            }
        }
    }

    #[test]
    fn both_guests_say_the_same() {
        let shape = Shape { flows: 60, frames_per_flow: 100, seed: 1 };
        let mut wrapped = 0;
        for index in 0..shape.flows {
            let (mut primary, mut secondary) = (Stream::default(), Stream::default());
            let mut frames = [0, 0];
            let mut flow = Flow::new(&shape, index);
            while let Some(step) = flow.step().unwrap() {
                assert_eq!(identify(&step.primary).unwrap(), (index, frames[0]));
                primary.take(&step.primary);
                frames[0] += 1;
                for frame in &step.secondary {
                    assert!(identify(frame).is_err(), "a secondary's frame must be known as one");
                    secondary.take(frame);
                    frames[1] += 1;
                }
            }
            assert_eq!(frames[0], shape.frames_per_flow);
            assert!(index % 3 == 0 || frames[1] != frames[0], "flow {index} is cut alike");
            assert!(primary.bytes == secondary.bytes, "flow {index}: other bytes");
            assert_eq!((primary.fin, primary.ack), (secondary.fin, secondary.ack));
            assert_eq!(primary.fin, Some(primary.bytes.len()));
            assert_eq!(primary.longest, 1_514);
            wrapped += usize::from(primary.isn > u32::MAX - 20_000);
        }
        assert!(wrapped > 5, "too few flows wrap");
    }
}
