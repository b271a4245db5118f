//! Checkpoints of a QEMU pair, over the primary's monitor (QMP).
//!
//! A request is `migrate-set-parameters` of `x-checkpoint-delay`, even to the value it has: QEMU's checkpoint thread
//! wakes up for it. The pause and the commit are seen as the events STOP and RESUME. Not every pair of those is a
//! checkpoint, and not every boundary is taken in time, so a commit is believed only if
//!
//! - QEMU says, when asked after STOP, that it is paused for a checkpoint, and not by an operator, and
//! - the engine had taken its boundary before RESUME happened: the event carries the host's time of day, and the
//!   processors go on only after it.
//!
//! Otherwise the checkpoint is given up: nothing leaves for it, and the next one answers for both. The monitor must be on
//! this machine, or on one with the same time of day.

mod monitor;
mod rebuild;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use pmd_tap::{ChardevSettings, Endpoint, Nanos, PortError};
use serde_json::{Value, json};

use super::{Backend, BackendEvent, BackendLink, ExitReason, FailOver, Request};
use crate::config::QmpAddresses;
use crate::metrics::LinkState;
use crate::side::Side;
use monitor::{Monitor, Said};
use rebuild::{Command, Next, Rebuilder};

/// QEMU's default of `x-checkpoint-delay`, for a monitor that does not tell its own.
const DEFAULT_DELAY_MS: u64 = 20_000;
/// A request that the monitor refused is made again after that long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What was asked of the primary's monitor, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// The migration's parameters.
    Parameters,
    /// A checkpoint.
    Checkpoint,
    /// Why the primary is paused.
    Status,
    /// Something about the filter that reads from the engine.
    Filter,
    /// To go on without the secondary.
    FailOver,
}

/// What a pause is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// QEMU has not answered yet.
    Unknown,
    /// A checkpoint, or the migration that the first one is.
    Checkpoint,
    /// It was over before QEMU answered.
    Over,
    /// Something else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    Paused {
        pause: Pause,
        /// Time of day when the engine had its boundary.
        boundary: Option<Duration>,
        /// Time of day when the primary went on.
        resumed: Option<Duration>,
    },
}

/// Takes checkpoints of a QEMU pair over QMP.
pub struct QmpBackend {
    primary: Monitor,
    /// Heard only: its `COLO_EXIT` comes at once when the primary dies, and it pauses for checkpoints, not for operators.
    secondary: Option<Monitor>,
    questions: VecDeque<Question>,
    /// The primary's `x-checkpoint-delay`, ms.
    delay_ms: u64,
    stage: Stage,
    /// Time of day when the secondary was paused last.
    secondary_stopped: Duration,
    /// Time of day when the primary went on last.
    resumed_before: Duration,
    /// When the outstanding request goes out; `None`: it has, or nothing is asked for.
    due: Option<Nanos>,
    /// Whether a request is outstanding.
    asked: Asked,
    events: VecDeque<BackendEvent>,
    rebuilder: Rebuilder,
    /// The primary is to be told of the secondary's loss as soon as its monitor is up.
    failing_over: bool,
    /// What stood in the way of each link when it was last told.
    obstacles: [Option<String>; 2],
    now: Nanos,
    time_of_day: fn() -> Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl QmpBackend {
    /// Connects from the first [`poll`](Backend::poll) on.
    ///
    /// # Errors
    /// One sentence when an address cannot be listened on or its host has no address.
    pub fn new(addresses: &QmpAddresses) -> Result<Self, PortError> {
        let monitor = |address: &str| -> Result<Monitor, PortError> {
            let settings: ChardevSettings = address.parse()?;
            Monitor::new(&settings)
        };
        let secondary = match &addresses.secondary {
            Some(address) => Some(monitor(address.as_str())?),
            None => None,
        };
        Ok(Self {
            primary: monitor(addresses.primary.as_str())?,
            secondary,
            questions: VecDeque::new(),
            delay_ms: DEFAULT_DELAY_MS,
            stage: Stage::Running,
            secondary_stopped: Duration::ZERO,
            resumed_before: Duration::ZERO,
            due: None,
            asked: Asked::No,
            events: VecDeque::new(),
            rebuilder: Rebuilder::new(addresses.rebuild.clone()),
            failing_over: false,
            obstacles: [None, None],
            now: Nanos::ZERO,
            time_of_day,
        })
    }

    /// Says where the engine's output is: QEMU's filter at the other end is known by it.
    #[must_use]
    pub fn with_output(mut self, output: Endpoint) -> Self {
        self.rebuilder.set_output(output);
        self
    }

    fn read(&mut self, now: Nanos) {
        // The secondary first: it pauses before the primary goes on.
        let heard: Vec<Said> =
            self.secondary.iter_mut().flat_map(|monitor| std::iter::from_fn(|| monitor.poll(now))).collect();
        for said in heard {
            match said {
                Said::Ready => self.tell(BackendEvent::Note("the secondary's monitor is up".to_owned())),
                Said::Lost(reason) => {
                    self.tell(BackendEvent::Alarm(format!("the secondary's monitor is gone: {reason}")));
                }
                Said::Event { name, data, .. } if name == "COLO_EXIT" => {
                    self.heed_exit(Side::Secondary, &data);
                }
                Said::Event { name, at, .. } if name == "STOP" => self.secondary_stopped = at,
                Said::Event { .. } | Said::Answer(_) => {}
            }
        }
        while let Some(said) = self.primary.poll(now) {
            match said {
                Said::Ready => {
                    self.tell(BackendEvent::Note("the primary's monitor is up".to_owned()));
                    self.ask(Question::Parameters);
                    if std::mem::take(&mut self.failing_over) {
                        self.ask(Question::FailOver);
                    }
                    self.rebuilder.look(now);
                }
                Said::Lost(reason) => self.lose(&reason),
                Said::Event { name, data, at } => self.heed(&name, &data, at),
                Said::Answer(answer) => self.answered(answer),
            }
        }
        self.tell_obstacles();
    }

    fn tell_obstacles(&mut self) {
        let found = [self.primary.obstacle(), self.secondary.as_ref().and_then(Monitor::obstacle)];
        for (last, found) in self.obstacles.iter_mut().zip(found) {
            if *last != found {
                let told = found.as_ref().map(|what| format!("{what}; it is tried again and again"));
                self.events.extend(told.map(BackendEvent::Alarm));
                *last = found;
            }
        }
    }

    fn tell(&mut self, event: BackendEvent) {
        self.events.push_back(event);
    }

    fn ask(&mut self, question: Question) {
        let (command, arguments) = match question {
            Question::Parameters => ("query-migrate-parameters", Value::Null),
            Question::Checkpoint => {
                ("migrate-set-parameters", json!({ "x-checkpoint-delay": self.delay_ms }))
            }
            Question::Status => ("query-status", Value::Null),
            Question::FailOver => ("x-colo-lost-heartbeat", Value::Null),
            Question::Filter => return,
        };
        self.primary.command(command, arguments);
        self.questions.push_back(question);
    }

    fn ask_of_filter(&mut self, (command, arguments): Command) {
        self.primary.command(command, arguments);
        self.questions.push_back(Question::Filter);
    }

    fn lose(&mut self, reason: &str) {
        // Its answer may never come; the same twice does no harm.
        self.failing_over |= self.questions.contains(&Question::FailOver);
        self.questions.clear();
        self.rebuilder.lose();
        self.tell(BackendEvent::Alarm(format!("the primary's monitor is gone: {reason}")));
        if self.asked == Asked::Yes {
            self.due = Some(self.now);
        }
        self.give_up("the primary's monitor went away during a checkpoint");
    }

    /// What is under way will not be believed.
    fn give_up(&mut self, why: &str) {
        if let Stage::Paused { .. } = self.stage {
            self.stage = Stage::Running;
            self.tell(BackendEvent::Abandoned(why.to_owned()));
        }
    }

    fn heed(&mut self, name: &str, data: &Value, at: Duration) {
        match (name, self.stage) {
            ("STOP", Stage::Running) => {
                self.stage = Stage::Paused { pause: Pause::Unknown, boundary: None, resumed: None };
                self.tell(BackendEvent::Paused);
                self.ask(Question::Status);
            }
            ("RESUME", Stage::Paused { pause, boundary, .. }) => {
                self.stage = Stage::Paused { pause, boundary, resumed: Some(at) };
                self.judge();
            }
            ("COLO_EXIT", _) => {
                self.give_up("QEMU left COLO during a checkpoint");
                self.heed_exit(Side::Primary, data);
            }
            _ => {}
        }
    }

    fn heed_exit(&mut self, whose: Side, data: &Value) {
        let word = |name| data.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        let (mode, reason) = (word("mode"), word("reason"));
        self.tell(BackendEvent::Alarm(format!(
            "the {whose}'s QEMU left COLO (mode {mode}, reason {reason}): no checkpoint is taken any more"
        )));
        let why = if reason == "request" { ExitReason::Request } else { ExitReason::Error };
        self.tell(BackendEvent::Exited(whose, why));
    }

    fn answered(&mut self, answer: Result<Value, String>) {
        let Some(question) = self.questions.pop_front() else { return };
        match (question, answer) {
            (Question::Parameters, Ok(parameters)) => {
                let delay = parameters.get("x-checkpoint-delay").and_then(Value::as_u64);
                self.delay_ms = delay.unwrap_or(DEFAULT_DELAY_MS);
            }
            (Question::Parameters, Err(_)) | (Question::Checkpoint, Ok(_)) => {}
            (Question::Checkpoint, Err(problem)) => {
                self.tell(BackendEvent::Alarm(format!("QEMU takes no checkpoint: {problem}")));
                self.due = Some(self.now + RETRY_AFTER);
            }
            (Question::Filter, answer) => match self.rebuilder.answer(answer) {
                Next::Ask(command) => self.ask_of_filter(command),
                Next::Tell(event) => self.tell(event),
                Next::Nothing => {}
            },
            (Question::FailOver, Ok(_)) => {
                self.tell(BackendEvent::Note("QEMU goes on without the secondary".to_owned()));
            }
            (Question::FailOver, Err(problem)) => {
                self.tell(BackendEvent::Alarm(format!(
                    "QEMU does not go on without the secondary: {problem}"
                )));
            }
            (Question::Status, answer) => {
                let status = answer.unwrap_or(Value::Null);
                let found = match status.get("status").and_then(Value::as_str) {
                    Some("colo" | "finish-migrate") => Pause::Checkpoint,
                    Some("running") => Pause::Over,
                    _ => Pause::Other,
                };
                if let Stage::Paused { pause, .. } = &mut self.stage {
                    *pause = found;
                }
                self.judge();
            }
        }
    }

    /// Says what became of the pause, when all is known.
    fn judge(&mut self) {
        let Stage::Paused { pause, boundary: Some(boundary), resumed: Some(resumed) } = self.stage else {
            return;
        };
        if pause == Pause::Unknown {
            return;
        }
        match pause {
            _ if resumed <= boundary => {
                self.give_up("the primary went on before all it had sent was read");
            }
            Pause::Checkpoint => self.commit(),
            // What was asked for came, as far as anybody can tell.
            Pause::Over if self.asked == Asked::Yes && self.secondary_paused(resumed) => self.commit(),
            Pause::Over => {
                self.give_up("nobody asked for that pause, and it was over before QEMU could say why");
            }
            Pause::Unknown | Pause::Other => self.give_up("the primary was paused, but not for a checkpoint"),
        }
        self.resumed_before = resumed;
    }

    /// Whether the secondary was paused, too, before the primary went on; yes where nobody listens to it.
    fn secondary_paused(&self, resumed: Duration) -> bool {
        let since = self.resumed_before < self.secondary_stopped && self.secondary_stopped <= resumed;
        self.secondary.as_ref().is_none_or(|monitor| !monitor.is_ready()) || since
    }

    fn commit(&mut self) {
        self.stage = Stage::Running;
        self.asked = Asked::No;
        self.due = None;
        self.tell(BackendEvent::Committed);
    }
}

impl Backend for QmpBackend {
    fn request(&mut self, request: &Request) {
        self.asked = Asked::Yes;
        self.due = Some(request.at);
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        if self.events.is_empty() && self.now != now {
            self.now = now;
            self.read(now);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        // During a pause it may be the answer already.
        if self.stage == Stage::Running && self.primary.is_ready() && self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.ask(Question::Checkpoint);
        }
        if self.stage == Stage::Running
            && self.primary.is_ready()
            && let Some(command) = self.rebuilder.begin(now)
        {
            self.ask_of_filter(command);
        }
        None
    }

    fn boundary_taken(&mut self) {
        if let Stage::Paused { boundary, .. } = &mut self.stage {
            *boundary = Some((self.time_of_day)());
            self.judge();
        }
    }

    fn given_up(&mut self) {
        self.stage = Stage::Running;
    }

    fn fail_over(&mut self) -> FailOver {
        if self.primary.is_ready() {
            self.ask(Question::FailOver);
            return FailOver::Asked;
        }
        self.failing_over = true;
        FailOver::Waits
    }

    fn output_is_up(&mut self) {
        if self.primary.is_ready() {
            self.rebuilder.look(self.now);
        }
    }

    fn link(&self) -> Option<BackendLink> {
        let state = if self.primary.is_ready() { LinkState::Up } else { LinkState::Down };
        Some(BackendLink { name: "qmp", state })
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.primary.readiness(), self.secondary.as_ref().and_then(Monitor::readiness)]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        let told = (!self.events.is_empty()).then_some(self.now);
        let due = self.due.filter(|_| self.stage == Stage::Running && self.primary.is_ready());
        let secondary = self.secondary.as_ref().and_then(Monitor::next_deadline);
        let look = self.rebuilder.next_deadline();
        let look = look.filter(|_| self.stage == Stage::Running && self.primary.is_ready());
        [told, due, look, self.primary.next_deadline(), secondary].into_iter().flatten().min()
    }
}

/// What QEMU's events are stamped with.
#[expect(clippy::disallowed_methods, reason = "QEMU's clock is the host's")]
fn time_of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
