//! Flags to options, errors to sentences and exit codes.

use std::time::Duration;

use anyhow::Context;
use clap::CommandFactory;

use super::*;
use crate::config::{CheckpointBackend, CommitAfter, PollMode, PortAddress, RunMode};

fn parse(line: &str) -> Command {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).expect(line)
}

fn compare(line: &str) -> anyhow::Result<CompareOptions> {
    match parse(line) {
        Command::Compare(args) => args.options(),
        other => panic!("{other:?}"),
    }
}

fn replay(line: &str) -> anyhow::Result<ReplayOptions> {
    match parse(line) {
        Command::Replay(args) => args.options(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_has_an_example() {
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let help = sub.render_long_help().to_string();
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[test]
fn compare_flags_become_options() {
    let options = compare(
        "colo compare --primary-in unix:/p --secondary-in tcp:[::]:9004,listen --out pcap:o.pcap --checkpoint none \
         --checkpoint-ms never --workers 1 --cores 0 --run-mode pipeline --poll busy --compare-timeout 200 --metrics off \
         --set reorder_grace=7 --log debug --json",
    )
    .expect("options");
    assert_eq!(options.pairs[0].ports.primary_in, PortAddress::Chardev("unix:/p".to_owned()));
    assert_eq!(options.pairs[0].ports.out, PortAddress::Pcap("o.pcap".into()));
    assert_eq!(options.settings.checkpoint.none_commit_after, CommitAfter::Never);
    assert_eq!(options.settings.runtime.cores, vec![0]);
    assert_eq!(options.settings.runtime.run_mode, RunMode::Pipeline);
    assert_eq!(options.settings.runtime.poll, PollMode::Busy);
    assert_eq!(options.settings.compare.compare_timeout, Duration::from_millis(200));
    assert_eq!(options.settings.compare.reorder_grace, Duration::from_millis(7));
    assert_eq!(options.settings.metrics, None);
    assert_eq!(options.settings.log, "debug");
    assert_eq!(options.format, Format::Json);
}

#[test]
fn replay_flags_become_options() {
    let options = replay(
        "colo replay --primary p --secondary s --released r --verdicts v --checkpoint-ms 9 --workers 4 \
         --set checkpoint=notify:unix:/n --fail-on-mismatch",
    )
    .expect("options");
    assert_eq!(options.settings.checkpoint.none_commit_after, CommitAfter::After(Duration::from_millis(9)));
    assert_eq!(options.settings.checkpoint.backend, CheckpointBackend::None);
    assert_eq!(options.settings.runtime.workers, 4);
    assert_eq!(options.on_mismatch, OnMismatch::Fail);
    assert_eq!(options.verdicts, Some("v".into()));
}

#[test]
fn replay_never_writes_over_what_it_reads() {
    let error = replay("colo replay --primary p --secondary s --released s").expect_err("one file");
    assert_eq!(sentence(&error), "--released s is the file of --secondary; give it another name");
    assert_eq!(exit_code(&error), USAGE);
    assert!(
        replay("colo replay --primary p --secondary s --released /dev/null --verdicts /dev/null").is_ok()
    );
}

#[test]
fn demo_flags_become_options() {
    let line =
        "colo demo --seconds 3 --diverge 0.5 --rate 100 --flows 9 --seed 7 --workers 2 --metrics 127.0.0.1:0";
    let Command::Demo(args) = parse(line) else { panic!("not demo") };
    let options = args.options().expect("options");
    assert_eq!(options.run_for, Duration::from_secs(3));
    assert_eq!((options.rate, options.flows, options.seed), (Some(100.0), 9, 7));
    assert_eq!(options.settings.runtime.workers, 2);
    for bad in ["--diverge 1.5", "--diverge nan", "--rate 0", "--flows 0", "--seconds 0"] {
        let line = format!("colo demo {bad}");
        let error = Cli::try_parse_from(line.split_whitespace()).expect_err(bad);
        assert_eq!(error.exit_code(), 2, "{bad}");
    }
}

#[test]
fn errors_are_one_sentence_with_their_causes_once() {
    let cause = std::io::Error::other("the disk\nis gone");
    let error = Err::<(), _>(cause).context("cannot write out.pcap").expect_err("an error");
    assert_eq!(sentence(&error), "cannot write out.pcap: the disk is gone");
    assert_eq!(exit_code(&error), FAILED);
    let error = compare("colo compare --workers none").expect_err("no number");
    assert_eq!(
        sentence(&error),
        "--workers is \"none\", but must be a whole number of threads from 1 to 64; for example --workers 2"
    );
    assert_eq!(exit_code(&error), USAGE);
}
