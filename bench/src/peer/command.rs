//! `colo-bench peer`: a plan's cases on both comparers in turns.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;

use super::plan::{Case, Plan};
use super::table::markdown;
use crate::load::command::measure;
use crate::load::cpu::Cores;
use crate::load::engine::{Kind, Start};
use crate::load::outcome::Outcome;
use crate::load::progress::Progress;

/// Flags of `colo-bench peer`.
#[derive(Clone, Debug, Args)]
pub struct Peer {
    /// A plan: bench/plans/peer.toml is the whole matrix, quick.toml the shortest, faults.toml QEMU's faults,
    /// strain.toml what makes comparing expensive
    plan: PathBuf,
    /// How often each case is run on each comparer, instead of what the plan says
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The comparers, in turns
    #[arg(long, value_enum, value_delimiter = ',', default_value = "colo,qemu")]
    engines: Vec<Kind>,
    /// Also write a JSON line for each run to this file, for `colo-bench report`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print a JSON line for each run instead of tables
    #[arg(long)]
    json: bool,
}

impl Peer {
    /// Runs it; answers go to `out`.
    ///
    /// # Errors
    /// When the plan is none, or a comparer cannot be started or ends.
    pub fn run(&self, stop: &Arc<AtomicBool>, out: &mut impl Write) -> Result<()> {
        let plan = Plan::read(&self.plan)?;
        let cases: Vec<Case> =
            plan.cases().into_iter().filter(|case| case.scenario.contains(&self.only)).collect();
        let save = |path: &PathBuf| {
            File::create(path).map(BufWriter::new).with_context(|| format!("cannot write {}", path.display()))
        };
        let mut file = self.save.as_ref().map(save).transpose()?;
        let mut outcomes = Vec::new();
        let total = cases.len();
        for (number, case) in (1..).zip(&cases) {
            let rounds = self.rounds.or(case.rounds).unwrap_or(plan.rounds);
            for round in 1..=rounds {
                for &kind in &self.engines {
                    let title = format!(
                        "{number}/{total} {}, round {round}/{rounds}, {}",
                        case.scenario,
                        kind.name()
                    );
                    let outcome = one(case, kind, stop, &title)?;
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let line = serde_json::to_string(&outcome)?;
                    if self.json {
                        writeln!(out, "{line}")?;
                    }
                    if let Some(file) = &mut file {
                        writeln!(file, "{line}")?;
                    }
                    outcomes.push(outcome);
                }
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if let Some(mut file) = file {
            file.flush()?;
        }
        if !self.json {
            write!(out, "{}", markdown(&outcomes))?;
        }
        Ok(())
    }
}

fn one(case: &Case, kind: Kind, stop: &Arc<AtomicBool>, title: &str) -> Result<Outcome> {
    let settings = match kind {
        Kind::Colo => &*case.colo,
        Kind::Qemu => &case.qemu,
        Kind::Echo | Kind::Given => &[],
    };
    let start =
        Start { kind, transport: case.transport, shape: &case.shape, settings, cores: Cores::apart() };
    let outcome = measure(&start, stop, &mut Progress::new(title)).with_context(|| title.to_owned())?;
    Ok(Outcome { scenario: Some(case.scenario.clone()), ..outcome })
}
