//! `colo replay` on any two captures: what it writes depends on the captures alone, to the byte, and on how many
//! workers the connections are spread over not at all.

use std::path::Path;
use std::process::Command;

use colo_engine::side::{BySide, Side};
use pmd_tap::CaptureWriter;
use proptest::prelude::*;

use crate::drive::Frames;
use crate::fragments::cut_all;
use crate::hostile::{Made, made, times};

/// What a replay writes, besides its answer on standard output.
const WRITTEN: [(&str, &str); 3] =
    [("--verdicts", "verdicts.jsonl"), ("--released", "released.pcap"), ("--diverged", "diverged.pcapng")];

fn write(path: &Path, frames: &Frames) {
    let mut writer = CaptureWriter::create(path).unwrap();
    for (at_ns, frame) in frames {
        writer.write(*at_ns, frame).unwrap();
    }
    writer.finish().unwrap();
}

/// Both sides' frames, those of usual shape in fragments now and then.
fn captures(traffic: &[Made], seeds: &[u32]) -> BySide<Frames> {
    let of = |side: Side| {
        let times = times(traffic);
        let sent = traffic.iter().zip(times).filter(|(made, _)| made.side == side);
        let whole: Frames = sent.map(|(made, at_ns)| (at_ns, made.bytes.clone())).collect();
        cut_all(&whole, seeds).0
    };
    BySide { primary: of(Side::Primary), secondary: of(Side::Secondary) }
}

/// Everything a replay says.
fn replay(folder: &Path, workers: &str, set: &str) -> Vec<Vec<u8>> {
    let mut colo = Command::new(env!("CARGO_BIN_EXE_colo"));
    colo.args(["replay", "--json", "--workers", workers, "--set", set]);
    for (flag, name) in
        [("--primary", "primary.pcap"), ("--secondary", "secondary.pcap")].iter().chain(&WRITTEN)
    {
        colo.arg(flag).arg(folder.join(name));
    }
    let output = colo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said = vec![output.stdout, output.stderr];
    said.extend(WRITTEN.map(|(_, name)| std::fs::read(folder.join(name)).unwrap_or_default()));
    for (_, name) in WRITTEN {
        let _ = std::fs::remove_file(folder.join(name));
    }
    said
}

proptest! {
    // Each case starts four processes.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]
    #[test]
    fn any_captures_replay_the_same_with_any_number_of_workers(
        traffic in prop::collection::vec(made(), 1..120),
        seeds in prop::collection::vec(any::<u32>(), 16),
        set in prop_oneof![
            Just("secondary_sequence=auto"),
            Just("min_checkpoint_interval=0"),
            Just("syn_options=ignore"),
            Just("class.malformed=hold"),
        ],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let captures = captures(&traffic, &seeds);
        write(&folder.path().join("primary.pcap"), &captures.primary);
        write(&folder.path().join("secondary.pcap"), &captures.secondary);
        let first = replay(folder.path(), "1", set);
        prop_assert!(!first[2].is_empty(), "no verdict");
        for workers in ["1", "2", "3"] {
            let again = replay(folder.path(), workers, set);
            for (first, again) in first.iter().zip(&again) {
                prop_assert_eq!(
                    String::from_utf8_lossy(first),
                    String::from_utf8_lossy(again),
                    "{} workers",
                    workers
                );
            }
        }
    }
}
