//! A line on the terminal that says how a run goes, and is gone afterwards. Nothing where there is no terminal.

use std::io::{IsTerminal, Write};

use super::driver::Live;
use super::outcome::{rounded, thousands};

const CELLS: u32 = 30;

/// The line.
#[derive(Debug)]
pub struct Progress {
    terminal: Option<std::io::Stderr>,
    title: String,
    last: Option<Live>,
}

impl Progress {
    /// With words in front.
    pub fn new(title: &str) -> Self {
        let terminal = std::io::stderr();
        let terminal = terminal.is_terminal().then_some(terminal);
        Self { terminal, title: title.to_owned(), last: None }
    }

    /// Rewrites it.
    pub fn draw(&mut self, live: Live) {
        let Some(terminal) = &mut self.terminal else { return };
        let line = line(&self.title, self.last, live);
        self.last = Some(live);
        // Nobody is served by a complaint about it.
        let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            let _ = write!(terminal, "\r\x1b[K").and_then(|()| terminal.flush());
        }
    }
}

fn line(title: &str, last: Option<Live>, live: Live) -> String {
    let bar: String = (0..CELLS)
        .map(|cell| if f64::from(cell) < live.done * f64::from(CELLS) { '█' } else { '·' })
        .collect();
    let (back, since) =
        last.map_or((0, live.elapsed), |last| (last.back, live.elapsed.saturating_sub(last.elapsed)));
    let rate = super::cpu::float(live.back.saturating_sub(back)) / since.as_secs_f64().max(1e-9);
    format!(
        "{title} {bar} {:3.0} % {} pairs, {} pairs/s",
        live.done * 100.0,
        thousands(live.back),
        rounded(rate)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_is_of_the_time_since_the_last_line() {
        let at = |back, ms, done| Live { back, done, elapsed: Duration::from_millis(ms) };
        let first = at(1000, 500, 0.0);
        assert!(line("x", None, first).contains("0 % 1,000 pairs, 2000 pairs/s"));
        let text = line("x", Some(first), at(2000, 600, 0.5));
        assert!(text.contains("50 % 2,000 pairs, 10 k pairs/s"), "{text}");
        assert_eq!(text.matches('█').count(), 15);
    }
}
