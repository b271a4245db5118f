//! What a load is like: frames, flows, what the secondary does otherwise, how fast, how long.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::frames::Protocol;

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// As many as there are in one system call.
    #[default]
    Coalesced,
    /// One system call a frame, as QEMU does.
    Single,
}

/// The traffic of a run.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// What the frames carry
    #[arg(long, value_enum, default_value = "tcp")]
    pub protocol: Protocol,
    /// Bytes of a frame, 64 to 65,549. Beyond 9,018 they are super frames with a virtio header
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub frame: usize,
    /// Connections, 1 to 100,000; each pair is of one drawn at random
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub flows: u32,
    /// Frames carry a virtio-net header (QEMU's `vnet_hdr_support`)
    #[arg(long)]
    pub vnet: bool,
    /// The secondary is so many pairs behind
    #[arg(long, value_name = "PAIRS", default_value_t = 0)]
    pub skew: u32,
    /// The secondary is so much later; needs --rate
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub late_us: u32,
    /// Share of the secondary's frames that come out of order, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub reorder: f64,
    /// How many pairs later those come
    #[arg(long, value_name = "PAIRS", default_value_t = 8)]
    pub reorder_depth: u32,
    /// Share of pairs in which the secondary's payload differs, 0 to 1; checkpoints are answered then
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub mismatch: f64,
    /// Pairs a second at fixed times (open loop), instead of as fast as they come back
    #[arg(long, value_name = "PAIRS")]
    pub rate: Option<u32>,
    /// Pairs on the way at most (closed loop), beside those that the secondary is behind
    #[arg(long, value_name = "PAIRS", default_value_t = 4096)]
    pub window: u32,
    /// System calls a frame
    #[arg(long, value_enum, default_value = "coalesced")]
    pub writes: Writes,
    /// The comparer stands still (SIGSTOP) while a window is written, so that its time has no waiting in it; latencies
    /// say nothing then
    #[arg(long, conflicts_with = "rate")]
    pub gated: bool,
    /// Measured pairs, after those that warm up; the default is 1,000,000 without --rate
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub pairs: Option<u64>,
    /// Measured seconds instead; the default is 5 with --rate
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Start of the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long nothing may come back before what is on its way is not waited for any more
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub patience: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            frame: 64,
            flows: 100,
            vnet: false,
            skew: 0,
            late_us: 0,
            reorder: 0.0,
            reorder_depth: 8,
            mismatch: 0.0,
            rate: None,
            window: 4096,
            writes: Writes::Coalesced,
            gated: false,
            pairs: None,
            seconds: None,
            seed: 1,
            patience: 1.0,
        }
    }
}

/// When a run has measured enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many pairs.
    Pairs(u64),
    /// So many seconds.
    Seconds(f64),
}

/// Whether requests for a checkpoint are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// With a commit, once both sides have been heard.
    Answered,
    /// Nobody needs a checkpoint: they are only counted.
    Counted,
}

impl Shape {
    /// Says what cannot be.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        ensure!((64..=65_549).contains(&self.frame), "--frame {} is not 64 to 65549", self.frame);
        ensure!((1..=100_000).contains(&self.flows), "--flows {} is not 1 to 100000", self.flows);
        ensure!(
            self.late_us == 0 || self.rate.is_some(),
            "--late-us needs --rate: in a closed loop use --skew"
        );
        ensure!(self.rate != Some(0), "--rate 0 sends nothing");
        ensure!(
            self.rate.is_none() || !self.gated,
            "--gated and --rate: a comparer that stands still keeps no time"
        );
        ensure!(self.window > 0, "--window 0 sends nothing");
        for (name, share) in [("reorder", self.reorder), ("mismatch", self.mismatch)] {
            ensure!((0.0..=1.0).contains(&share), "--{name} {share} is no share: 0 to 1");
        }
        let seconds = self.seconds.unwrap_or(1.0);
        ensure!(seconds > 0.0 && seconds < 1e6, "--seconds {seconds} is no time to measure");
        ensure!(
            self.patience > 0.0 && self.patience < 1e6,
            "--patience {} is no time to wait",
            self.patience
        );
        ensure!(self.pairs != Some(0), "--pairs 0 measures nothing");
        Ok(())
    }

    /// When it is enough.
    pub fn limit(&self) -> Limit {
        match (self.pairs, self.seconds, self.rate) {
            (Some(pairs), _, _) => Limit::Pairs(pairs),
            (None, Some(seconds), _) => Limit::Seconds(seconds),
            (None, None, Some(_)) => Limit::Seconds(5.0),
            (None, None, None) => Limit::Pairs(1_000_000),
        }
    }

    /// Pairs that are not measured: until all flows are there and the caches are warm.
    pub fn warm_up(&self) -> u64 {
        let flows = u64::from(self.flows);
        match self.rate {
            Some(rate) => u64::from(rate / 4) + 1,
            None => match self.limit() {
                Limit::Pairs(pairs) => (pairs / 10).max(flows.min(pairs)),
                Limit::Seconds(_) => (2 * flows).max(20_000),
            },
        }
    }

    /// Pairs on the way at most, with those that the secondary is behind. In an open loop it is the comparer that sets
    /// a limit; a tenth of a second is more than it should take.
    pub fn in_flight(&self) -> u64 {
        let window = self.rate.map_or(self.window, |rate| (rate / 10).max(256));
        self.behind() + u64::from(window)
    }

    /// Pairs that cannot come back before more are written.
    pub fn behind(&self) -> u64 {
        let depth = if self.reorder > 0.0 { self.reorder_depth } else { 0 };
        let late = u64::from(self.rate.unwrap_or(0)) * u64::from(self.late_us) / 1_000_000;
        u64::from(self.skew) + u64::from(depth) + late
    }

    /// What becomes of requests.
    pub fn requests(&self) -> Requests {
        if self.mismatch > 0.0 { Requests::Answered } else { Requests::Counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_secondary_is_behind_comes_on_top_of_the_window() {
        let closed = Shape { window: 100, skew: 30, reorder: 0.1, reorder_depth: 5, ..Shape::default() };
        assert_eq!((closed.behind(), closed.in_flight()), (35, 135));
        let open = Shape { rate: Some(10_000), late_us: 200, ..Shape::default() };
        assert_eq!((open.behind(), open.in_flight()), (2, 1002));
    }

    #[test]
    fn a_run_is_limited_by_what_was_said_and_warms_up_before() {
        let shape = |rate, pairs, seconds| Shape { rate, pairs, seconds, ..Shape::default() };
        assert_eq!(shape(None, None, None).limit(), Limit::Pairs(1_000_000));
        assert_eq!(shape(Some(1000), None, None).limit(), Limit::Seconds(5.0));
        assert_eq!(shape(Some(1000), Some(7), None).limit(), Limit::Pairs(7));
        assert_eq!(shape(None, None, Some(2.0)).limit(), Limit::Seconds(2.0));
        assert_eq!(
            [shape(None, Some(5000), None), shape(Some(1000), None, None)].map(|one| one.warm_up()),
            [500, 251]
        );
    }
}
