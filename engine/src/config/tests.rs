//! Bad input to exact sentences, precedence, round trips, and nothing ever panics.

use std::path::PathBuf;

use proptest::prelude::*;

use super::validate::Machine;
use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("colo.toml");
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

fn two_cores() -> Machine {
    Machine { cores: vec![0, 1] }
}

/// The sentence for a file, with its folder cut off.
fn sentence(text: &str) -> String {
    let (folder, path) = file(text);
    let mut sources = Sources::new(Purpose::Compare);
    sources.file = Some(path);
    let error = sources.load_on(&two_cores()).expect_err(text).to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

fn set(pairs: &[&str]) -> Result<Settings, ConfigError> {
    let mut sources = Sources::new(Purpose::Compare);
    sources.set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    sources.load_on(&two_cores()).map(|(settings, _)| settings)
}

/// A file, and the sentence that answers it.
const BAD_FILES: &[(&str, &str)] = &[
    (
        "compare_timout = 400\n",
        "colo.toml:1: unknown key \"compare_timout\"; the nearest known one is compare_timeout (colo dump-config \
             lists them all)",
    ),
    (
        "# a comment\n\n[primary]\nin = 1\n",
        "colo.toml:3: unknown key \"primary\"; the nearest known one is primary_in (colo dump-config lists them all)",
    ),
    (
        "workers = 2\ncompare_timeout = 0\n",
        "colo.toml:2: compare_timeout is 0, but must be a whole number of milliseconds from 1 to 3600000; for \
             example compare_timeout = 400",
    ),
    (
        "compare_timeout = \"400\"\n",
        "colo.toml:1: compare_timeout is \"400\", but must be a whole number of milliseconds from 1 to 3600000; \
             for example compare_timeout = 400",
    ),
    (
        "compare_timeout = 0.4\n",
        "colo.toml:1: compare_timeout is a number with a fraction, but must be a whole number of milliseconds \
             from 1 to 3600000; for example compare_timeout = 400",
    ),
    (
        "checkpoint_ms = \"always\"\n",
        "colo.toml:1: checkpoint_ms is \"always\", but must be a whole number of milliseconds from 0 to 3600000, \
             or \"never\"; for example checkpoint_ms = 5",
    ),
    (
        "run_mode = \"threads\"\n",
        "colo.toml:1: run_mode is \"threads\", but must be \"workers\" or \"pipeline\"; for example run_mode = \
             \"workers\"",
    ),
    (
        "poll = true\n",
        "colo.toml:1: poll is true, but must be \"busy\" or \"adaptive\"; for example poll = \"adaptive\"",
    ),
    (
        "vnet_hdr_support = 1\n",
        "colo.toml:1: vnet_hdr_support is 1, but must be true or false; for example vnet_hdr_support = true",
    ),
    (
        "primary_in = \"socket:/run/a\"\n",
        "colo.toml:1: primary_in is \"socket:/run/a\", but must be unix:PATH[,listen][,vnet], \
             tcp:HOST:PORT[,listen][,vnet], tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet], dpdk:DEVICE[,ARGS] or pcap:FILE (\"socket:/run/a\" has no \
             known kind in front; write unix:PATH[,listen][,vnet], tcp:HOST:PORT[,listen][,vnet], \
             tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet], dpdk:DEVICE[,ARGS] or pcap:FILE); for example primary_in = \
             \"unix:/run/colo/primary.sock\"",
    ),
    (
        "metrics = \"9420\"\n",
        "colo.toml:1: metrics is \"9420\", but must be a numeric address with a port, or \"off\"; for example \
             metrics = \"127.0.0.1:9420\"",
    ),
    (
        "log = \"inof\"\n",
        "colo.toml:1: log is \"inof\", but must be error, warn, info, debug, trace or off, or MODULE=LEVEL with \
             commas between; for example log = \"info\"",
    ),
    ("cores = [0, 0]\n", "colo.toml:1: cores names core 0 twice; name each core once"),
    ("cores = \"0,7\"\n", "colo.toml:1: cores names core 7, which this machine does not offer; it has 0,1"),
    (
        "cores = [0]\nworkers = 2\n",
        "colo.toml:2: workers is 2, but cores lists only 1; list a core for each or lower workers",
    ),
    (
        "compare_timeout = 50\nexpired_scan_cycle = 60\n",
        "colo.toml:2: expired_scan_cycle is 60 ms, longer than compare_timeout with 50 ms; lower it to 50 or less",
    ),
    (
        "max_checkpoint_interval = 50\nmin_checkpoint_interval = 100\n",
        "colo.toml:2: min_checkpoint_interval is 100 ms, longer than max_checkpoint_interval with 50 ms; swap or \
             lower it",
    ),
    (
        "max_queue_size = 200\nmax_held_frames = 100\n",
        "colo.toml:1: max_queue_size is 200, more than max_held_frames with 100; lower it or raise max_held_frames",
    ),
    (
        "primary_in = \"unix:/a\"\noutdev = \"unix:/a,listen\"\n",
        "colo.toml:2: outdev has the address unix:/a, and so has primary_in; give each its own",
    ),
    (
        "notify_dev = \"unix:/n\"\ncheckpoint = \"none\"\n",
        "colo.toml:2: notify_dev and checkpoint set the same thing; keep one of them",
    ),
    (
        "out = \"unix:/n\"\noutdev = \"unix:/n\"\n",
        "colo.toml:2: out and outdev set the same thing; keep one of them",
    ),
    ("workers = 1\nworkers 2\n", "colo.toml:2:9: not TOML: key with no value, expected `=`"),
];

#[test]
fn bad_files_get_one_exact_sentence() {
    for (text, expected) in BAD_FILES {
        assert_eq!(sentence(text), *expected, "{text}");
    }
}

#[test]
fn bad_set_and_flags_get_one_exact_sentence() {
    let said = |pair: &str| set(&[pair]).expect_err(pair).to_string();
    assert_eq!(
        said("workers"),
        "--set \"workers\" has no key and value; write --set key=value, as in --set compare_timeout=400"
    );
    assert_eq!(
        said("worker=2"),
        "--set: unknown key \"worker\"; the nearest known one is workers (colo dump-config lists them all)"
    );
    assert_eq!(
        said("workers=many"),
        "--set: workers is \"many\", but must be a whole number of threads from 1 to 64; for example --set workers=2"
    );
    assert_eq!(
        said("cores=a"),
        "--set: cores is \"a\", but must be core numbers, as in \"0,1\" or \"2-5\"; for example --set cores=0,1"
    );
    let flag = Sources::new(Purpose::Compare).flag("outdev", Some("tcp:host:99999"));
    assert_eq!(
        flag.load().expect_err("a bad port").to_string(),
        "--out is \"tcp:host:99999\", but must be unix:PATH[,listen][,vnet], tcp:HOST:PORT[,listen][,vnet], \
         tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet], dpdk:DEVICE[,ARGS] or pcap:FILE (\"tcp:host:99999\" has the port \"99999\", which is not a number from 1 to 65535); for example \
         --out unix:/run/colo/out.sock"
    );
}

#[test]
fn unreadable_files_are_named() {
    let (folder, path) = file("");
    let load = |path: PathBuf| {
        let sources = Sources { file: Some(path), ..Sources::new(Purpose::Compare) };
        sources
            .load()
            .expect_err("unreadable")
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        load(folder.path().join("none.toml")),
        "cannot read the configuration file none.toml: No such file or directory"
    );
    std::fs::write(&path, b"workers = 1\n# \xff\n").expect("a file");
    assert_eq!(load(path), "colo.toml:2: not UTF-8 text; save the file as UTF-8");
}

#[test]
fn later_sources_win() {
    let (_folder, path) = file("compare_timeout = 100\nworkers = 2\npoll = \"busy\"\n");
    let mut sources = Sources::new(Purpose::Compare).flag("workers", Some(3)).flag("poll", Some("adaptive"));
    sources.file = Some(path);
    sources.set = vec!["workers=4".to_owned(), "workers=5".to_owned()];
    let settings = sources.load().expect("settings");
    assert_eq!(settings.compare.compare_timeout.as_millis(), 100);
    assert_eq!(settings.runtime.poll, PollMode::Adaptive);
    assert_eq!(settings.runtime.workers, 5);
    assert_eq!(settings.compare.max_queue_size, 1024);
}

#[test]
fn qemu_names_are_taken_as_they_are() {
    let text = "primary_in = \"tcp:127.0.0.1:9001\"\nsecondary_in = \"tcp:[::1]:9004,listen\"\n\
                outdev = \"unix:/run/out,vnet\"\nnotify_dev = \"unix:/run/n\"\nvnet_hdr_support = true\n\
                compare_timeout = 3000\nexpired_scan_cycle = 1000\nmax_queue_size = 1024\n";
    let (_folder, path) = file(text);
    let sources = Sources { file: Some(path), ..Sources::new(Purpose::Compare) };
    let pairs = sources.load_pairs().expect("settings");
    let [PairSettings { name, settings, ports }] = pairs.as_slice() else { panic!("{pairs:?}") };
    assert_eq!(name, DEFAULT_PAIR);
    assert_eq!(ports.primary_in, PortAddress::Chardev("tcp:127.0.0.1:9001,vnet".to_owned()));
    assert_eq!(ports.out, PortAddress::Chardev("unix:/run/out,vnet".to_owned()));
    let notify: SocketAddress = "unix:/run/n".parse().expect("an address");
    assert_eq!(settings.checkpoint.backend, CheckpointBackend::Notify(notify));
}

#[test]
fn live_traffic_needs_ports_and_somebody_who_takes_checkpoints() {
    let mut sources = Sources::new(Purpose::Compare).flag("primary_in", Some("unix:/p"));
    let missing = "--secondary-in is missing; say --secondary-in unix:PATH[,listen][,vnet], \
                   tcp:HOST:PORT[,listen][,vnet], tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet], dpdk:DEVICE[,ARGS] or pcap:FILE, or secondary_in = \"...\" in the file";
    assert_eq!(sources.load_pairs().expect_err("no ports").to_string(), missing);
    sources = sources.flag("secondary_in", Some("unix:/s")).flag("outdev", Some("unix:/o"));
    assert_eq!(sources.load_pairs().map(|_| ()), Err(ConfigError::MissingCheckpoint));
    assert!(sources.flag("checkpoint", Some("none")).load_pairs().is_ok());
}

#[test]
fn defaults_give_way_to_what_was_set() {
    let settings = set(&["compare_timeout=5"]).expect("a short timeout");
    assert_eq!(settings.runtime.timer_tick.as_millis(), 5);
    let settings = set(&["max_checkpoint_interval=50"]).expect("a short interval");
    assert_eq!(settings.checkpoint.min_interval.as_millis(), 50);
    let settings = set(&["max_held_frames=64"]).expect("a small budget");
    assert_eq!(settings.compare.max_queue_size, 64);
}

#[test]
fn replay_has_no_delay_and_no_periodic_checkpoints() {
    let settings = Sources::new(Purpose::Replay).load().expect("defaults");
    assert!(settings.checkpoint.delay.is_zero());
    assert_eq!(settings.checkpoint.max_interval, None);
    assert_eq!(settings.checkpoint.backend, CheckpointBackend::None);
}

#[test]
fn words_for_nothing_are_taken() {
    let settings =
        set(&["checkpoint_ms=never", "max_checkpoint_interval=off", "metrics=off"]).expect("words");
    assert_eq!(settings.checkpoint.none_commit_after, CommitAfter::Never);
    assert_eq!(settings.checkpoint.max_interval, None);
    assert_eq!(settings.metrics, None);
    assert_eq!(set(&["max_checkpoint_interval=0"]).expect("zero").checkpoint.max_interval, None);
    assert_eq!(set(&["cores=0-1", "workers=2"]).expect("a range").runtime.cores, vec![0, 1]);
    assert_eq!(set(&["cores=[1, 0]"]).expect("a pasted list").runtime.cores, vec![1, 0]);
}

#[test]
fn examples_of_all_keys_are_fine() {
    for key in keys::all() {
        assert_eq!(keys::find(key.name).map(|found| found.name), Some(key.name));
        let (_folder, path) = file(&format!("{} = {}\n", key.name, key.example));
        let sources = Sources { file: Some(path), ..Sources::new(Purpose::Compare) };
        assert_eq!(sources.load_on(&two_cores()).map(|_| ()), Ok(()), "{}", key.name);
    }
}

fn round_trip(settings: &Settings, purpose: Purpose) {
    let (_folder, path) = file(&dump::toml_text(settings, purpose, &load::Given::new()));
    let sources = Sources { file: Some(path), ..Sources::new(purpose) };
    assert_eq!(sources.load_on(&two_cores()).map(|(again, _)| again).as_ref(), Ok(settings));
}

#[test]
fn dumped_settings_load_to_the_same_settings() {
    for purpose in [Purpose::Compare, Purpose::Replay, Purpose::Demo] {
        round_trip(&Sources::new(purpose).load().expect("defaults"), purpose);
    }
    let odd = set(&[
        "primary_in=unix:/tmp/with \"quotes\" and \\ space",
        "secondary_in=tcp:[::1]:9004,listen,vnet",
        "out=pcap:out.pcap",
        "notify_dev=unix:/n,listen",
        "vnet_hdr_support=on",
        "cores=1,0",
        "workers=2",
        "checkpoint_ms=never",
        "metrics=off",
        "max_checkpoint_interval=off",
        "log=info,colo_engine::shard=debug",
        "class.arp=hold",
        "class.lldp=compare",
        "allow_unsafe_masks=true",
    ]);
    round_trip(&odd.expect("odd settings"), Purpose::Compare);
}

#[test]
fn dumped_rules_load_to_the_same_rules() {
    let text = "allow_unsafe_masks = true\n[class]\narp = \"hold\"\n[[rule]]\nprotocol = 89\naction = \"hold\"\n\
                [[rule]]\nprotocol = \"tcp\"\nguest_ports = \"80,8000-8100\"\npeer_ports = 7\n\
                guest = \"10.0.0.0/8\"\npeer = \"fd00::/8\"\nvlan = 0\nignore = [\"mss\", \"urgent\"]\n\
                mask = [{ offset = 3, length = 2 }, { regex = 'Date: [^\\r]*' }]\n[[rule]]\n";
    let (_folder, path) = file(text);
    let settings = Sources { file: Some(path), ..Sources::new(Purpose::Replay) }.load().expect("rules");
    assert_eq!(settings.policy.rules.len(), 3);
    assert_eq!(settings.policy.classes.of(crate::wire::Class::Arp), crate::policy::Action::Hold);
    round_trip(&settings, Purpose::Replay);
    assert_eq!(
        dump_json(&settings)["rule"][1]["mask"].as_str().map(|mask| mask.contains("Date")),
        Some(true)
    );
}

#[test]
fn bad_rules_get_one_exact_sentence() {
    for (text, expected) in [
        (
            "[[rule]]\nprotokol = 6\n",
            "colo.toml:2: unknown key \"protokol\" of a rule; the nearest known one is protocol",
        ),
        (
            "[[rule]]\naction = \"drop\"\n",
            "colo.toml:2: action of a rule is \"drop\", but must be \"compare\" or \"pass\" or \"hold\"; \
             for example action = \"pass\"",
        ),
        (
            "[[rule]]\nguest = \"10.0.0.1/8\"\n",
            "colo.toml:2: guest of a rule is \"10.0.0.1/8\", but must be an address with a prefix length, as in \
             10.0.0.0/24 or fd00::/8, and no bits set behind it; for example guest = \"10.0.0.0/24\"",
        ),
        (
            "\n[[rule]]\nmask = [{ offset = 1, length = 1 }]\n",
            "colo.toml:2: rule 1 masks payload, which is unsafe: what is masked is not compared; say \
             allow_unsafe_masks = true at the top of the file if that is what you want",
        ),
        ("rule = 1\n", "colo.toml:1: rule is no list of tables; write [[rule]] in front of each"),
        (
            "[class]\nmalformed = \"compare\"\n",
            "colo.toml:2: class.malformed is \"compare\", but must be \"pass\" or \"hold\"; for example \
             class.malformed = \"pass\"",
        ),
        (
            "[class]\nipx = \"pass\"\n",
            "colo.toml:2: unknown key \"class.ipx\"; the nearest known one is class.igmp (colo dump-config lists them \
             all)",
        ),
    ] {
        assert_eq!(sentence(text), expected, "{text}");
    }
    let many = "[[rule]]\n".repeat(257);
    assert!(sentence(&many).contains("257 rules are more than 256"));
    let large = "allow_unsafe_masks = true\n[[rule]]\nmask = [{ regex = \"[a-z]{1,400}x[0-9a-f]{300}y.{0,500}z\" }]\n";
    assert!(sentence(large).contains("needs an automaton of more than"));
}

#[test]
fn a_dumped_default_does_not_say_who_takes_checkpoints() {
    let text = |sources: Sources| sources.dump_toml().expect("settings");
    assert!(text(Sources::new(Purpose::Compare)).contains("\n# checkpoint = "));
    assert!(text(Sources::new(Purpose::Replay)).contains("\ncheckpoint = \"none\"\n"));
    let said = Sources::new(Purpose::Compare).flag("checkpoint", Some("none"));
    assert!(text(said).contains("\ncheckpoint = \"none\"\n"));
}

#[test]
fn json_has_every_key() {
    let json = dump_json(&Settings::defaults(Purpose::Compare));
    assert_eq!(json["compare_timeout"], 400);
    assert_eq!(json["primary_in"], serde_json::Value::Null);
    assert_eq!(
        json.as_object().map(serde_json::Map::len),
        Some(keys::all().count()),
        "notify_dev is not there, rule is"
    );
    assert_eq!(json["class.arp"], "pass");
}

#[test]
fn the_filter_to_build_again_stands_behind_the_monitors() {
    for (text, rebuild) in [
        ("qmp:unix:/p", Rebuild::Auto),
        ("qmp:unix:/p,secondary=unix:/s,rebuild=auto", Rebuild::Auto),
        ("qmp:unix:/p,secondary=unix:/s,rebuild=off", Rebuild::Off),
        ("qmp:unix:/p,listen,rebuild=redire0", Rebuild::Named("redire0".to_owned())),
    ] {
        let settings = set(&[&format!("checkpoint={text}")]).unwrap();
        round_trip(&settings, Purpose::Compare);
        let CheckpointBackend::Qmp(monitors) = settings.checkpoint.backend else { panic!("{text}") };
        assert_eq!(monitors.rebuild, rebuild, "{text}");
    }
    for text in ["qmp:unix:/p,rebuild=", "qmp:unix:/p,rebuild=x,secondary=unix:/s", "qmp:unix:/p,rebuild=a b"]
    {
        let told = set(&[&format!("checkpoint={text}")]).unwrap_err().to_string();
        assert!(told.contains("behind rebuild=, which is neither auto, off nor a filter's name"), "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_file_gives_settings_or_a_sentence(text in "\\PC{0,200}") {
        let (_folder, path) = file(&text);
        let sources = Sources { file: Some(path), ..Sources::new(Purpose::Compare) };
        if let Err(error) = sources.load() {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn any_value_gives_settings_or_a_sentence(at in 0..25_usize, value in prop_oneof![
        any::<String>(),
        "[0-9,\\-]{0,12}",
        "(unix|tcp|pcap|notify):[a-z:0-9\\[\\],/]{0,30}",
        any::<i128>().prop_map(|number| number.to_string()),
    ]) {
        let key = keys::KEYS[at].name;
        match set(&[&format!("{key}={value}")]) {
            Ok(settings) => round_trip(&settings, Purpose::Compare),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
        let (_folder, path) = file(&format!("{key} = {value}"));
        let sources = Sources { file: Some(path), ..Sources::new(Purpose::Compare) };
        let _ = sources.load();
    }

    #[test]
    fn any_set_gives_settings_or_a_sentence(text in any::<String>()) {
        let _ = set(&[&text]);
    }
}
