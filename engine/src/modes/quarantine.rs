//! One flow that keeps differing: it is held to the next checkpoint for some epochs, while the others stay compared.

/// When a flow is put aside, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineSettings {
    /// Epochs with a mismatch, quiet ones taken off, that put it aside.
    pub after: u8,
    /// Commits until it is compared again.
    pub epochs: u8,
}

/// What is known of a flow's differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    strikes: u8,
    epochs_left: u8,
    struck: Struck,
}

/// Whether it differed in this epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Struck {
    #[default]
    No,
    Yes,
}

/// What a mismatch means for its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// A checkpoint is asked for.
    Checkpoint,
    /// The flow is put aside, and nothing is asked for.
    Aside,
}

impl Quarantine {
    /// The flow differs.
    pub fn differs(&mut self, settings: Option<QuarantineSettings>) -> Sentence {
        let Some(settings) = settings else { return Sentence::Checkpoint };
        if self.struck == Struck::No {
            self.struck = Struck::Yes;
            self.strikes = self.strikes.saturating_add(1);
        }
        if self.strikes < settings.after {
            return Sentence::Checkpoint;
        }
        self.epochs_left = settings.epochs;
        Sentence::Aside
    }

    /// So many commits have gone by since the flow was looked at last.
    pub fn commits(&mut self, commits: u32) {
        let commits = u8::try_from(commits).unwrap_or(u8::MAX);
        if self.epochs_left > 0 {
            self.epochs_left = self.epochs_left.saturating_sub(commits);
            if self.epochs_left == 0 {
                // One more difference puts it aside again.
                self.strikes = self.strikes.saturating_sub(1);
            }
        } else {
            let quiet = if self.struck == Struck::Yes { commits.saturating_sub(1) } else { commits };
            self.strikes = self.strikes.saturating_sub(quiet);
        }
        self.struck = Struck::No;
    }

    /// Whether it is put aside.
    pub fn is_aside(&self) -> bool {
        self.epochs_left > 0
    }
}
