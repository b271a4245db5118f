//! The back end against a monitor that is played here: a checkpoint, and everything that only looks like one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::verdict::{Cause, Detail, Reason};

const MS: Duration = Duration::from_millis(1);
const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}"#;

/// The boundary is always taken at this time of day, and pauses begin before it.
const NOON: Duration = Duration::from_hours(12);
const BEFORE_NOON: Duration = Duration::from_millis(12 * 3_600_000 - 1);

struct Bench {
    folder: tempfile::TempDir,
    listener: UnixListener,
    backend: QmpBackend,
    now: Nanos,
}

/// The monitor's end of a connection.
struct Played {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Played {
    fn say(&mut self, line: &str) {
        writeln!(self.writer, "{line}").unwrap();
    }

    /// The next command's name and arguments; it must be there.
    fn command(&mut self) -> (String, Value) {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let command: Value = serde_json::from_str(&line).unwrap();
        let name = command["execute"].as_str().unwrap().to_owned();
        (name, command.get("arguments").cloned().unwrap_or(Value::Null))
    }

    fn silent(&mut self) -> bool {
        self.reader.get_ref().set_nonblocking(true).unwrap();
        let found = self.reader.fill_buf().map(<[u8]>::is_empty);
        self.reader.get_ref().set_nonblocking(false).unwrap();
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn event(&mut self, name: &str, at: Duration) {
        self.say(&format!(
            r#"{{"timestamp": {{"seconds": {}, "microseconds": {}}}, "event": "{name}"}}"#,
            at.as_secs(),
            at.subsec_micros()
        ));
    }
}

impl Bench {
    /// Nothing is built again, so that nothing is asked about it.
    fn new() -> Self {
        Self::with(",rebuild=off")
    }

    fn with(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let addresses = format!("unix:{}{options}", path.display());
        let backend = QmpBackend::new(&addresses.parse().unwrap()).unwrap();
        let backend = QmpBackend { time_of_day: || NOON, ..backend };
        Self { folder, listener, backend, now: Nanos::ZERO }
    }

    /// What is told by now.
    fn events(&mut self) -> Vec<BackendEvent> {
        self.now = self.now + MS;
        std::iter::from_fn(|| self.backend.poll(self.now)).collect()
    }

    /// All that is told within some polls, notes left out.
    fn told(&mut self) -> Vec<BackendEvent> {
        let told = (0..3).flat_map(|_| self.events()).collect::<Vec<_>>();
        told.into_iter().filter(|event| !matches!(event, BackendEvent::Note(_))).collect()
    }

    fn accept(&mut self) -> Played {
        self.now = self.now + Duration::from_secs(1);
        self.events();
        let writer = self.listener.accept().unwrap().0;
        let reader = BufReader::new(writer.try_clone().unwrap());
        Played { writer, reader }
    }

    /// A monitor that is ready, with a checkpoint delay of 20,001 ms.
    fn ready(&mut self) -> Played {
        let mut monitor = self.accept();
        monitor.say(GREETING);
        assert!(self.told().is_empty());
        assert_eq!(monitor.command(), ("qmp_capabilities".to_owned(), Value::Null));
        monitor.say(r#"{"return": {}}"#);
        assert!(self.told().is_empty());
        assert_eq!(monitor.command().0, "query-migrate-parameters");
        monitor.say(r#"{"return": {"x-checkpoint-delay": 20001, "multifd-channels": 2}}"#);
        assert!(self.told().is_empty());
        assert!(self.backend.link().is_some_and(|link| link.state == LinkState::Up));
        monitor
    }

    fn request(&mut self) {
        let cause = Cause { reason: Reason::Mismatch, at: self.now, flow: None, detail: Detail::None };
        self.backend.request(&Request { at: self.now, cause });
    }

    fn requested(&mut self, monitor: &mut Played) {
        self.request();
        assert!(self.told().is_empty());
        let (name, arguments) = monitor.command();
        assert_eq!(
            (name.as_str(), arguments),
            ("migrate-set-parameters", json!({ "x-checkpoint-delay": 20_001 }))
        );
        monitor.say(r#"{"return": {}}"#);
        assert!(self.told().is_empty());
    }

    fn stopped(&mut self, monitor: &mut Played) {
        monitor.event("STOP", BEFORE_NOON);
        assert_eq!(self.told(), [BackendEvent::Paused]);
        assert_eq!(monitor.command().0, "query-status");
    }
}

fn status(monitor: &mut Played, status: &str) {
    monitor.say(&format!(r#"{{"return": {{"status": "{status}", "singlestep": false, "running": false}}}}"#));
}

fn abandoned(told: &[BackendEvent], why: &str) -> bool {
    matches!(told, [BackendEvent::Abandoned(text)] if text.contains(why))
}

#[test]
fn a_checkpoint_is_asked_for_paused_and_committed() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    status(&mut monitor, "colo");
    assert!(bench.told().is_empty());
    bench.backend.boundary_taken();
    assert!(bench.told().is_empty());
    monitor.event("RESUME", NOON + MS);
    assert_eq!(bench.told(), [BackendEvent::Committed]);
    // The next one, where all of it has happened before the engine looks.
    bench.requested(&mut monitor);
    monitor.event("STOP", BEFORE_NOON);
    monitor.event("RESUME", NOON + MS);
    assert_eq!(bench.told(), [BackendEvent::Paused]);
    assert_eq!(monitor.command().0, "query-status");
    status(&mut monitor, "running");
    assert!(bench.told().is_empty(), "not before the boundary is taken");
    bench.backend.boundary_taken();
    assert_eq!(bench.told(), [BackendEvent::Committed]);
    assert!(monitor.silent());
}

#[test]
fn a_boundary_taken_too_late_commits_nothing() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    status(&mut monitor, "colo");
    monitor.event("RESUME", NOON);
    assert!(bench.told().is_empty());
    bench.backend.boundary_taken();
    assert!(abandoned(&bench.told(), "went on before"));
    // It is for others to ask again.
    assert!(monitor.silent());
    bench.requested(&mut monitor);
}

#[test]
fn a_pause_that_the_engine_gave_up_commits_nothing() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    bench.backend.boundary_taken();
    bench.backend.given_up();
    status(&mut monitor, "colo");
    monitor.event("RESUME", NOON + MS);
    assert!(bench.told().is_empty());
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    bench.backend.boundary_taken();
    status(&mut monitor, "colo");
    monitor.event("RESUME", NOON + MS);
    assert_eq!(bench.told(), [BackendEvent::Committed]);
}

#[test]
fn a_pause_of_the_operators_commits_nothing() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    for (said, asked, believed) in [
        ("paused", true, false),
        ("running", false, false),
        ("running", true, true),
        ("finish-migrate", false, true),
        ("colo", false, true),
        ("prelaunch", true, false),
    ] {
        if asked {
            bench.requested(&mut monitor);
        }
        bench.stopped(&mut monitor);
        bench.backend.boundary_taken();
        monitor.event("RESUME", NOON + MS);
        assert!(bench.told().is_empty(), "QEMU has not said yet what it was");
        status(&mut monitor, said);
        let told = bench.told();
        assert_eq!(told == [BackendEvent::Committed], believed, "{said}, asked for: {asked}: {told:?}");
        assert!(believed || abandoned(&told, "pause"), "{told:?}");
        // Whatever was asked for is answered by now, for the next round.
        if !believed && asked {
            bench.stopped(&mut monitor);
            bench.backend.boundary_taken();
            status(&mut monitor, "colo");
            monitor.event("RESUME", NOON + MS);
            assert_eq!(bench.told(), [BackendEvent::Committed]);
        }
    }
}

#[test]
fn a_link_lost_during_a_checkpoint_commits_nothing_and_is_asked_again_on_the_next() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    bench.backend.boundary_taken();
    drop(monitor);
    let told = bench.told();
    assert!(matches!(&told[..], [BackendEvent::Alarm(_), BackendEvent::Abandoned(_)]), "{told:?}");
    let mut monitor = bench.ready();
    let (name, _) = monitor.command();
    assert_eq!(name, "migrate-set-parameters", "it is still wanted");
    // Of a pause that nobody saw begin nothing is believed.
    monitor.event("RESUME", NOON + MS);
    assert!(bench.told().is_empty());
}

#[test]
fn a_request_waits_for_the_monitor() {
    let mut bench = Bench::new();
    bench.request();
    assert!(bench.told().is_empty());
    let mut monitor = bench.ready();
    assert_eq!(monitor.command().0, "migrate-set-parameters");
}

#[test]
fn a_request_that_qemu_refuses_is_told_and_made_again() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.request();
    assert!(bench.told().is_empty());
    assert_eq!(monitor.command().0, "migrate-set-parameters");
    monitor.say(r#"{"error": {"class": "GenericError", "desc": "no"}}"#);
    let told = bench.told();
    assert_eq!(told, [BackendEvent::Alarm("QEMU takes no checkpoint: no".to_owned())]);
    assert!(monitor.silent());
    bench.now = bench.now + RETRY_AFTER;
    assert!(bench.told().is_empty());
    assert_eq!(monitor.command().0, "migrate-set-parameters");
}

#[test]
fn the_end_of_colo_is_told_and_ends_the_checkpoint() {
    let mut bench = Bench::new();
    let mut monitor = bench.ready();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    monitor.say(
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "COLO_EXIT", "data": {"mode": "primary", "reason": "error"}}"#,
    );
    let told = bench.told();
    let alarm = "the primary's QEMU left COLO (mode primary, reason error): no checkpoint is taken any more";
    assert!(abandoned(&told[..1], "left COLO"), "{told:?}");
    let exited = BackendEvent::Exited(Side::Primary, ExitReason::Error);
    assert_eq!(told[1..], [BackendEvent::Alarm(alarm.to_owned()), exited]);
}

#[test]
fn the_secondarys_monitor_is_heard() {
    let mut bench = Bench::new();
    let path = bench.folder.path().join("s.qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let primary = bench.folder.path().join("p.qmp");
    let both = format!("unix:{},secondary=unix:{},rebuild=off", primary.display(), path.display());
    bench.backend = QmpBackend::new(&both.parse().unwrap()).unwrap();
    bench.events();
    let mut secondary = listener.accept().unwrap().0;
    writeln!(secondary, "{GREETING}\n{{\"return\": {{}}}}").unwrap();
    bench.told();
    let exit = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "COLO_EXIT", "data": {"mode": "secondary", "reason": "request"}}"#;
    writeln!(secondary, "{exit}").unwrap();
    let told = bench.told();
    assert!(
        matches!(&told[..], [BackendEvent::Alarm(text), BackendEvent::Exited(Side::Secondary, ExitReason::Request)]
            if text.starts_with("the secondary's QEMU left COLO")),
        "{told:?}"
    );
}

#[test]
fn a_pause_that_was_over_too_soon_counts_if_the_secondary_was_paused_too() {
    let mut bench = Bench::new();
    let path = bench.folder.path().join("s.qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let primary = bench.folder.path().join("p.qmp");
    let both = format!("unix:{},secondary=unix:{},rebuild=off", primary.display(), path.display());
    let backend = QmpBackend::new(&both.parse().unwrap()).unwrap();
    bench.backend = QmpBackend { time_of_day: || NOON, ..backend };
    let mut monitor = bench.ready();
    let mut secondary = listener.accept().unwrap().0;
    writeln!(secondary, "{GREETING}\n{{\"return\": {{}}}}").unwrap();
    assert!(bench.told().is_empty());
    let mut paused = |at: Duration| {
        let (seconds, micros) = (at.as_secs(), at.subsec_micros());
        let stamp = format!(r#"{{"seconds": {seconds}, "microseconds": {micros}}}"#);
        writeln!(secondary, r#"{{"timestamp": {stamp}, "event": "STOP"}}"#).unwrap();
    };
    bench.requested(&mut monitor);
    for (round, stopped) in (1..).zip([true, false, true]) {
        if stopped {
            paused(NOON + 10 * MS * (round - 1) + 9 * MS);
        }
        bench.stopped(&mut monitor);
        bench.backend.boundary_taken();
        monitor.event("RESUME", NOON + 10 * MS * round);
        assert!(bench.told().is_empty());
        status(&mut monitor, "running");
        let told = bench.told();
        if stopped {
            assert_eq!(told, [BackendEvent::Committed], "{round}");
            bench.requested(&mut monitor);
        } else {
            assert!(abandoned(&told, "over before"), "{round}: {told:?}");
        }
    }
}

/// What a primary's monitor says of its chardevs.
fn answer_about_filters(monitor: &mut Played, frontend_open: &str) {
    monitor.say(&format!(
        r#"{{"return": [{{"frontend-open": {frontend_open}, "filename": "disconnected:unix:out,server=on", "label": "compare_out"}}]}}"#
    ));
}

const OBJECTS: &str = r#"{"return": [{"name": "type", "type": "string"},
    {"name": "redire0", "type": "child<filter-redirector>"}, {"name": "m0", "type": "child<filter-mirror>"},
    {"name": "redire1", "type": "child<filter-redirector>"}]}"#;

#[test]
fn a_filter_that_has_let_go_is_built_again() {
    let mut bench = Bench::with("");
    bench.backend.rebuilder.set_output(Endpoint::Unix("/run/out".into()));
    let mut monitor = bench.ready();
    assert_eq!(monitor.command().0, "query-chardev");
    answer_about_filters(&mut monitor, "false");
    bench.told();
    assert_eq!(monitor.command(), ("qom-list".to_owned(), json!({ "path": "/objects" })));
    monitor.say(&OBJECTS.replace('\n', ""));
    for values in
        [["compare_out", "", "hn0", "rx", "on", "false"], ["", "compare0", "hn0", "rx", "on", "false"]]
    {
        for value in values {
            bench.told();
            assert_eq!(monitor.command().0, "qom-get");
            monitor.say(&match value {
                "false" => r#"{"return": false}"#.to_owned(),
                text => format!(r#"{{"return": "{text}"}}"#),
            });
        }
    }
    bench.told();
    assert_eq!(monitor.command(), ("object-del".to_owned(), json!({ "id": "redire0" })));
    monitor.say(r#"{"return": {}}"#);
    bench.told();
    let (name, arguments) = monitor.command();
    assert_eq!((name.as_str(), &arguments["position"]), ("object-add", &json!("id=redire1")));
    monitor.say(r#"{"return": {}}"#);
    let told: Vec<_> = (0..3).flat_map(|_| bench.events()).collect();
    let note = "QEMU's filter redire0 had let go of chardev compare_out and was built again";
    assert_eq!(told, [BackendEvent::Note(note.to_owned())]);
    // It is looked again, also when the output comes up, and nothing is touched that lives.
    for _ in 0..2 {
        bench.now = bench.now + Duration::from_secs(1);
        bench.told();
        assert_eq!(monitor.command().0, "query-chardev");
        answer_about_filters(&mut monitor, "true");
        bench.told();
    }
    bench.now = bench.now + Duration::from_secs(10);
    bench.told();
    assert_eq!(monitor.command().0, "query-chardev", "the last look");
    answer_about_filters(&mut monitor, "true");
    bench.told();
    bench.now = bench.now + Duration::from_secs(10);
    bench.told();
    assert!(monitor.silent());
    bench.backend.output_is_up();
    bench.told();
    assert_eq!(monitor.command().0, "query-chardev");
}

#[test]
fn no_filter_is_touched_during_a_pause() {
    let mut bench = Bench::with("");
    let mut monitor = bench.ready();
    assert_eq!(monitor.command().0, "query-chardev");
    answer_about_filters(&mut monitor, "true");
    bench.told();
    bench.requested(&mut monitor);
    bench.stopped(&mut monitor);
    // Looks are due, and the answer about the pause is not late yet.
    bench.now = bench.now + Duration::from_secs(4);
    assert!(bench.told().is_empty());
    assert!(monitor.silent());
}

#[test]
fn the_primary_is_told_to_go_on_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.backend.fail_over(), FailOver::Waits);
    let mut monitor = bench.ready();
    assert_eq!(monitor.command().0, "x-colo-lost-heartbeat");
    monitor.say(r#"{"return": {}}"#);
    let told: Vec<_> = (0..3).flat_map(|_| bench.events()).collect();
    assert_eq!(told, [BackendEvent::Note("QEMU goes on without the secondary".to_owned())]);
    assert_eq!(bench.backend.fail_over(), FailOver::Asked);
    bench.told();
    assert_eq!(monitor.command().0, "x-colo-lost-heartbeat");
    // Unanswered, it is said to the next connection.
    drop(monitor);
    bench.told();
    let mut monitor = bench.ready();
    assert_eq!(monitor.command().0, "x-colo-lost-heartbeat");
    monitor.say(r#"{"error": {"class": "GenericError", "desc": "no"}}"#);
    let told = bench.told();
    assert_eq!(told, [BackendEvent::Alarm("QEMU does not go on without the secondary: no".to_owned())]);
    assert!(monitor.silent());
}

#[test]
fn a_monitor_that_talks_nonsense_or_nothing_loses_its_link() {
    let lost =
        |told: &[BackendEvent], why: &str| matches!(told, [BackendEvent::Alarm(text)] if text.contains(why));
    for nonsense in ["{", "hello", "{}", "[]", "null", r#"{"return": {}}"#, r#"{"error": 3}"#] {
        let mut bench = Bench::new();
        let mut monitor = bench.accept();
        monitor.say(nonsense);
        let told = bench.told();
        assert!(lost(&told, "not QMP"), "{nonsense}: {told:?}");
    }
    let mut bench = Bench::new();
    let _monitor = bench.accept();
    bench.now = bench.now + Duration::from_secs(5);
    let told = bench.told();
    assert!(lost(&told, "does not answer for 5 s"), "{told:?}");
}
