//! How fast the client asks: as fast as answers come, or a given number of requests a second in total.

use std::time::Duration;

use super::stack::Micros;

/// A pacer that was idle may catch up by this much, µs.
const CATCH_UP: Micros = 10_000;

/// Gives leave to send requests.
#[derive(Debug)]
pub(super) struct Pacer {
    interval_ns: u64,
    next_ns: u64,
}

impl Pacer {
    /// `rate` requests a second; without a rate every request may go at once.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval =
            rate.filter(|rate| *rate > 0.0).and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        let interval_ns =
            interval.map_or(0, |interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        Self { interval_ns, next_ns: 0 }
    }

    /// True if one request may go now.
    pub(super) fn take(&mut self, now: Micros) -> bool {
        let now_ns = now.saturating_mul(1_000);
        if now_ns < self.next_ns {
            return false;
        }
        let floor = now.saturating_sub(CATCH_UP).saturating_mul(1_000);
        self.next_ns = self.next_ns.max(floor).saturating_add(self.interval_ns);
        true
    }

    /// When the next request may go.
    pub(super) fn next(&self) -> Micros {
        self.next_ns.div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_a_second_and_no_rate_never_waits() {
        let mut pacer = Pacer::new(Some(250.0));
        let taken = (0..1_000_000).step_by(100).filter(|&now| pacer.take(now)).count();
        assert!((249..=253).contains(&taken), "{taken}");
        let mut free = Pacer::new(None);
        assert!((0..100).all(|_| free.take(5)));
    }
}
