//! What is measured: which frames, of how many flows, in which order.

use std::fmt;

use colo_engine::side::Side;

use crate::frames::Protocol;

/// In which order one side's segments come, within a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By chance.
    Shuffled,
    /// The last first.
    Reversed,
    /// Every second one, then those in the gaps.
    Gapped,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shuffled, Self::Reversed, Self::Gapped];

    fn label(self) -> &'static str {
        match self {
            Self::Shuffled => "shuffled",
            Self::Reversed => "reversed",
            Self::Gapped => "gapped",
        }
    }
}

/// How the sides' bursts reach the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming {
    /// A burst of both sides is at hand.
    Together,
    /// One side's burst is handled before the other's is there; this side's first.
    First(Side),
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What the frames carry.
    pub protocol: Protocol,
    /// Bytes in each frame.
    pub frame_bytes: usize,
    /// Flows; each pair belongs to one that is drawn at random.
    pub flows: u32,
    /// Pairs filled, then measured: the working set.
    pub pairs: usize,
    /// Whether both sides' turns come together, or whose comes first.
    pub coming: Coming,
    /// Frames that one side sends before it is the other's turn.
    pub turn: usize,
    /// Frames that the primary is ahead, besides its turn.
    pub lag: usize,
    /// Whose segments come out of order, and in which, within a turn; of one flow only.
    pub disorder: Option<(Side, Order)>,
}

impl Scenario {
    /// In order, in turns of one burst, in a working set that stays in the L2 cache.
    pub fn new(protocol: Protocol, frame_bytes: usize, flows: u32, coming: Coming) -> Self {
        Self { protocol, frame_bytes, flows, pairs: 512, coming, turn: 32, lag: 0, disorder: None }
    }

    /// Payload of each frame, bytes.
    pub fn payload_bytes(&self) -> u32 {
        u32::try_from(self.frame_bytes - self.protocol.header_bytes()).unwrap_or(0)
    }

    /// With a working set of 16,384 pairs: 48 MB of 1514-byte frames.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { pairs: 16_384, ..self }
    }

    /// One flow whose secondary is `held` segments late.
    pub fn late(held: usize) -> Self {
        Self {
            turn: 1,
            lag: held,
            pairs: 2048,
            ..Self::new(Protocol::Tcp, 64, 1, Coming::First(Side::Primary))
        }
    }

    /// One flow whose sides take turns of `held` segments, those of one side out of order.
    pub fn disordered(held: usize, side: Side, order: Order) -> Self {
        let base = Self::new(Protocol::Tcp, 64, 1, Coming::First(Side::Primary));
        Self { turn: held, pairs: 2048, disorder: Some((side, order)), ..base }
    }

    /// What the targets speak of.
    pub fn matrix() -> Vec<Self> {
        let mut all = Vec::new();
        for coming in [Coming::Together, Coming::First(Side::Primary), Coming::First(Side::Secondary)] {
            for flows in [1, 1_000, 10_000, 100_000] {
                all.push(Self::new(Protocol::Tcp, 64, flows, coming));
            }
            all.push(Self::new(Protocol::Tcp, 1514, 1_000, coming));
            all.push(Self::new(Protocol::Tcp, 1514, 1_000, coming).in_memory());
            all.push(Self::new(Protocol::Udp, 64, 1_000, coming));
        }
        all
    }

    /// By the name that [`Display`](fmt::Display) gives it.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::matrix();
        for held in [1, 2, 32, 1024] {
            all.push(Self::late(held));
            for order in Order::ALL {
                all.extend(Side::BOTH.map(|side| Self::disordered(held, side, order)));
            }
        }
        all.into_iter().find(|scenario| scenario.to_string() == name)
    }
}

impl fmt::Display for Scenario {
    /// `tcp-64-1000f-512p-together`, `tcp-64-1000f-512p-primary`, `late-1024`, `gapped-secondary-32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lag > 0 {
            return write!(f, "late-{}", self.lag);
        }
        if let Some((side, order)) = self.disorder {
            return write!(f, "{}-{side}-{}", order.label(), self.turn);
        }
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}-{}-{}f-{}p-", self.frame_bytes, self.flows, self.pairs)?;
        match self.coming {
            Coming::Together => f.write_str("together"),
            Coming::First(side) => write!(f, "{side}"),
        }
    }
}
