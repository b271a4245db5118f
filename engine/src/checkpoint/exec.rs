//! Checkpoints by a command: one run for each request. The command pauses the primary, copies it to the secondary, lets it
//! go on, and ends; its exit status says whether that was a checkpoint.
//!
//! A line `paused` on its standard output tells when the primary stands still, and the answer `go` on its standard input,
//! that the engine has all that was sent before. Only between the two is it certain where the old epoch ends, so a command
//! that ends without having said `paused` must end while the primary still stands.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use pmd_tap::Nanos;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Backend, BackendEvent, BackendLink, Request};
use crate::metrics::LinkState;

/// A command that failed is run again after that long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often a command is looked at where nothing tells of its end.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longest line of a command that is read, bytes.
const MAX_LINE_BYTES: usize = 1_024;

/// Takes checkpoints by running a command through the shell.
#[derive(Debug)]
pub struct ExecBackend {
    command: String,
    /// `COLO_PAIR` of the command.
    pair: Option<String>,
    run: Option<Run>,
    /// The outstanding request's reason, and when the command is run for it.
    due: Option<(Nanos, &'static str)>,
    asked: Option<&'static str>,
    events: VecDeque<BackendEvent>,
    looked_at: Nanos,
}

/// A command under way.
#[derive(Debug)]
struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Becomes readable when it ends; `None` on a kernel without them.
    end: Option<OwnedFd>,
    line: Vec<u8>,
    stage: Stage,
}

/// How far a command is, as the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begun,
    /// It has said so.
    Paused,
    /// It took too long after that: its end commits nothing.
    GivenUp,
}

impl ExecBackend {
    /// `command` is run by `sh -c`, with `COLO_REASON` in its environment: why a checkpoint is asked for.
    pub fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            pair: None,
            run: None,
            due: None,
            asked: None,
            events: VecDeque::new(),
            looked_at: Nanos::ZERO,
        }
    }

    /// The command finds this name in `COLO_PAIR`: whose checkpoint it is.
    #[must_use]
    pub fn for_pair(self, name: &str) -> Self {
        Self { pair: Some(name.to_owned()), ..self }
    }

    fn start(&mut self, reason: &'static str) -> std::io::Result<Run> {
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .env("COLO_REASON", reason)
            .envs(self.pair.iter().map(|name| ("COLO_PAIR", name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if let Some(stdout) = &stdout {
            rustix::io::ioctl_fionbio(stdout, true)?;
        }
        let end = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Run { child, stdin, stdout, end, line: Vec::new(), stage: Stage::Begun })
    }

    fn look(&mut self, now: Nanos) {
        if let Some((due, reason)) = self.due
            && due <= now
            && self.run.is_none()
        {
            self.due = None;
            match self.start(reason) {
                Ok(run) => self.run = Some(run),
                Err(error) => self.fail(&format!("cannot run the checkpoint command: {error}"), now),
            }
        }
        let Some(run) = &mut self.run else { return };
        let ended = run.child.try_wait();
        // After the look at its end: what it said last is there by then.
        if run.stage == Stage::Begun && run.has_said_paused() {
            run.stage = Stage::Paused;
            self.events.push_back(BackendEvent::Paused);
        }
        match ended {
            Ok(None) => {}
            Ok(Some(status)) => {
                let stage = run.stage;
                self.run = None;
                self.has_ended(status, stage, now);
            }
            Err(error) => {
                self.run = None;
                self.fail(&format!("the checkpoint command is lost: {error}"), now);
            }
        }
    }

    fn has_ended(&mut self, status: ExitStatus, stage: Stage, now: Nanos) {
        if status.success() && stage == Stage::GivenUp {
            self.due = self.asked.map(|reason| (now, reason));
            return;
        }
        if status.success() {
            self.asked = None;
            self.due = None;
            self.events.push_back(BackendEvent::Committed);
            return;
        }
        if stage == Stage::Paused {
            self.events
                .push_back(BackendEvent::Abandoned(format!("the checkpoint command ended with {status}")));
        }
        self.fail(&format!("the checkpoint command ended with {status}"), now);
    }

    fn fail(&mut self, problem: &str, now: Nanos) {
        let again = RETRY_AFTER.as_secs();
        self.events.push_back(BackendEvent::Alarm(format!("{problem}; it is run again in {again} s")));
        self.due = self.asked.map(|reason| (now + RETRY_AFTER, reason));
    }
}

impl Run {
    /// Reads what it has said, and whether that was a line `paused`. Other lines are passed over.
    fn has_said_paused(&mut self) -> bool {
        let mut chunk = [0_u8; 256];
        // A command that never stops talking is heard a little at a time.
        for _ in 0..16 {
            let Some(stdout) = &mut self.stdout else { return false };
            match stdout.read(&mut chunk) {
                Ok(0) => self.stdout = None,
                Ok(read) => {
                    for byte in chunk.iter().take(read) {
                        if *byte == b'\n' {
                            let said = std::mem::take(&mut self.line);
                            if said.trim_ascii() == b"paused" {
                                return true;
                            }
                        } else if self.line.len() < MAX_LINE_BYTES {
                            self.line.push(*byte);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.stdout = None,
            }
        }
        false
    }
}

impl Drop for Run {
    /// An engine that ends leaves no zombie: a command under way goes on by itself.
    fn drop(&mut self) {
        let _ = self.child.try_wait();
    }
}

impl Backend for ExecBackend {
    fn request(&mut self, request: &Request) {
        let reason = request.cause.reason.label();
        self.asked = Some(reason);
        if self.run.is_none() {
            self.due = Some((request.at, reason));
        }
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        if self.events.is_empty() && self.looked_at != now {
            self.looked_at = now;
            self.look(now);
        }
        self.events.pop_front()
    }

    fn boundary_taken(&mut self) {
        if let Some(run) = &mut self.run
            && let Some(mut stdin) = run.stdin.take()
        {
            // A command that has closed it does not wait for it.
            let _ = stdin.write_all(b"go\n");
        }
    }

    fn given_up(&mut self) {
        if let Some(run) = &mut self.run {
            run.stage = Stage::GivenUp;
        }
    }

    fn link(&self) -> Option<BackendLink> {
        Some(BackendLink { name: "exec", state: LinkState::Up })
    }

    fn begins_by_itself(&self) -> bool {
        false
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let Some(run) = &self.run else { return [None, None] };
        [run.stdout.as_ref().map(AsFd::as_fd), run.end.as_ref().map(AsFd::as_fd)]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        let told = (!self.events.is_empty()).then_some(self.looked_at);
        let look = self.run.as_ref().map(|_| self.looked_at + LOOK_EVERY);
        [told, look, self.due.map(|(due, _)| due)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::verdict::{Cause, Detail, Reason};

    struct Bench {
        backend: ExecBackend,
        started: Instant,
    }

    impl Bench {
        fn new(command: &str) -> Self {
            let mut bench = Self { backend: ExecBackend::new(command), started: Instant::now() };
            bench.request();
            bench
        }

        fn now(&self) -> Nanos {
            Nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap() + 1)
        }

        fn request(&mut self) {
            let at = self.now();
            let cause = Cause { reason: Reason::Timeout, at, flow: None, detail: Detail::None };
            self.backend.request(&Request { at, cause });
        }

        /// The next event, however long it takes.
        fn next(&mut self) -> BackendEvent {
            loop {
                let now = self.now();
                if let Some(event) = self.backend.poll(now) {
                    return event;
                }
                assert!(self.started.elapsed() < Duration::from_secs(30), "it never came");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_command_that_ends_well_is_a_commit() {
        let mut bench = Bench::new("test \"$COLO_REASON\" = timeout");
        assert_eq!(bench.next(), BackendEvent::Committed);
        assert_eq!(bench.backend.readiness().map(|fd| fd.is_some()), [false, false]);
        bench.request();
        assert_eq!(bench.next(), BackendEvent::Committed);
    }

    #[test]
    fn a_command_that_says_paused_waits_for_the_boundary() {
        let mut bench = Bench::new("echo hello; echo paused; read word; test \"$word\" = go");
        assert_eq!(bench.next(), BackendEvent::Paused);
        std::thread::sleep(Duration::from_millis(20));
        let now = bench.now();
        assert_eq!(bench.backend.poll(now), None, "it stands");
        assert!(bench.backend.readiness().iter().any(Option::is_some));
        bench.backend.boundary_taken();
        assert_eq!(bench.next(), BackendEvent::Committed);
        // One that says so last of all.
        let mut bench = Bench::new("echo paused");
        assert_eq!([bench.next(), bench.next()], [BackendEvent::Paused, BackendEvent::Committed]);
    }

    #[test]
    fn a_command_that_fails_commits_nothing_and_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let mut bench = Bench::new(&format!("test -e {0} || {{ touch {0}; exit 3; }}", mark.display()));
        let BackendEvent::Alarm(text) = bench.next() else { panic!("it failed") };
        assert_eq!(text, "the checkpoint command ended with exit status: 3; it is run again in 1 s");
        assert_eq!(bench.next(), BackendEvent::Committed);
    }

    #[test]
    fn a_command_that_fails_after_the_pause_gives_the_checkpoint_up() {
        let mut bench = Bench::new("echo paused; read go; kill $$");
        assert_eq!(bench.next(), BackendEvent::Paused);
        bench.backend.boundary_taken();
        assert!(matches!(bench.next(), BackendEvent::Abandoned(_)));
        assert!(matches!(bench.next(), BackendEvent::Alarm(_)));
    }

    #[test]
    fn the_end_of_a_command_that_was_given_up_commits_nothing_and_it_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let mut bench =
            Bench::new(&format!("echo x >> {}; echo paused; read go; sleep 0.05", count.display()));
        assert_eq!(bench.next(), BackendEvent::Paused);
        bench.backend.boundary_taken();
        bench.backend.given_up();
        bench.request();
        assert_eq!(bench.next(), BackendEvent::Paused, "of the second run");
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n");
        bench.backend.boundary_taken();
        assert_eq!(bench.next(), BackendEvent::Committed);
    }

    #[test]
    fn a_command_that_talks_is_not_listened_to_for_ever() {
        let mut bench = Bench::new("head -c 3000000 /dev/zero; echo; echo paused; read go");
        assert_eq!(bench.next(), BackendEvent::Paused);
        bench.backend.boundary_taken();
        assert_eq!(bench.next(), BackendEvent::Committed);
    }
}
