//! The published numbers of the policies, and what modes may and may not do.

use std::time::Duration;

use pmd_tap::Nanos;
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn policy(kind: PolicyKind) -> Policy {
    Policy::new(&ModeSettings { policy: kind, ..ModeSettings::default() })
}

/// Feeds epochs of one length until something other than COLO is chosen; how many that took, or `None` after 1,000.
fn colo_epochs_until_passive(policy: &mut Policy, length: Duration) -> Option<u32> {
    (1..=1_000).find(|_| policy.epoch_ends(Kind::Colo, length) == Kind::Passive)
}

fn passive_epochs_until_colo(policy: &mut Policy) -> u32 {
    let ends = |_: &u32| policy.epoch_ends(Kind::Passive, ms(250)) == Kind::Colo;
    (1..=1_000_000).find(ends).unwrap()
}

#[test]
fn classic_takes_481_ms_for_400_at_first() {
    // 0.7 of nothing, five times over: 83.2 % of the true mean.
    assert_eq!(colo_epochs_until_passive(&mut policy(PolicyKind::Classic), ms(480)), Some(5));
    assert_eq!(colo_epochs_until_passive(&mut policy(PolicyKind::Classic), ms(481)), None);
    // What counts after ten epochs is 97.2 %: nine of 481 ms do not help one that is asked again at the tenth.
    let mut tenth = policy(PolicyKind::Classic);
    for _ in 0..9 {
        assert_eq!(tenth.epoch_ends(Kind::Colo, ms(481)), Kind::Colo);
    }
    assert_eq!(tenth.epoch_ends(Kind::Colo, ms(222)), Kind::Passive);
    assert_eq!(policy(PolicyKind::Classic).epoch_ends(Kind::Colo, ms(1)), Kind::Colo, "not before the fifth");
}

#[test]
fn classic_tries_again_after_100_passive_epochs_and_five_bad_ones_for_ever() {
    let mut classic = policy(PolicyKind::Classic);
    for _ in 0..20 {
        assert_eq!(colo_epochs_until_passive(&mut classic, ms(20)), Some(5));
        assert_eq!(passive_epochs_until_colo(&mut classic), 100);
    }
}

#[test]
fn hybrid_takes_400_ms_for_400() {
    assert_eq!(colo_epochs_until_passive(&mut policy(PolicyKind::Hybrid), ms(399)), Some(5));
    assert_eq!(colo_epochs_until_passive(&mut policy(PolicyKind::Hybrid), ms(401)), None);
}

#[test]
fn hybrid_comes_back_only_above_its_other_limit() {
    for (length, comes_back) in [(ms(599), false), (ms(601), true)] {
        let mut hybrid = policy(PolicyKind::Hybrid);
        colo_epochs_until_passive(&mut hybrid, ms(20)).unwrap();
        passive_epochs_until_colo(&mut hybrid);
        let trial = colo_epochs_until_passive(&mut hybrid, length);
        assert_eq!(trial, if comes_back { None } else { Some(3) }, "{length:?}");
    }
}

#[test]
fn hybrid_tries_less_often_while_trials_fail_and_as_often_as_ever_after_a_good_one() {
    let mut hybrid = policy(PolicyKind::Hybrid);
    colo_epochs_until_passive(&mut hybrid, ms(20)).unwrap();
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(passive_epochs_until_colo(&mut hybrid));
        assert_eq!(colo_epochs_until_passive(&mut hybrid, ms(20)), Some(3), "a trial is three epochs");
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 1600]);
    passive_epochs_until_colo(&mut hybrid);
    for _ in 0..3 {
        assert_eq!(hybrid.epoch_ends(Kind::Colo, ms(10_000)), Kind::Colo);
    }
    colo_epochs_until_passive(&mut hybrid, ms(1)).unwrap();
    assert_eq!(passive_epochs_until_colo(&mut hybrid), 100);
}

fn modes(mode: Mode) -> Modes {
    Modes::new(ModeSettings { mode, ..ModeSettings::default() }, Nanos::ZERO)
}

fn set(modes: &mut Modes, mode: Mode, now: Nanos) -> Next {
    modes.replace(ModeSettings { mode, ..*modes.settings() }, now)
}

fn cause(reason: Reason, detail: Detail) -> Cause {
    Cause { reason, at: Nanos::ZERO, flow: None, detail }
}

#[test]
fn a_mode_begins_where_it_may() {
    let begins = |mode| {
        let modes = modes(mode);
        (modes.conduct(), modes.period(Some(ms(10_000))))
    };
    assert_eq!(begins(Mode::Colo), (Conduct::Compare, Some(ms(10_000))));
    assert_eq!(begins(Mode::Hybrid), (Conduct::Compare, Some(ms(10_000))));
    assert_eq!(begins(Mode::Passive), (Conduct::Hold, Some(ms(250))));
    assert_eq!(begins(Mode::Off), (Conduct::Pass, None));
}

#[test]
fn comparing_begins_with_a_commit_holding_and_passing_at_once() {
    let mut modes = modes(Mode::Colo);
    assert_eq!((set(&mut modes, Mode::Passive, Nanos(1)), modes.conduct()), (Next::Nothing, Conduct::Hold));
    assert_eq!((set(&mut modes, Mode::Colo, Nanos(2)), modes.conduct()), (Next::Nothing, Conduct::Hold));
    assert_eq!(modes.commit(Nanos(3), None), Conduct::Compare);
    assert_eq!((set(&mut modes, Mode::Off, Nanos(4)), modes.conduct()), (Next::Nothing, Conduct::Pass));
    assert_eq!(modes.commit(Nanos(5), None), Conduct::Pass, "a commit brings no secondary back");
    assert_eq!(
        (set(&mut modes, Mode::Colo, Nanos(6)), modes.conduct()),
        (Next::Checkpoint, Conduct::Hold),
        "the secondary must be made a copy first"
    );
    assert_eq!(modes.commit(Nanos(7), None), Conduct::Compare);
    let told: Vec<_> = modes.history().iter().map(|switch| (switch.at.0, switch.to, switch.why)).collect();
    assert_eq!(
        told,
        [
            (0, Conduct::Compare, Why::Start),
            (1, Conduct::Hold, Why::Operator),
            (3, Conduct::Compare, Why::Operator),
            (4, Conduct::Pass, Why::Operator),
            (6, Conduct::Hold, Why::Operator),
            (7, Conduct::Compare, Why::Operator),
        ]
    );
    assert_eq!(modes.switches(), [2, 2, 1]);
}

#[test]
fn the_policy_chooses_under_hybrid_alone() {
    for (mode, conduct) in [(Mode::Hybrid, Conduct::Hold), (Mode::Colo, Conduct::Compare)] {
        let mut modes = modes(mode);
        for epoch in 1..=5 {
            modes.commit(Nanos(epoch * 20 * MS), None);
        }
        assert_eq!(modes.conduct(), conduct, "{mode:?}");
    }
}

#[test]
fn an_epoch_ends_with_the_pause_and_not_with_the_commit() {
    let mut modes = modes(Mode::Hybrid);
    for epoch in 0..5 {
        // A checkpoint of a second makes no COLO epoch of 390 ms longer.
        let began = epoch * 1_390;
        modes.commit(Nanos((began + 1_390) * MS), Some(Nanos((began + 390) * MS)));
    }
    assert_eq!(modes.conduct(), Conduct::Hold);
}

#[test]
fn where_nothing_is_compared_only_bounds_bring_a_checkpoint_forward() {
    let full = |limit| cause(Reason::QueueFull, Detail::Bound { limit });
    let passive = modes(Mode::Passive);
    assert!(!passive.heeds(&cause(Reason::Mismatch, Detail::None)));
    assert!(!passive.heeds(&cause(Reason::Timeout, Detail::None)));
    assert!(!passive.heeds(&full("max_queue_size")));
    assert!(passive.heeds(&full("max_held_frames")));
    assert!(passive.heeds(&cause(Reason::Operator, Detail::None)));
    assert!(modes(Mode::Colo).heeds(&full("max_queue_size")));
    assert!(!modes(Mode::Off).heeds(&full("max_held_frames")));
}

#[test]
fn a_secondary_that_was_given_up_is_back_with_a_commit_and_not_before() {
    let mut modes = modes(Mode::Colo);
    assert!(!modes.begin_return(Nanos(1)), "it never left");
    modes.give_up_secondary(Nanos(2));
    assert_eq!((modes.conduct(), modes.is_secondary_lost()), (Conduct::Pass, true));
    assert_eq!(modes.commit(Nanos(3), None), Conduct::Pass, "no pause that anybody saw");
    assert!(modes.begin_return(Nanos(4)));
    assert_eq!(modes.conduct(), Conduct::Hold);
    modes.fail_return(Nanos(5));
    assert_eq!((modes.conduct(), modes.is_secondary_lost()), (Conduct::Pass, true));
    assert!(modes.begin_return(Nanos(6)));
    assert_eq!((modes.commit(Nanos(7), None), modes.is_secondary_lost()), (Conduct::Compare, false));
}

#[test]
fn the_operators_off_outlives_a_pause() {
    let mut modes = modes(Mode::Off);
    modes.give_up_secondary(Nanos(1));
    assert!(!modes.is_secondary_lost() && !modes.begin_return(Nanos(2)));
    assert_eq!(modes.conduct(), Conduct::Pass);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut modes = modes(Mode::Off);
    for now in 1..100 {
        set(&mut modes, if now % 2 == 1 { Mode::Passive } else { Mode::Off }, Nanos(now));
    }
    assert_eq!((modes.history().len(), modes.history().last().unwrap().at), (HISTORY, Nanos(99)));
    assert_eq!(modes.switches(), [0, 50, 49]);
}

const QUARANTINE: Option<QuarantineSettings> = Some(QuarantineSettings { after: 3, epochs: 4 });

#[test]
fn a_flow_that_keeps_differing_is_put_aside_and_tried_again() {
    let mut flow = Quarantine::default();
    for _ in 0..2 {
        assert_eq!(flow.differs(QUARANTINE), Sentence::Checkpoint);
        assert_eq!(flow.differs(QUARANTINE), Sentence::Checkpoint, "one strike an epoch");
        flow.commits(1);
    }
    assert_eq!((flow.differs(QUARANTINE), flow.is_aside()), (Sentence::Aside, true));
    flow.commits(3);
    assert!(flow.is_aside());
    flow.commits(1);
    assert!(!flow.is_aside());
    assert_eq!(flow.differs(QUARANTINE), Sentence::Aside, "it has not changed");
    assert_eq!(flow.differs(None), Sentence::Checkpoint, "switched off");
}

#[test]
fn quiet_epochs_take_strikes_off() {
    let mut flow = Quarantine::default();
    flow.differs(QUARANTINE);
    flow.commits(1);
    flow.differs(QUARANTINE);
    flow.commits(3);
    assert_eq!(flow.differs(QUARANTINE), Sentence::Checkpoint, "two quiet epochs");
    flow.commits(u32::MAX);
    assert_eq!(flow, Quarantine::default());
}

proptest! {
    /// Whatever is done, comparing begins only with a commit, and passing only when told or when the secondary is gone.
    #[test]
    fn comparing_begins_only_with_a_commit(steps in prop::collection::vec((0_u8..8, 1_u64..1_000), 1..200)) {
        let mut modes = modes(Mode::Hybrid);
        let mut now = Nanos::ZERO;
        for (step, pause) in steps {
            now = Nanos(now.0 + pause * MS);
            let before = modes.conduct();
            match step {
                0 => { modes.commit(now, None); }
                1 => { modes.give_up_secondary(now); }
                2 => { modes.begin_return(now); }
                3 => modes.fail_return(now),
                4 => { set(&mut modes, Mode::Colo, now); }
                5 => { set(&mut modes, Mode::Passive, now); }
                6 => { set(&mut modes, Mode::Hybrid, now); }
                _ => { set(&mut modes, Mode::Off, now); }
            }
            let after = modes.conduct();
            if after == Conduct::Compare && before != Conduct::Compare {
                prop_assert_eq!((step, before), (0, Conduct::Hold));
            }
            if after == Conduct::Pass {
                prop_assert!(modes.settings().mode == Mode::Off || modes.is_secondary_lost());
            }
        }
    }
}
