//! Rules that change while frames are held: each frame under one set of rules, in order, none lost.

use anyhow::{Context, Result};
use colo_engine::compare::CompareSettings;
use colo_engine::policy::{Action, ClassPolicies, Rule, RuleSet};

use super::rig::{Books, LAYOUTS, Live, Name, names, patient};

const FLOWS: u16 = 64;
/// Flows below this one are those that the rule is about.
const RULED: u16 = 32;

/// One rule for the lower half of the flows.
fn rules(base: CompareSettings, action: Action) -> RuleSet {
    let peer_ports = "10000-10031".parse().expect("ports");
    let rule = Rule { peer_ports, action, ..Rule::default() };
    RuleSet::new(base, ClassPolicies::default(), vec![rule]).expect("one rule")
}

fn ruled(names: &[Name]) -> Vec<Name> {
    names.iter().copied().filter(|name| name.flow < RULED).collect()
}

fn others(names: &[Name]) -> Vec<Name> {
    names.iter().copied().filter(|name| name.flow >= RULED).collect()
}

/// Flow by flow, as they came.
fn by_flow(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_by_key(|name| name.flow);
    names
}

#[test]
fn case_91_held_frames_of_a_flow_that_passes_now_leave_in_order() -> Result<()> {
    for layout in LAYOUTS {
        let settings = patient(layout);
        let mut live = Live::start(&settings)?;
        let held = names(FLOWS, 0..20);
        live.primary.send(&held)?;
        live.secondary.send(&names(FLOWS, 500..502))?;
        live.wait("all is held", |pair| {
            pair.primary.held_frames == 1_280 && pair.secondary.held_frames == 128
        })?;
        live.engine.pairs()[0].replace_rules(rules(settings.compare, Action::Pass));
        let more = names(FLOWS, 20..22);
        live.primary.send(&more)?;
        let expected: Vec<_> = [ruled(&held), ruled(&more)].concat();
        let got = live.out.receive(expected.len()).with_context(|| format!("{layout:?}"))?;
        assert!(by_flow(got) == by_flow(expected), "{layout:?}: in order, each once");
        live.out.stays_quiet().with_context(|| format!("{layout:?}: the others wait"))?;
        live.wait("the secondary's went too", |pair| pair.secondary.dropped.pass == 64)?;
        // Compared again: what comes now is picked up where it is.
        live.engine.pairs()[0].replace_rules(RuleSet::empty(settings.compare));
        let new = ruled(&names(FLOWS, 30..33));
        live.primary.send(&new)?;
        live.out.stays_quiet()?;
        live.secondary.send(&new)?;
        let got = live.out.receive(new.len()).with_context(|| format!("{layout:?}"))?;
        assert!(by_flow(got) == by_flow(new), "{layout:?}");
        live.commit();
        let rest = live.out.receive(others(&held).len() + others(&more).len())?;
        assert!(rest == [others(&held), others(&more)].concat(), "{layout:?}: the flush is as ever");
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

#[test]
fn case_91_held_frames_of_a_flow_that_is_held_now_stay_until_the_commit() -> Result<()> {
    for layout in LAYOUTS {
        let settings = patient(layout);
        let mut live = Live::start(&settings)?;
        let held = names(FLOWS, 0..3);
        live.primary.send(&held)?;
        live.wait("all is held", |pair| pair.primary.held_frames == 192)?;
        live.engine.pairs()[0].replace_rules(rules(settings.compare, Action::Hold));
        live.wait("the rule is in force", |pair| pair.rules.count == 1)?;
        live.secondary.send(&held)?;
        let got = live.out.receive(others(&held).len()).with_context(|| format!("{layout:?}"))?;
        assert!(by_flow(got) == by_flow(others(&held)), "{layout:?}: the others are compared");
        live.out.stays_quiet()?;
        // The rule goes: what it held stays, and nothing overtakes it, not even what both have sent.
        live.engine.pairs()[0].replace_rules(RuleSet::empty(settings.compare));
        let more = ruled(&names(FLOWS, 3..5));
        live.primary.send(&more)?;
        live.secondary.send(&more)?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}"))?;
        live.commit();
        let expected = [ruled(&held), more].concat();
        let got = live.out.receive(expected.len()).with_context(|| format!("{layout:?}"))?;
        assert!(got == expected, "{layout:?}: in order of arrival");
        let new = names(FLOWS, 10..12);
        live.primary.send(&new)?;
        live.out.stays_quiet()?;
        live.secondary.send(&new)?;
        assert!(by_flow(live.out.receive(new.len())?) == by_flow(new), "{layout:?}: compared again");
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}: {books:?}");
    }
    Ok(())
}

#[test]
fn case_91_rules_that_change_all_the_time_lose_and_disorder_nothing() -> Result<()> {
    for layout in LAYOUTS {
        let settings = patient(layout);
        let mut live = Live::start(&settings)?;
        let sent = names(FLOWS, 0..120);
        let actions = [Action::Pass, Action::Compare, Action::Hold, Action::Compare];
        let mut got = Vec::new();
        for (at, some) in sent.chunks(320).enumerate() {
            live.engine.pairs()[0].replace_rules(rules(settings.compare, actions[at % actions.len()]));
            live.primary.send(some)?;
            live.secondary.send(some)?;
            got.extend(live.out.receive_some()?);
            live.commit();
        }
        while got.len() < sent.len() {
            live.commit();
            got.extend(live.out.receive_some()?);
        }
        assert!(by_flow(got) == by_flow(sent), "{layout:?}: each once, in the order of its flow");
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held[0], 0, "{layout:?}: {books:?}");
    }
    Ok(())
}
