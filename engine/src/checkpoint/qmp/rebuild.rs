//! After a restart of the engine: brings QEMU's filter that reads from the engine back to life.
//!
//! A `filter-redirector` lets go of its chardev for good when the connection ends, and a new engine's frames would wait
//! in the socket for ever. The monitor shows it: the chardev's `frontend-open` is false. Taken away and added again, in
//! front of the filter that hands the guest's frames to the engine, the filter reads from the new connection's first
//! byte. Nothing is lost by that, because nobody has read from the socket meanwhile.
//!
//! Only finds out and says what is to be asked of the monitor next; asking is the back end's.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use pmd_tap::{Endpoint, Nanos};
use serde_json::{Value, json};

use super::super::BackendEvent;
use crate::config::Rebuild;

/// When it is looked, after the monitor or the engine's output has come up. Not once only: QEMU may see the end of the
/// former connection later than the engine's new ones.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];
/// Redirectors that are looked at, at most.
const MOST_FILTERS: usize = 64;
/// The type of filter that reads from the engine.
const REDIRECTOR: &str = "filter-redirector";
/// Its properties that are asked for, in this order.
const PROPERTIES: [&str; 6] = ["indev", "outdev", "netdev", "queue", "status", "vnet_hdr_support"];

/// A command for the monitor.
pub(super) type Command = (&'static str, Value);

/// What follows from an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// This is to be asked.
    Ask(Command),
    /// It is over, and this is to be told.
    Tell(BackendEvent),
    /// It is over.
    Nothing,
}

/// A chardev, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chardev {
    label: String,
    filename: String,
    frontend: Frontend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frontend {
    Open,
    /// Whoever used it has let go.
    Closed,
}

/// A redirector; the values stand in the order of [`PROPERTIES`].
#[derive(Clone, Debug, Default)]
struct Filter {
    id: String,
    values: Vec<Value>,
}

/// What is taken away and added again.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    id: String,
    indev: String,
    addition: Value,
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Chardevs,
    Objects { chardevs: Vec<Chardev> },
    Properties { chardevs: Vec<Chardev>, filters: Vec<Filter>, at: usize },
    Deleting(Plan),
    Adding(Plan),
}

/// What is found out.
#[derive(Debug, PartialEq)]
enum Finding {
    Fine,
    /// Something is dead and stays so, and why.
    Left(String),
    Dead(Plan),
}

/// Looks for a filter that has let go, and builds it again.
pub(super) struct Rebuilder {
    wish: Rebuild,
    /// Where the engine's output is; unknown: no filter is taken for its reader unless it is named.
    output: Option<Endpoint>,
    looks: VecDeque<Nanos>,
    stage: Stage,
    /// Deleted, perhaps, and not added yet when the monitor went away.
    unfinished: Option<Plan>,
    /// What was left alone when it was last told: once is enough.
    left: String,
}

impl Rebuilder {
    pub(super) fn new(wish: Rebuild) -> Self {
        Self {
            wish,
            output: None,
            looks: VecDeque::new(),
            stage: Stage::Idle,
            unfinished: None,
            left: String::new(),
        }
    }

    pub(super) fn set_output(&mut self, output: Endpoint) {
        self.output = Some(output);
    }

    /// The monitor or the output came up: something may be dead.
    pub(super) fn look(&mut self, now: Nanos) {
        if self.wish != Rebuild::Off {
            self.looks = LOOKS.iter().map(|after| now + *after).collect();
        }
    }

    /// The monitor is gone: no answer comes any more.
    pub(super) fn lose(&mut self) {
        self.looks.clear();
        if let Stage::Deleting(plan) | Stage::Adding(plan) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.unfinished = Some(plan);
        }
    }

    /// When to look next.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        self.looks.front().copied().filter(|_| matches!(self.stage, Stage::Idle))
    }

    /// The first command of a look that is due.
    pub(super) fn begin(&mut self, now: Nanos) -> Option<Command> {
        self.next_deadline().filter(|due| *due <= now)?;
        self.looks.pop_front();
        if let Some(plan) = self.unfinished.take() {
            return Some(self.add(plan));
        }
        self.stage = Stage::Chardevs;
        Some(("query-chardev", Value::Null))
    }

    /// The answer to what was asked last.
    pub(super) fn answer(&mut self, answer: Result<Value, String>) -> Next {
        match (std::mem::replace(&mut self.stage, Stage::Idle), answer) {
            (Stage::Chardevs, Ok(found)) => {
                let chardevs = chardevs(&found);
                if chardevs.iter().all(|chardev| chardev.frontend == Frontend::Open) {
                    return Next::Nothing;
                }
                self.stage = Stage::Objects { chardevs };
                Next::Ask(("qom-list", json!({ "path": "/objects" })))
            }
            (Stage::Objects { chardevs }, Ok(found)) => {
                self.stage = Stage::Properties { chardevs, filters: redirectors(&found), at: 0 };
                self.next_property()
            }
            (Stage::Properties { chardevs, mut filters, at }, Ok(value)) => {
                if let Some(filter) = filters.get_mut(at) {
                    filter.values.push(value);
                }
                self.stage = Stage::Properties { chardevs, filters, at };
                self.next_property()
            }
            (Stage::Deleting(plan), Ok(_)) => Next::Ask(self.add(plan)),
            (Stage::Adding(plan), Ok(_)) => Next::Tell(BackendEvent::Note(format!(
                "QEMU's filter {} had let go of chardev {} and was built again",
                plan.id, plan.indev
            ))),
            (Stage::Adding(plan), Err(problem)) if !problem.contains("duplicate") => {
                Next::Tell(BackendEvent::Alarm(format!(
                    "QEMU's filter {} could not be built again ({problem}): nothing that leaves reaches the network; \
                     say to QEMU's monitor: {}",
                    plan.id,
                    json!({ "execute": "object-add", "arguments": plan.addition })
                )))
            }
            // Somebody else was quicker, or this QEMU knows no such command: there is another look.
            (_, _) => Next::Nothing,
        }
    }

    fn add(&mut self, plan: Plan) -> Command {
        let addition = plan.addition.clone();
        self.stage = Stage::Adding(plan);
        ("object-add", addition)
    }

    fn next_property(&mut self) -> Next {
        let Stage::Properties { chardevs, filters, at } = &mut self.stage else { return Next::Nothing };
        while filters.get(*at).is_some_and(|filter| filter.values.len() == PROPERTIES.len()) {
            *at += 1;
        }
        if let Some(filter) = filters.get(*at) {
            let path = format!("/objects/{}", filter.id);
            let property = PROPERTIES[filter.values.len()];
            return Next::Ask(("qom-get", json!({ "path": path, "property": property })));
        }
        let finding = judge(&self.wish, self.output.as_ref(), chardevs, filters);
        self.stage = Stage::Idle;
        match finding {
            Finding::Dead(plan) => {
                let command = ("object-del", json!({ "id": plan.id }));
                self.stage = Stage::Deleting(plan);
                Next::Ask(command)
            }
            Finding::Left(why) if why != self.left => {
                self.left.clone_from(&why);
                Next::Tell(BackendEvent::Alarm(why))
            }
            Finding::Left(_) | Finding::Fine => Next::Nothing,
        }
    }
}

/// Answer to `query-chardev`.
fn chardevs(found: &Value) -> Vec<Chardev> {
    let text = |entry: &Value, name| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let chardev = |entry: &Value| {
        let open = entry.get("frontend-open").and_then(Value::as_bool).unwrap_or(true);
        Chardev {
            label: text(entry, "label"),
            filename: text(entry, "filename"),
            frontend: if open { Frontend::Open } else { Frontend::Closed },
        }
    };
    found.as_array().into_iter().flatten().map(chardev).collect()
}

/// Answer to `qom-list` of the objects.
fn redirectors(found: &Value) -> Vec<Filter> {
    let is_redirector = |entry: &&Value| {
        let kind = entry.get("type").and_then(Value::as_str).unwrap_or_default();
        kind.strip_prefix("child<").and_then(|rest| rest.strip_suffix('>')) == Some(REDIRECTOR)
    };
    let found = found.as_array().into_iter().flatten().filter(is_redirector);
    let name = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    found.filter_map(name).map(|id| Filter { id, values: Vec::new() }).take(MOST_FILTERS).collect()
}

impl Filter {
    fn text(&self, property: &str) -> &str {
        self.value(property).and_then(Value::as_str).unwrap_or_default()
    }

    fn value(&self, property: &str) -> Option<&Value> {
        let place = PROPERTIES.iter().position(|known| *known == property)?;
        self.values.get(place)
    }

    /// Whether it hands a guest's frames to somebody.
    fn sends(&self) -> bool {
        !self.text("outdev").is_empty() && ["rx", "all"].contains(&self.text("queue"))
    }
}

/// Whether a filter is to be built again.
fn judge(wish: &Rebuild, output: Option<&Endpoint>, chardevs: &[Chardev], filters: &[Filter]) -> Finding {
    let mut left = Finding::Fine;
    for filter in filters {
        let indev = filter.text("indev");
        // What sends to the guest (queue tx) or on to somebody else is no reader of the engine's output.
        let reads = !indev.is_empty() && filter.text("outdev").is_empty() && filter.text("queue") == "rx";
        let dead = chardevs.iter().find(|chardev| chardev.label == indev);
        let dead = dead.filter(|chardev| reads && chardev.frontend == Frontend::Closed);
        let Some(chardev) = dead else { continue };
        let is_meant = match wish {
            Rebuild::Off => false,
            Rebuild::Named(name) => *name == filter.id,
            Rebuild::Auto => output.is_some_and(|output| is_same(&chardev.filename, output)),
        };
        let told = format!("QEMU's filter {} has let go of chardev {indev} and stays dead", filter.id);
        if !is_meant {
            left = Finding::Left(format!(
                "{told}: it does not seem to read what this engine sends; rebuild={} says that it does",
                filter.id
            ));
            continue;
        }
        let senders: Vec<_> = filters
            .iter()
            .filter(|other| other.text("netdev") == filter.text("netdev") && other.sends())
            .collect();
        let [behind] = senders[..] else {
            return Finding::Left(format!(
                "{told}: {} filters of its card send, so its place among them is not known; build it again by hand, in \
                 front of the one that sends to the engine",
                senders.len()
            ));
        };
        return Finding::Dead(plan(filter, behind));
    }
    left
}

fn plan(filter: &Filter, behind: &Filter) -> Plan {
    let indev = filter.text("indev").to_owned();
    let mut addition = json!({
        "qom-type": REDIRECTOR,
        "id": filter.id,
        "netdev": filter.text("netdev"),
        "queue": filter.text("queue"),
        "indev": indev,
        // At the end of the row its frames would run into the filter that sends to the engine, and come round again.
        "insert": "before",
        "position": format!("id={}", behind.id),
    });
    if filter.value("vnet_hdr_support") == Some(&Value::Bool(true)) {
        addition["vnet_hdr_support"] = Value::Bool(true);
    }
    if filter.text("status") == "off" {
        addition["status"] = json!("off");
    }
    Plan { id: filter.id.clone(), indev, addition }
}

/// Whether a chardev's description, as in `disconnected:unix:/run/out,server=on`, is the engine's output. Each of both
/// may name host or folder in its own words.
fn is_same(filename: &str, output: &Endpoint) -> bool {
    let place = filename.strip_prefix("disconnected:").unwrap_or(filename);
    // Of a connection that QEMU made, its own end stands first.
    let place = match place.split_once(" <-> ") {
        Some((own, other)) if !own.contains(",server") => other,
        _ => place,
    };
    let place = place.split([',', ' ']).next().unwrap_or_default();
    match output {
        Endpoint::Unix(path) => place.strip_prefix("unix:").is_some_and(|place| {
            let (place, path) = (Path::new(place), path.as_path());
            let relative = place.is_relative() != path.is_relative();
            place == path || (relative && place.file_name() == path.file_name())
        }),
        Endpoint::Tcp { port, .. } => {
            let found = place.rsplit(':').next().filter(|_| !place.starts_with("unix:"));
            found.and_then(|found| found.parse().ok()) == Some(*port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Endpoint {
        Endpoint::Unix(path.into())
    }

    fn filter(id: &str, values: [&str; 5]) -> Filter {
        let values = values.iter().map(|text| json!(text)).chain([json!(false)]).collect();
        Filter { id: id.to_owned(), values }
    }

    fn primary() -> Vec<Filter> {
        vec![
            filter("redire0", ["compare_out", "", "hn0", "rx", "on"]),
            filter("redire1", ["", "compare0", "hn0", "rx", "on"]),
        ]
    }

    fn closed(filename: &str) -> Vec<Chardev> {
        let (label, filename) = ("compare_out".to_owned(), filename.to_owned());
        vec![Chardev { label, filename, frontend: Frontend::Closed }]
    }

    fn left(finding: &Finding, why: &str) -> bool {
        matches!(finding, Finding::Left(text) if text.contains(why))
    }

    #[test]
    fn a_dead_reader_of_the_output_gets_its_place_back() {
        let chardevs = closed("unix:/run/out,server=on");
        let finding = judge(&Rebuild::Auto, Some(&unix("/run/out")), &chardevs, &primary());
        let Finding::Dead(plan) = finding else { panic!("{finding:?}") };
        assert_eq!(
            plan.addition,
            json!({ "qom-type": "filter-redirector", "id": "redire0", "netdev": "hn0", "queue": "rx",
                    "indev": "compare_out", "insert": "before", "position": "id=redire1" })
        );
        let mut filters = primary();
        filters[0].values[4] = json!("off");
        filters[0].values[5] = json!(true);
        let finding = judge(&Rebuild::Auto, Some(&unix("/run/out")), &chardevs, &filters);
        let Finding::Dead(plan) = finding else { panic!("{finding:?}") };
        assert_eq!(
            (&plan.addition["status"], &plan.addition["vnet_hdr_support"]),
            (&json!("off"), &json!(true))
        );
    }

    #[test]
    fn what_is_not_certain_is_left_alone() {
        let chardevs = closed("unix:/run/other,server=on");
        let output = unix("/run/out");
        assert!(left(&judge(&Rebuild::Auto, Some(&output), &chardevs, &primary()), "rebuild=redire0 says"));
        assert!(left(&judge(&Rebuild::Auto, None, &chardevs, &primary()), "does not seem"));
        let named = Rebuild::Named("redire0".to_owned());
        assert!(matches!(judge(&named, None, &chardevs, &primary()), Finding::Dead(_)));
        let other = Rebuild::Named("x".to_owned());
        assert!(left(&judge(&other, Some(&output), &chardevs, &primary()), "stays dead"));

        let mut filters = primary();
        filters.push(filter("redire2", ["", "elsewhere", "hn0", "all", "on"]));
        assert!(left(&judge(&named, None, &chardevs, &filters), "2 filters of its card send"));
        filters[2].values[2] = json!("hn1");
        assert!(matches!(judge(&named, None, &chardevs, &filters), Finding::Dead(_)), "another card's");
        filters.remove(1);
        assert!(left(&judge(&named, None, &chardevs, &filters), "0 filters"));

        // A secondary's filter to the guest, and one that hands on.
        for values in [["compare_out", "", "hn0", "tx", "on"], ["compare_out", "x", "hn0", "rx", "on"]] {
            let finding = judge(&Rebuild::Auto, Some(&output), &chardevs, &[filter("f", values)]);
            assert_eq!(finding, Finding::Fine);
        }
        let open = vec![Chardev { frontend: Frontend::Open, ..chardevs[0].clone() }];
        assert_eq!(judge(&named, Some(&output), &open, &primary()), Finding::Fine);
    }

    #[test]
    fn the_output_is_known_in_others_words() {
        for (filename, output, same) in [
            ("unix:/run/out,server=on", unix("/run/out"), true),
            ("disconnected:unix:out,server=on", unix("/run/out"), true),
            ("unix:/run/a/out", unix("/run/b/out"), false),
            ("unix:/run/x", unix("/run/out"), false),
            (
                "tcp:127.0.0.1:9005,server=on <-> 127.0.0.1:4096",
                Endpoint::Tcp { host: "h".into(), port: 9005 },
                true,
            ),
            ("disconnected:tcp:[::]:9005,server=on", Endpoint::Tcp { host: "::1".into(), port: 9005 }, true),
            (
                "tcp:127.0.0.1:9001,server=on <-> 127.0.0.1:9005",
                Endpoint::Tcp { host: "h".into(), port: 9005 },
                false,
            ),
            ("tcp:127.0.0.1:4096 <-> 127.0.0.1:9005", Endpoint::Tcp { host: "h".into(), port: 9005 }, true),
            ("unix:9005", Endpoint::Tcp { host: "h".into(), port: 9005 }, false),
            ("pty:/dev/pts/3", unix("/dev/pts/3"), false),
        ] {
            assert_eq!(is_same(filename, &output), same, "{filename} {output}");
        }
    }

    #[test]
    fn what_was_taken_away_is_added_after_a_lost_monitor() {
        let mut rebuilder = Rebuilder::new(Rebuild::Auto);
        let finding = judge(&Rebuild::Named("redire0".to_owned()), None, &closed("unix:o"), &primary());
        let Finding::Dead(plan) = finding else { panic!("{finding:?}") };
        rebuilder.stage = Stage::Deleting(plan);
        rebuilder.lose();
        assert_eq!(rebuilder.next_deadline(), None);
        rebuilder.look(Nanos(5));
        assert_eq!(rebuilder.begin(Nanos(5)).map(|command| command.0), Some("object-add"));
        assert_eq!(rebuilder.answer(Err("attempt to add duplicate property".to_owned())), Next::Nothing);
        assert_eq!(rebuilder.begin(Nanos(400_000_000)).map(|command| command.0), Some("query-chardev"));
    }
}
