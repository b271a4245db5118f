//! Clock steps (case 92), where a replay can show them: stamps that run backwards. Time stands still until they have
//! caught up; nothing is late because a clock was set.

use colo_tests::case::{Case, Ns, Side, Time, ack, on_both, seg, udp};

const HOUR_MS: u64 = 3_600_000;

/// So many milliseconds after the first hour, where every case here begins.
fn at(ms: u64) -> Ns {
    (HOUR_MS + ms).ms()
}

#[test]
fn case_92_the_primarys_clock_steps_back() {
    on_both(|case| {
        let case = case.handshake(at(0)).p(at(100), seg(0..10));
        // An hour back: the capture goes on from there, and the engine's time stays where it was.
        let case = case.stamped(Side::Primary, at(100), 100.ms(), seg(10..20));
        let case = case.stamped(Side::Primary, at(100), 700.ms(), seg(20..30));
        let outcome = case.s(at(110), seg(0..20)).s(at(120), seg(20..30)).run();
        outcome.quiet().released(1, at(110), "matched").released(2, at(110), "matched");
        outcome.released(3, at(120), "matched");
    });
}

#[test]
fn case_92_the_secondarys_clock_steps_back() {
    on_both(|case| {
        let case = case.handshake(at(0)).s(at(100), seg(0..10));
        let case = case.stamped(Side::Secondary, at(100), 5.ms(), seg(10..20));
        let outcome = case.p(at(101), seg(0..20)).p(at(102), ack(0)).run();
        outcome.quiet().released(1, at(101), "matched").released(2, at(102), "ack");
    });
}

#[test]
fn case_92_both_clocks_step_back() {
    on_both(|case| {
        let mut case = case.handshake(at(0)).p(at(100), seg(0..10)).s(at(100), ack(0));
        // Ten seconds of traffic by clocks that were set back, in which nothing gets old.
        for step in 1..=20_u32 {
            let (start, stamp) = (i64::from(step) * 10, (u64::from(step) * 500).ms());
            case = case.stamped(Side::Primary, at(100), stamp, seg(start..start + 10));
            case = case.stamped(Side::Secondary, at(100), stamp, seg(start - 10..start));
        }
        let outcome = case.stamped(Side::Secondary, at(100), 10_001.ms(), seg(200..210)).run();
        outcome.quiet();
        for frame in 1..=21 {
            outcome.released(frame, at(100), "matched");
        }
    });
}

#[test]
fn case_92_a_timeout_is_as_late_as_without_a_step() {
    on_both(|case| {
        let case = case.handshake(at(0)).p(at(100), seg(0..10));
        let case = case.stamped(Side::Primary, at(100), 1.ms(), seg(10..20));
        let outcome = case.p(at(499), ack(0)).run();
        outcome.timeout(at(500)).commits(&[at(505)]);
        outcome.released(1, at(505), "flush").released(2, at(505), "flush").released(3, at(505), "flush");
    });
}

#[test]
fn case_92_a_grace_is_as_long_as_without_a_step() {
    on_both(|case| {
        let case = case.p(at(0), udp(b"A")).s(at(10), udp(b"B"));
        let outcome = case.stamped(Side::Secondary, at(10), 1.ms(), udp(b"C")).run();
        outcome.mismatch(at(30), "datagram");
    });
}

#[test]
fn case_92_a_gap_in_a_capture_is_time_that_passed() {
    // No step: a replay's only clock is its stamps.
    let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..10)).s(at(0), seg(0..10));
    case.run().timeout(401.ms()).released(1, 406.ms(), "flush");
}
