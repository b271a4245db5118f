//! A QEMU monitor (QMP) as a test needs it: one command at a time, events skipped, an end to every wait.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How long one answer may take; QEMU answers nothing while it moves a guest's state.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// A connection to a monitor.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Negotiates over a new connection.
    pub fn new(stream: UnixStream) -> Result<Self> {
        Self::with_patience(stream, ANSWER_LIMIT)
    }

    /// The same; an answer may take so long.
    pub fn with_patience(stream: UnixStream, answer_limit: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(answer_limit))?;
        stream.set_write_timeout(Some(answer_limit))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        let greeting = monitor.read()?;
        ensure!(greeting.get("QMP").is_some(), "no QEMU monitor: it greets with {greeting}");
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Answer to a command; QEMU's refusal is an error.
    pub fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).context(command.to_owned())?;
        loop {
            let mut said = self.read().with_context(|| format!("no answer to {command}"))?;
            if let Some(answer) = said.get_mut("return") {
                return Ok(answer.take());
            }
            // Anything else is an event.
            ensure!(said.get("error").is_none(), "QEMU refuses {command}: {said}");
        }
    }

    /// Gives commands as `colo qemu-args` prints them, one after another.
    pub fn ask_all(&mut self, commands: &[Value]) -> Result<()> {
        for command in commands {
            let name = command["execute"].as_str().with_context(|| format!("no command: {command}"))?;
            let arguments = command.get("arguments").cloned().unwrap_or_else(|| json!({}));
            self.ask(name, &arguments)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "QEMU closed its monitor");
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))
    }
}
