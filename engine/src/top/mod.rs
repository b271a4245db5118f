//! `colo top`: a running engine on a terminal, from its page at `/status`.
//!
//! It asks over HTTP or over the control socket and changes nothing. What the page means is `model`'s, what it looks like is
//! `view`'s; here are the terminal, the keys and the clock.

mod model;
mod source;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use model::Model;
pub use source::Source;

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Goes,
    Over,
}

/// Shows `source` until somebody presses `q`, asking it once in `interval`.
///
/// # Errors
/// When the terminal cannot be used. An engine that does not answer is shown as such and asked again.
pub fn run(source: &Source, interval: Duration) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut model = Model::new(source.to_string());
    let mut due = Instant::now();
    let outcome = loop {
        let now = Instant::now();
        if now >= due {
            due = now + interval;
            model.take(source.status());
        }
        if let Err(error) = terminal.draw(|frame| view::draw(frame, &model)) {
            break Err(error);
        }
        match event::poll(due.saturating_duration_since(Instant::now())) {
            Ok(false) => {}
            Ok(true) => match event::read() {
                Ok(Event::Key(key))
                    if key.kind == KeyEventKind::Press && press(&mut model, key) == Stage::Over =>
                {
                    break Ok(());
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    ratatui::restore();
    outcome
}

/// What a key does.
fn press(model: &mut Model, key: KeyEvent) -> Stage {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Stage::Over,
        KeyCode::Esc if model.is_explaining() => model.explain_no_more(),
        KeyCode::Char('q') | KeyCode::Esc => return Stage::Over,
        KeyCode::Char('s') => model.sort_otherwise(),
        KeyCode::Char('w') | KeyCode::Enter => model.explain(),
        KeyCode::Char('p') | KeyCode::Tab => model.next_pair(),
        KeyCode::Char(' ') => model.pause(),
        KeyCode::Down | KeyCode::Char('j') => model.select_next(),
        KeyCode::Up | KeyCode::Char('k') => model.select_previous(),
        _ => {}
    }
    Stage::Goes
}
