//! What a run came to: one JSON line, or a few lines for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::books::Faults;
use super::cpu::{Memory, float};
use super::driver::Measured;
use super::engine::{Kind, Transport};
use super::shape::{Requests, Shape};
use crate::frames::Protocol;

/// Latencies, ns: from the time at which both frames of a pair were written, or should have been, to the return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the pairs were faster.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// Processor time of the comparer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// All of it, ns a pair.
    pub ns_per_pair: f64,
    /// In user mode.
    pub user_ns_per_pair: f64,
    /// In the kernel.
    pub system_ns_per_pair: f64,
    /// Cores, on average.
    pub cores: f64,
}

/// The result of a run. The measured part is what came after the warm-up; faults and requests are of the whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The plan's scenario, if there is a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Which comparer.
    pub engine: Kind,
    /// Its sockets.
    pub transport: Transport,
    /// Its settings that are not its defaults.
    pub settings: Vec<String>,
    /// The traffic.
    pub shape: Shape,
    /// Measured pairs.
    pub pairs: u64,
    /// Measured time.
    pub seconds: f64,
    /// One by the other.
    pub pairs_per_second: f64,
    /// Pairs begun in all.
    pub sent: u64,
    /// What went wrong.
    pub faults: Faults,
    /// Times that nothing came back for a second.
    pub stalls: u64,
    /// Requests for a checkpoint.
    pub requests: u64,
    /// Those that nothing in the traffic called for.
    pub false_requests: u64,
    /// Checkpoints committed.
    pub commits: u64,
    /// Latencies of the measured pairs.
    pub latency_ns: Latency,
    /// The comparer's time; `None` of one that was given.
    pub cpu: Option<Cpu>,
    /// The comparer's memory at the end.
    pub memory: Option<Memory>,
    /// The load's own time, ns a pair; it never waits, so this says little when the comparer is the slower one.
    pub driver_ns_per_pair: f64,
    /// Frames in a write, on average.
    pub frames_per_write: f64,
    /// Frames in a read of the output, on average.
    pub frames_per_read: f64,
}

impl Outcome {
    /// From what was measured.
    pub fn new(
        (engine, transport): (Kind, Transport),
        settings: Vec<String>,
        shape: &Shape,
        measured: &Measured,
        memory: Option<Memory>,
    ) -> Self {
        let pairs = float(measured.pairs).max(1.0);
        let seconds = measured.time.as_secs_f64().max(1e-9);
        let cpu = measured.engine.map(|(run, system)| {
            let ns_per_pair = run.as_secs_f64() * 1e9 / pairs;
            Cpu {
                ns_per_pair,
                user_ns_per_pair: ns_per_pair * (1.0 - system),
                system_ns_per_pair: ns_per_pair * system,
                cores: run.as_secs_f64() / seconds,
            }
        });
        let at = |share| measured.books.latency().value_at_quantile(share);
        let is_false = shape.requests() == Requests::Counted;
        Self {
            scenario: None,
            engine,
            transport,
            settings,
            shape: shape.clone(),
            pairs: measured.pairs,
            seconds,
            pairs_per_second: float(measured.pairs) / seconds,
            sent: measured.books.sent(),
            faults: measured.books.faults(),
            stalls: measured.stalls,
            requests: measured.requests,
            false_requests: if is_false { measured.requests } else { 0 },
            commits: measured.commits,
            latency_ns: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: measured.books.latency().max(),
            },
            cpu,
            memory,
            driver_ns_per_pair: measured.driver.as_secs_f64() * 1e9 / pairs,
            frames_per_write: measured.frames_per_write,
            frames_per_read: measured.frames_per_read,
        }
    }

    /// Whether every frame came back once, unchanged, in order, and no request was false.
    pub fn is_sound(&self) -> bool {
        self.faults.none() && self.stalls == 0 && self.false_requests == 0 && self.sent > 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let shape = &self.shape;
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        let protocol = if shape.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
        line(
            "load",
            format!(
                "{protocol}, {} bytes, {} flows, {}",
                shape.frame,
                shape.flows,
                shape.rate.map_or_else(
                    || format!("{} on the way at most", shape.in_flight()),
                    |rate| format!("{rate} pairs/s")
                )
            ),
        );
        let name = self.engine.name();
        let settings = if self.settings.is_empty() { "defaults".to_owned() } else { self.settings.join(" ") };
        line("comparer", format!("{name}, {} sockets, {settings}", self.transport.name()));
        line("measured", format!("{} pairs in {:.2} s", thousands(self.pairs), self.seconds));
        let bits = self.pairs_per_second * float(u64::try_from(shape.frame).unwrap_or(0)) * 8.0;
        line("throughput", format!("{} pairs/s, {:.2} Gbit/s", rounded(self.pairs_per_second), bits / 1e9));
        let ns = &self.latency_ns;
        let [p50, p90, p99, p999, max] = [ns.p50, ns.p90, ns.p99, ns.p999, ns.max].map(micros);
        line("latency", format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} µs"));
        if let Some(cpu) = &self.cpu {
            line(
                "comparer CPU",
                format!(
                    "{:.0} ns a pair ({:.0} user, {:.0} system), {:.2} cores",
                    cpu.ns_per_pair, cpu.user_ns_per_pair, cpu.system_ns_per_pair, cpu.cores
                ),
            );
        }
        if let Some(memory) = &self.memory {
            line("memory", format!("{} MiB, at most {} MiB", memory.resident >> 20, memory.peak >> 20));
        }
        line("load's CPU", format!("{:.0} ns a pair, waiting included", self.driver_ns_per_pair));
        let io = [self.frames_per_write, self.frames_per_read].map(|mean| format!("{mean:.1}"));
        line("frames", format!("{} a write, {} a read of the output", io[0], io[1]));
        let faults = &self.faults;
        line(
            "books",
            format!(
                "{} sent: {} lost, {} twice, {} out of order, {} altered, {} unmatched; {} stalls",
                thousands(self.sent),
                faults.lost,
                faults.duplicates,
                faults.out_of_order,
                faults.altered,
                faults.unmatched,
                self.stalls
            ),
        );
        line(
            "checkpoints",
            format!(
                "{} asked for, {} of them falsely, {} committed",
                self.requests, self.false_requests, self.commits
            ),
        );
        text
    }
}

impl Kind {
    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colo => "colo",
            Self::Qemu => "QEMU",
            Self::Echo => "echo",
            Self::Given => "given",
        }
    }
}

impl Transport {
    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "TCP",
        }
    }
}

/// A count with separators.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in k or M.
pub fn rounded(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{:.2} M", rate / 1e6)
    } else if rate >= 1e4 {
        format!("{:.0} k", rate / 1e3)
    } else {
        format!("{rate:.0}")
    }
}

/// Nanoseconds as microseconds.
pub fn micros(ns: u64) -> String {
    let us = float(ns) / 1e3;
    if us >= 100.0 { format!("{us:.0}") } else { format!("{us:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(["1", "1,000", "1,234,567"].map(str::to_owned), [1, 1000, 1_234_567].map(thousands));
        assert_eq!([999.0, 12_300.0, 4_560_000.0].map(rounded), ["999", "12 k", "4.56 M"]);
        assert_eq!([1_234, 250_000].map(micros), ["1.2", "250"]);
    }
}
