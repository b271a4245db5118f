//! `colo top` in a real terminal: tmux gives it keys and says what is on its screen while a demo runs.
#![forbid(unsafe_code)]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_tests::metrics::Scrape;
use colo_tests::process::{Colo, colo_binary, free_tcp_address};
use colo_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

/// A tmux server of our own with one window; dropping it ends both.
struct Screen {
    server: String,
}

impl Screen {
    fn start(command: &str) -> Result<Self> {
        let screen = Self { server: format!("colo-top-{}", std::process::id()) };
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "130", "-y", "40", command])?;
        Ok(screen)
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let tmux = Command::new("tmux").args(["-L", &self.server]).args(words).env_remove("TMUX").output();
        let output = tmux.context("cannot run `tmux` (Debian package tmux)")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "tmux {words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn text(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until all of it is on the screen.
    fn shows(&self, wanted: &[&str]) -> Result<String> {
        until("the screen shows it", LIMIT, || {
            let text = self.text()?;
            let missing: Vec<_> = wanted.iter().filter(|one| !text.contains(**one)).collect();
            ensure!(missing.is_empty(), "{missing:?} are not on\n{text}");
            Ok(text)
        })
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It ends by itself with its last window.
        let _ = self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_a_running_demo_and_heeds_its_keys() -> Result<()> {
    let metrics = free_tcp_address()?.to_string();
    let arguments = ["demo", "--seconds", "60", "--diverge", "0.1", "--workers", "2", "--metrics", &metrics];
    let demo = Colo::start(arguments)?;
    Scrape::wait(metrics.parse()?, LIMIT, |page| {
        page.sum("colo_checkpoints_completed_total", &[]).is_ok_and(|count| count > 3)
    })?;
    let screen =
        Screen::start(&format!("{} top --metrics {metrics} --interval 250", colo_binary()?.display()))?;
    let first = screen.shows(&[
        "colo top",
        "pair default",
        "links all up",
        "books out of balance 0",
        "mismatch",
        "cores (a shard each)",
        "pools and rings",
        "hottest flows by held time",
        "tcp 10.",
    ])?;
    ensure!(!first.contains("SECONDARY LOST"), "{first}");
    // The sparkline grows.
    until("latency is drawn", LIMIT, || {
        let text = screen.text()?;
        ensure!(text.contains(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']), "no bar on\n{text}");
        Ok(())
    })?;
    screen.press("s")?;
    screen.shows(&["hottest flows by mismatches", "mismatch payload"])?;
    screen.press("w")?;
    let why = screen.shows(&["why it last differed", "mismatch at", "offset", "kind             payload"])?;
    if let Some(path) = std::env::var_os("COLO_SCREEN") {
        screen.press("w")?;
        let whole = screen.shows(&["hottest flows by mismatches", "q quit"])?;
        std::fs::write(path, format!("{whole}\n{why}"))?;
    } else {
        screen.press("Escape")?;
    }
    screen.press("Space")?;
    screen.shows(&["paused"])?;
    screen.press("Space")?;
    let gone = demo.terminate(LIMIT)?;
    gone.expect_code(0)?;
    screen.shows(&["no colo answers at"])?;
    screen.press("q")?;
    until("it has ended", LIMIT, || {
        ensure!(screen.text().is_err(), "it still runs");
        Ok(())
    })
}

#[test]
fn without_a_terminal_or_an_engine_it_says_so_in_one_sentence() -> Result<()> {
    let finished = Colo::run(["top"], LIMIT)?;
    finished.expect_code(2)?;
    ensure!(finished.stderr.contains("colo top wants a terminal"), "{}", finished.stderr);
    Ok(())
}
