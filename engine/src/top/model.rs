//! What is shown: the latest page, what has changed since the one before, and what the operator looks at.

use std::collections::VecDeque;

use serde_json::Value;

/// Intervals that the sparkline remembers.
const REMEMBERED: usize = 240;

/// What flows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// How long their frames waited.
    HeldTime,
    /// How often they differed.
    Mismatches,
}

/// A flow as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FlowRow {
    pub(super) flow: String,
    pub(super) held_seconds: f64,
    pub(super) longest_seconds: f64,
    pub(super) frames: u64,
    pub(super) mismatches: u64,
    pub(super) timeouts: u64,
    /// How it last differed.
    pub(super) last: Option<Value>,
}

/// A core as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CoreRow {
    pub(super) core: String,
    /// Share of the interval, 0–1.
    pub(super) busy: f64,
    /// Iterations a second: busy, idle, sleep.
    pub(super) polls: [f64; 3],
}

/// The whole state.
#[derive(Debug)]
pub(super) struct Model {
    source: String,
    now: Value,
    before: Value,
    error: Option<String>,
    /// Mean release latency of each interval, microseconds.
    latency: VecDeque<u64>,
    sort: Sort,
    pair: usize,
    selected: usize,
    explaining: bool,
    paused: bool,
}

impl Model {
    pub(super) fn new(source: String) -> Self {
        Self {
            source,
            now: Value::Null,
            before: Value::Null,
            error: None,
            latency: VecDeque::with_capacity(REMEMBERED),
            sort: Sort::HeldTime,
            pair: 0,
            selected: 0,
            explaining: false,
            paused: false,
        }
    }

    /// A new page, or why there is none.
    pub(super) fn take(&mut self, page: Result<Value, String>) {
        if self.paused {
            return;
        }
        match page {
            Err(why) => self.error = Some(why),
            Ok(page) => {
                // A restart begins anew.
                let restarted = number(&page["uptime_seconds"]) < number(&self.now["uptime_seconds"]);
                self.before = if restarted { Value::Null } else { self.now.take() };
                self.now = page;
                self.error = None;
                self.pair = self.pair.min(self.pairs().len().saturating_sub(1));
                self.note_latency();
                self.select(self.selected);
            }
        }
    }

    /// The mean over the interval, from counts and means since the start.
    fn note_latency(&mut self) {
        let (mut count, mut sum) = (0.0, 0.0);
        for why in ["matched", "ack", "flush"] {
            let total = |pair: &Value| {
                let recorded = &pair["release_latency_ns"][why];
                (number(&recorded["count"]), number(&recorded["count"]) * number(&recorded["mean"]))
            };
            let ((now, sum_now), (then, sum_then)) = (total(self.shown()), total(self.shown_before()));
            count += now - then;
            sum += sum_now - sum_then;
        }
        let mean_us = if count > 0.0 { sum / count / 1e3 } else { 0.0 };
        if self.latency.len() == REMEMBERED {
            self.latency.pop_front();
        }
        self.latency.push_back(format!("{:.0}", mean_us.max(0.0)).parse().unwrap_or(0));
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn is_explaining(&self) -> bool {
        self.explaining
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    pub(super) fn page(&self) -> &Value {
        &self.now
    }

    pub(super) fn pairs(&self) -> &[Value] {
        self.now["pairs"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The pair that is looked at.
    pub(super) fn shown(&self) -> &Value {
        &self.now["pairs"][self.pair]
    }

    fn shown_before(&self) -> &Value {
        &self.before["pairs"][self.pair]
    }

    pub(super) fn latency(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.latency.iter().copied()
    }

    /// Seconds between the two pages; `None` while there is only one.
    fn interval(&self) -> Option<f64> {
        let before = self.before["uptime_seconds"].as_f64()?;
        Some(number(&self.now["uptime_seconds"]) - before).filter(|seconds| *seconds > 0.0)
    }

    /// By how much a number of the pair grows in a second; of its whole life while there is one page only.
    pub(super) fn rate(&self, path: &[&str]) -> f64 {
        let at = |pair: &Value| number(path.iter().fold(pair, |value, key| &value[*key]));
        self.per_second(at(self.shown()), at(self.shown_before()))
    }

    fn per_second(&self, now: f64, then: f64) -> f64 {
        let seconds = self.interval().unwrap_or_else(|| number(&self.now["uptime_seconds"]).max(0.001));
        ((now - then) / seconds).max(0.0)
    }

    /// Rates of all counters in an object of the pair, by name.
    pub(super) fn rates(&self, path: &[&str]) -> Vec<(String, f64)> {
        let object = path.iter().fold(self.shown(), |value, key| &value[*key]);
        let names = object.as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let rate = |name: String| {
            let path: Vec<_> = path.iter().copied().chain([name.as_str()]).collect();
            let rate = self.rate(&path);
            (name, rate)
        };
        names.map(rate).collect()
    }

    pub(super) fn cores(&self) -> Vec<CoreRow> {
        let cores = self.now["cores"].as_array().map_or(&[][..], Vec::as_slice).iter().enumerate();
        let row = |(place, core): (usize, &Value)| {
            let before = &self.before["cores"][place];
            let polls = |state: &str| {
                let at = |core: &Value| number(&core["poll_iterations"][state]);
                self.per_second(at(core), at(before))
            };
            let busy = |core: &Value| number(&core["busy_seconds"]);
            CoreRow {
                core: word(&core["core"]),
                busy: self.per_second(busy(core), busy(before)).min(1.0),
                polls: ["busy", "idle", "sleep"].map(polls),
            }
        };
        cores.map(row).collect()
    }

    /// The flows that are known, sorted.
    pub(super) fn flows(&self) -> Vec<FlowRow> {
        let mut rows: Vec<FlowRow> = Vec::new();
        let listed = |name: &str| self.shown()["flows"][name].as_array().map_or(&[][..], Vec::as_slice);
        for one in listed("by_held_time") {
            rows.push(FlowRow {
                flow: word(&one["flow"]),
                held_seconds: number(&one["held_seconds"]),
                longest_seconds: number(&one["longest_seconds"]),
                frames: one["frames"].as_u64().unwrap_or(0),
                mismatches: 0,
                timeouts: 0,
                last: None,
            });
        }
        for one in listed("by_mismatches") {
            let flow = word(&one["flow"]);
            let place = rows.iter().position(|row| row.flow == flow).unwrap_or_else(|| {
                let (held_seconds, longest_seconds) = (0.0, 0.0);
                let (frames, mismatches, timeouts, last) = (0, 0, 0, None);
                rows.push(FlowRow {
                    flow,
                    held_seconds,
                    longest_seconds,
                    frames,
                    mismatches,
                    timeouts,
                    last,
                });
                rows.len() - 1
            });
            let row = &mut rows[place];
            row.mismatches = one["mismatches"].as_u64().unwrap_or(0);
            row.timeouts = one["timeouts"].as_u64().unwrap_or(0);
            row.last = Some(one["last"].clone());
        }
        match self.sort {
            Sort::HeldTime => rows.sort_by(|one, other| other.held_seconds.total_cmp(&one.held_seconds)),
            Sort::Mismatches => rows.sort_by_key(|row| std::cmp::Reverse(row.mismatches + row.timeouts)),
        }
        rows
    }

    pub(super) fn sort_otherwise(&mut self) {
        self.sort = match self.sort {
            Sort::HeldTime => Sort::Mismatches,
            Sort::Mismatches => Sort::HeldTime,
        };
    }

    /// Says why the selected flow last differed, or no more.
    pub(super) fn explain(&mut self) {
        self.explaining = !self.explaining && self.selected < self.flows().len();
    }

    pub(super) fn explain_no_more(&mut self) {
        self.explaining = false;
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    pub(super) fn next_pair(&mut self) {
        self.pair = (self.pair + 1) % self.pairs().len().max(1);
        (self.selected, self.explaining) = (0, false);
        self.latency.clear();
    }

    pub(super) fn select_next(&mut self) {
        self.select(self.selected + 1);
    }

    pub(super) fn select_previous(&mut self) {
        self.select(self.selected.saturating_sub(1));
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.flows().len().saturating_sub(1));
    }
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

pub(super) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
