//! One connection to a QEMU monitor (QMP): greeting, capabilities, one command after another, events. What the answers
//! mean is not decided here.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pmd_tap::{ChardevSettings, LineSocket, LinkEvent, Nanos, PortError};
use serde_json::{Value, json};

/// QEMU's longest answers to what is asked here have a few KiB.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// An answer that does not come in that time ends the connection: the monitor hangs, or it is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a monitor tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// It takes commands.
    Ready,
    /// The connection is lost, and why; what was asked is never answered.
    Lost(String),
    /// An event, with the host's time of day at which it happened.
    Event {
        /// Its name.
        name: String,
        /// Its data; null if it has none.
        data: Value,
        /// Since the Unix epoch.
        at: Duration,
    },
    /// The answer to the oldest command without one: what it returned, or the error's description.
    Answer(Result<Value, String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The greeting is to come.
    Silent,
    /// Capabilities were asked for.
    Greeted,
    Ready,
}

/// A monitor that comes and goes.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: LineSocket,
    state: State,
    /// When the answers to commands are due, oldest first.
    due: VecDeque<Nanos>,
    told: VecDeque<Said>,
    now: Nanos,
}

impl Monitor {
    /// Connects from the first poll on, or listens at once.
    ///
    /// # Errors
    /// When the address cannot be listened on or its host has no address.
    pub(super) fn new(address: &ChardevSettings) -> Result<Self, PortError> {
        Ok(Self {
            socket: LineSocket::new(address, MAX_LINE_BYTES)?,
            state: State::Silent,
            due: VecDeque::new(),
            told: VecDeque::new(),
            now: Nanos::ZERO,
        })
    }

    /// Whether it takes commands.
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready && self.socket.is_up()
    }

    /// Gives a command; its [`Answer`](Said::Answer) comes in order. Not ready: it is forgotten.
    pub(super) fn command(&mut self, name: &str, arguments: Value) {
        if self.is_ready() {
            self.send(name, arguments);
        }
    }

    fn send(&mut self, name: &str, arguments: Value) {
        let mut command = json!({ "execute": name });
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        self.due.push_back(self.now + ANSWER_WITHIN);
        self.socket.say(&command.to_string());
    }

    /// Reads what came, unless something is still to be told.
    pub(super) fn poll(&mut self, now: Nanos) -> Option<Said> {
        if self.told.is_empty() && self.now != now {
            self.now = now;
            self.read();
        }
        self.told.pop_front()
    }

    fn read(&mut self) {
        self.socket.poll(self.now);
        while let Some(event) = self.socket.poll_link() {
            match event {
                LinkEvent::Up { .. } => {
                    self.state = State::Silent;
                    self.due = VecDeque::from([self.now + ANSWER_WITHIN]);
                }
                LinkEvent::Down { reason } | LinkEvent::Refused { reason } => self.lose(reason),
            }
        }
        while let Some(line) = self.socket.next_line() {
            if let Err(problem) = self.hear(&line) {
                self.refuse(problem);
                return;
            }
        }
        if self.due.front().is_some_and(|due| *due <= self.now) {
            self.refuse(format!("does not answer for {} s", ANSWER_WITHIN.as_secs()));
        }
    }

    fn refuse(&mut self, problem: String) {
        self.socket.refuse(problem);
        while let Some(event) = self.socket.poll_link() {
            if let LinkEvent::Down { reason } | LinkEvent::Refused { reason } = event {
                self.lose(reason);
            }
        }
    }

    fn lose(&mut self, reason: String) {
        self.state = State::Silent;
        self.due.clear();
        self.told.push_back(Said::Lost(reason));
    }

    fn hear(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let nonsense = || format!("said what is not QMP: {}", excerpt(line));
        let message: Value = serde_json::from_str(line).map_err(|_| nonsense())?;
        if message.get("QMP").is_some() && self.state == State::Silent {
            self.state = State::Greeted;
            self.due.clear();
            self.send("qmp_capabilities", Value::Null);
        } else if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or(Value::Null);
            self.told.push_back(Said::Event { name: name.to_owned(), data, at: time_of(&message) });
        } else if let Some(returned) = message.get("return") {
            self.answered(Ok(returned.clone())).ok_or_else(nonsense)?;
        } else if let Some(error) = message.get("error") {
            let told = error.get("desc").and_then(Value::as_str).unwrap_or("an error without description");
            self.answered(Err(told.to_owned())).ok_or_else(nonsense)?;
        } else {
            return Err(nonsense());
        }
        Ok(())
    }

    /// `None`: nothing was asked.
    fn answered(&mut self, answer: Result<Value, String>) -> Option<()> {
        self.due.pop_front()?;
        match (self.state, answer) {
            (State::Greeted, Ok(_)) => {
                self.state = State::Ready;
                self.told.push_back(Said::Ready);
            }
            (State::Greeted, Err(_)) | (State::Silent, _) => return None,
            (State::Ready, answer) => self.told.push_back(Said::Answer(answer)),
        }
        Some(())
    }

    /// What stands in the way of the connection, for people.
    pub(super) fn obstacle(&self) -> Option<String> {
        self.socket.obstacle()
    }

    /// What becomes readable when there is something to do.
    pub(super) fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.socket.readiness()
    }

    /// When to poll at the latest, if not on readiness.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let told = (!self.told.is_empty()).then_some(self.now);
        let unsent = self.socket.has_unsent().then(|| self.now + Duration::from_millis(10));
        [told, unsent, self.due.front().copied(), self.socket.next_attempt()].into_iter().flatten().min()
    }
}

/// `"timestamp": {"seconds": S, "microseconds": U}`; zero without one.
fn time_of(message: &Value) -> Duration {
    let part = |name| message.pointer(name).and_then(Value::as_u64).unwrap_or(0);
    Duration::from_secs(part("/timestamp/seconds")) + Duration::from_micros(part("/timestamp/microseconds"))
}

fn excerpt(line: &str) -> String {
    let start: String = line.chars().take(80).collect();
    format!("{start:?}")
}
