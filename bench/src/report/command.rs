//! `colo-bench report`: JSON lines of `load` and `peer` in, tables and drawings out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use colo_tests::document;

use super::drawing::Drawing;
use crate::load::cpu::float;
use crate::load::engine::Kind;
use crate::load::outcome::Outcome;
use crate::peer::table::{Row, cpu, markdown, rows};

/// Flags of `colo-bench report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Files of JSON lines, as `peer --save` and `load --json` write them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Put the tables into this document, between its markers `peer`, instead of printing them
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// The marker's name
    #[arg(long, value_name = "NAME", default_value = "peer")]
    marker: String,
    /// Put the drawings into this folder: peer-cpu.svg and peer-latency.svg
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

impl Report {
    /// Writes it; tables go to `out` if to no document.
    ///
    /// # Errors
    /// When a file cannot be read or written, or holds something else.
    pub fn run(&self, out: &mut impl Write) -> Result<()> {
        let mut outcomes = Vec::new();
        for path in &self.runs {
            outcomes.extend(read(path)?);
        }
        ensure!(!outcomes.is_empty(), "no run in these files");
        if let Some(folder) = &self.svg {
            fs::create_dir_all(folder)?;
            for (name, drawing) in drawings(&outcomes) {
                let path = folder.join(name);
                fs::write(&path, drawing.svg())
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        match &self.into {
            Some(path) => document::put(path, &self.marker, markdown(&outcomes).trim_end()),
            None => Ok(write!(out, "{}", markdown(&outcomes))?),
        }
    }
}

fn read(path: &Path) -> Result<Vec<Outcome>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let run = |(number, line)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {number}: no run", path.display()))
    };
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).map(run).collect()
}

/// What there are figures for.
fn drawings(outcomes: &[Outcome]) -> Vec<(&'static str, Drawing)> {
    let rows = rows(outcomes);
    let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let both = |row: &Row<'_>, figure: fn(&Outcome) -> Option<f64>| {
        [Kind::Colo, Kind::Qemu].map(|kind| row.of(kind).median(figure)).to_vec()
    };
    let free = |row: &&Row<'_>| row.shape.rate.is_none() && !row.scenario.starts_with("fault");
    let timed = |row: &&Row<'_>| row.shape.rate.is_some() && !row.scenario.starts_with("fault");
    let work = Drawing {
        title: "Processor time a pair, as fast as each goes".to_owned(),
        unit: "ns".to_owned(),
        series: names(&["colo", "QEMU"]),
        groups: rows.iter().filter(free).map(|row| (row.title(), both(row, cpu))).collect(),
    };
    let p50 = |run: &Outcome| Some(float(run.latency_ns.p50) / 1e3).filter(|us| *us > 0.0);
    let p99 = |run: &Outcome| Some(float(run.latency_ns.p99) / 1e3).filter(|us| *us > 0.0);
    let latency = Drawing {
        title: "From the later frame of a pair to its release".to_owned(),
        unit: "µs".to_owned(),
        series: names(&["colo p50", "QEMU p50", "colo p99", "QEMU p99"]),
        groups: rows
            .iter()
            .filter(timed)
            .map(|row| (row.title(), [both(row, p50), both(row, p99)].concat()))
            .collect(),
    };
    let all = [("peer-cpu.svg", work), ("peer-latency.svg", latency)];
    all.into_iter().filter(|(_, drawing)| !drawing.groups.is_empty()).collect()
}
