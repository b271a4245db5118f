//! Bounds that are smaller than what one instant brings.

use std::convert::Infallible;

use super::*;
use crate::compare::CompareSettings;

struct Burst(Vec<Vec<u8>>);

impl Input for Burst {
    type Error = Infallible;

    fn next_time(&mut self) -> Result<Option<Nanos>, Infallible> {
        Ok((!self.0.is_empty()).then_some(Nanos(1_000)))
    }

    fn take(&mut self) -> Result<Vec<u8>, Infallible> {
        Ok(self.0.remove(0))
    }
}

#[derive(Default)]
struct Log(Vec<Event>);

impl Recorder for Log {
    type Error = Infallible;

    fn record(&mut self, _: Nanos, event: Event, _: Option<&Frame>) -> Result<(), Infallible> {
        self.0.push(event);
        Ok(())
    }
}

/// Frames that leave at once need no room, however many come at one instant.
#[test]
fn a_burst_at_one_instant_reaches_no_bound() {
    let shard = ShardSettings {
        compare: CompareSettings::default(),
        max_connections: 4,
        max_held_frames: 4,
        tick: Duration::from_millis(10),
    };
    let lifecycle =
        LifecycleSettings { min_interval: Duration::ZERO, delay: Duration::ZERO, max_interval: None };
    let settings = VirtualSettings {
        modes: ModeSettings::default(),
        shards: 1,
        shard,
        lifecycle,
        commit_after: None,
        max_gso_frames: 1,
        max_fragments: 8,
        checksums: VerifyChecksums::Off,
    };
    for len in [60, 1_000, 9_000, 20_000] {
        let mut arp = vec![0; len];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let burst = || Burst(vec![arp.clone(); 100]);
        let mut log = Log::default();
        let mut engine = VirtualTime::new(settings).unwrap();
        let Ok(()) = engine.run(BySide { primary: burst(), secondary: burst() }, &mut log);
        let expected: Vec<_> = (0..100)
            .map(|frame| Event::Release { frame, why: Release::Pass, held: Duration::ZERO })
            .chain((0..100).map(|frame| Event::Drop { frame, why: Discard::Pass }))
            .collect();
        assert_eq!(log.0, expected, "frames of {len} bytes");
    }
}
