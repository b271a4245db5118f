//! Families of samples in the `prometheus` crate's own model, filled from plain numbers.
//!
//! No registry and no live counters: a scrape builds what it shows and forgets it.

use hdrhistogram::Histogram;
use prometheus::proto;

/// One bound of a histogram: the same instant in nanoseconds, to count by, and in seconds, to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) ns: u64,
    pub(super) seconds: f64,
}

/// A metric with all its series.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: proto::MetricType,
    series: Vec<proto::Metric>,
}

/// Label names and values of one series.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Family {
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: proto::MetricType::COUNTER, series: Vec::new() }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: proto::MetricType::GAUGE, series: Vec::new() }
    }

    pub(super) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: proto::MetricType::HISTOGRAM, series: Vec::new() }
    }

    /// Adds a series of a count.
    pub(super) fn count(&mut self, labels: Labels<'_>, value: u64) {
        self.value(labels, float(value));
    }

    /// Adds a series of a counter or gauge.
    pub(super) fn value(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = proto::Metric::from_label(pairs(labels));
        if self.kind == proto::MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.series.push(metric);
    }

    /// Adds a series of a histogram from recorded nanoseconds.
    pub(super) fn distribution(&mut self, labels: Labels<'_>, recorded: &Histogram<u64>, bounds: &[Bound]) {
        let mut metric = proto::Metric::from_label(pairs(labels));
        metric.set_histogram(buckets(recorded, bounds));
        self.series.push(metric);
    }

    /// In the crate's model; `None` without any series, which the text format has no way to show.
    pub(super) fn finish(self) -> Option<proto::MetricFamily> {
        if self.series.is_empty() {
            return None;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(self.series);
        Some(family)
    }
}

fn pairs(labels: Labels<'_>) -> Vec<proto::LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Cumulative buckets. A recorded value counts by the low end of its cell, so that what happened exactly at a bound
/// (a release at the 0.4 s timeout) is within it; a cell is 0.1 % wide at most.
fn buckets(recorded: &Histogram<u64>, bounds: &[Bound]) -> proto::Histogram {
    let mut counts = vec![0_u64; bounds.len()];
    let (mut total, mut sum_ns) = (0_u64, 0.0_f64);
    for step in recorded.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_at_value());
        let low = recorded.lowest_equivalent(value);
        if let Some(within) = bounds.iter().position(|bound| low <= bound.ns) {
            counts[within] += count;
        }
        total += count;
        sum_ns += float(recorded.median_equivalent(value)) * float(count);
    }
    let mut below = 0;
    let cumulative = bounds.iter().zip(counts).map(|(bound, count)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound.seconds);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(cumulative.collect());
    histogram.set_sample_count(total);
    histogram.set_sample_sum(sum_ns / 1e9);
    histogram
}

/// A count as the floating-point number Prometheus wants; exact up to 2^53.
pub(super) fn float(count: u64) -> f64 {
    let half = |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    half(count >> 32).mul_add(4_294_967_296.0, half(count))
}
