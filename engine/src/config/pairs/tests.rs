//! Several pairs: what holds for all, what is a pair's own, and every mistake one exact sentence.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{Sources, dump_json};
use crate::modes::Mode;
use crate::policy::Action;
use crate::wire::Class;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colo.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn sources(path: PathBuf) -> Sources {
    Sources { file: Some(path), ..Sources::new(Purpose::Compare) }
}

fn load(text: &str) -> Vec<PairSettings> {
    let (_folder, path) = file(text);
    sources(path).load_pairs().expect(text)
}

fn sentence(text: &str) -> String {
    let (folder, path) = file(text);
    let error = sources(path).load_pairs().expect_err(text).to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

/// A pair with ports.
fn pair(name: &str, more: &str) -> String {
    format!(
        "[[pair]]\nname = \"{name}\"\nprimary_in = \"unix:/{name}/p\"\nsecondary_in = \"unix:/{name}/s\"\n\
         outdev = \"unix:/{name}/o\"\n{more}"
    )
}

const TWO: &str = "checkpoint = \"none\"\ncompare_timeout = 300\nmax_held_frames = 4096\nclass.arp = \"hold\"\n\
                   [[rule]]\nprotocol = 89\naction = \"pass\"\n";

fn two() -> String {
    let own = "compare_timeout = 5\nmode = \"passive\"\nrule = []\nout = \"unix:/db/out,vnet\"\n[pair.class]\nlldp = \"hold\"\n";
    let own = pair("db", own).replace("outdev = \"unix:/db/o\"\n", "");
    format!(
        "{TWO}{}[[pair.rule]]\nprotocol = \"udp\"\n{own}",
        pair("web", "checkpoint = \"notify:unix:/n\"\n")
    )
}

#[test]
fn a_pair_has_what_is_said_above_and_what_it_says_itself() {
    let pairs = load(&two());
    let [web, db] = pairs.as_slice() else { panic!("{pairs:?}") };
    assert_eq!((web.name.as_str(), db.name.as_str()), ("web", "db"));
    assert_eq!(web.ports.primary_in.to_string(), "unix:/web/p");
    assert_eq!(db.ports.out.to_string(), "unix:/db/out,vnet");
    let timeouts = [web, db].map(|pair| pair.settings.compare.compare_timeout);
    assert_eq!(timeouts, [Duration::from_millis(300), Duration::from_millis(5)]);
    let ticks = [web, db].map(|pair| pair.settings.runtime.timer_tick.as_millis());
    assert_eq!(ticks, [10, 5], "a default gives way to what the pair says");
    assert_eq!([web, db].map(|pair| pair.settings.limits.max_held_frames), [4096, 4096]);
    assert_eq!([web, db].map(|pair| pair.settings.modes.mode), [Mode::Colo, Mode::Passive]);
    let classes = |class| [web, db].map(|pair| pair.settings.policy.classes.of(class));
    assert_eq!(classes(Class::Arp), [Action::Hold; 2]);
    assert_eq!(classes(Class::Lldp), [Action::Pass, Action::Hold]);
    let rules = |pair: &PairSettings| pair.settings.policy.rules.len();
    assert_eq!((rules(web), rules(db)), (1, 0), "a pair's rules stand in the place of all pairs'");
    assert_eq!(web.settings.policy.rules[0].action, Action::Compare);
}

#[test]
fn flags_are_for_pairs_that_do_not_say_otherwise() {
    let (_folder, path) = file(&two());
    let mut flags = sources(path).flag("compare_timeout", Some(100));
    flags.set = vec!["max_held_frames=2048".to_owned(), "workers=1".to_owned()];
    let pairs = flags.load_pairs().unwrap();
    let timeouts: Vec<_> =
        pairs.iter().map(|pair| pair.settings.compare.compare_timeout.as_millis()).collect();
    assert_eq!(timeouts, [100, 5]);
    assert!(pairs.iter().all(|pair| pair.settings.limits.max_held_frames == 2048));
    let error = flags.flag("outdev", Some("unix:/x")).load_pairs().unwrap_err().to_string();
    assert_eq!(
        error,
        "--out is given beside [[pair]], but each pair has ports of its own; write it under its [[pair]]"
    );
}

#[test]
fn dumped_pairs_load_to_the_same_pairs() {
    let exec = pair("x", "checkpoint = \"none\"\nrule = []\n");
    for text in [two(), exec, TWO.to_owned() + &pair("only", "")] {
        let (_folder, path) = file(&text);
        let sources_of = |path: &PathBuf| sources(path.clone());
        let first = sources_of(&path);
        let dumped = first.dump_toml().unwrap();
        let (_folder, again) = file(&dumped);
        let again = sources_of(&again);
        assert_eq!(again.load_pairs(), first.load_pairs(), "{dumped}");
        assert_eq!(again.dump_toml().as_ref(), Ok(&dumped));
        let json = first.dump_json().unwrap();
        let pairs = first.load_pairs().unwrap();
        assert_eq!(json["pair"].as_array().map(Vec::len), Some(pairs.len()));
        assert_eq!(json["pair"][0]["name"], pairs[0].name);
        assert_eq!(json["pair"][0]["compare_timeout"], dump_json(&pairs[0].settings)["compare_timeout"]);
        assert_eq!(json["pair"][0]["workers"], serde_json::Value::Null, "that is the engine's");
    }
}

#[test]
fn a_file_with_pairs_serves_replay_by_what_stands_above_them() {
    let (_folder, path) = file(&two());
    let settings = Sources { file: Some(path), ..Sources::new(Purpose::Replay) }.load().unwrap();
    assert_eq!(settings.compare.compare_timeout.as_millis(), 300);
    assert_eq!(settings.policy.rules.len(), 1);
}

/// Files, and the sentences that answer them.
fn bad_pairs() -> Vec<(String, &'static str)> {
    let a = pair("a", "checkpoint = \"none\"\n");
    vec![
        ("pair = 1\n".to_owned(), "colo.toml:1: pair is no list of tables; write [[pair]] in front of each"),
        (
            "[pair]\nname = \"a\"\n".to_owned(),
            "colo.toml:1: pair is no list of tables; write [[pair]] in front of each",
        ),
        (
            "\n[[pair]]\nmode = \"off\"\n".to_owned(),
            "colo.toml:2: a pair has no name; write name = \"web\" under its [[pair]]",
        ),
        (
            "[[pair]]\nname = \"a b\"\n".to_owned(),
            "colo.toml:2: name of a pair is \"a b\", but must be 1 to 32 letters, digits, dots, dashes and underscores, the \
             first a letter or digit; for example name = \"web\"",
        ),
        (
            "[[pair]]\nname = 7\n".to_owned(),
            "colo.toml:2: name of a pair is 7, but must be 1 to 32 letters, digits, dots, dashes and underscores, the \
             first a letter or digit; for example name = \"web\"",
        ),
        (
            format!("{a}[[pair]]\nname = \"a\"\n"),
            "colo.toml:7: two pairs are called a; give each a name of its own",
        ),
        (
            format!("{a}workers = 2\n"),
            "colo.toml:7: workers is the whole engine's, not a pair's; write it above the first [[pair]]",
        ),
        (
            format!("primary_in = \"unix:/x\"\n{a}"),
            "colo.toml:1: primary_in is given beside [[pair]], but each pair has ports of its own; write it under its \
             [[pair]]",
        ),
        (
            "[[pair]]\nname = \"a\"\ncheckpoint = \"none\"\nprimary_in = \"unix:/p\"\n".to_owned(),
            "colo.toml:1: pair a has no secondary_in; write secondary_in = \"unix:/run/colo/secondary.sock,listen\" under \
             its [[pair]]",
        ),
        (
            pair("a", ""),
            "colo.toml:1: pair a has no checkpoint; write checkpoint = \"notify:unix:/run/colo/notify.sock\" under its \
             [[pair]]",
        ),
        (
            format!("{a}{}", pair("b", "checkpoint = \"notify:unix:/a/p\"\n")),
            "colo.toml:12: checkpoint of pair b is unix:/a/p, and so is primary_in of pair a; give each its own",
        ),
        (
            format!("checkpoint = \"qmp:unix:/m\"\n{}{}", pair("a", ""), pair("b", "")),
            "colo.toml:1: checkpoint of pair b is unix:/m, and so is checkpoint of pair a; give each its own",
        ),
        (
            format!("diverged = \"/d\"\n{a}{}", pair("b", "checkpoint = \"none\"\n")),
            "colo.toml:1: diverged of pair b is /d, and so is diverged of pair a; give each its own",
        ),
        (
            format!("{a}{}", pair("b", "checkpoint = \"none\"\non_primary_loss = \"exit\"\n")),
            "colo.toml:13: on_primary_loss of pair b is \"exit\", which would end the other pairs, too; set it to \"hold\", \
             or give the pair an engine of its own",
        ),
        (
            format!("{a}compare_timeout = 50\nexpired_scan_cycle = 60\n"),
            "colo.toml:8: expired_scan_cycle is 60 ms, longer than compare_timeout with 50 ms; lower it to 50 or less",
        ),
        (
            format!("{a}[[pair.pair]]\nname = \"b\"\n"),
            "colo.toml:7: pair is the whole engine's, not a pair's; write it above the first [[pair]]",
        ),
    ]
}

#[test]
fn bad_pairs_get_one_exact_sentence() {
    for (text, expected) in bad_pairs() {
        assert_eq!(sentence(&text), expected, "{text}");
    }
    let long = "x".repeat(33);
    assert!(sentence(&format!("[[pair]]\nname = \"{long}\"\n")).contains("but must be 1 to 32 letters"));
    assert!(sentence(&"[[pair]]\n".repeat(65)).contains("65 pairs are more than 64"));
}
