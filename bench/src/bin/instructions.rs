//! Runs a scenario for callgrind: `instructions <scenario> <passes>`; what to collect is `colo_bench::rig::Rig::pass`.
#![forbid(unsafe_code)]

use std::io::Write;

use anyhow::Context;
use colo_bench::rig::Rig;
use colo_bench::scenario::Scenario;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: instructions <scenario> <passes>")?;
    let passes: usize = arguments.next().context("how many passes?")?.parse()?;
    let scenario = Scenario::named(&name).with_context(|| format!("no scenario is called {name}"))?;
    let mut rig = Rig::new(scenario)?;
    for _ in 0..passes {
        rig.fill();
        rig.pass();
    }
    rig.check();
    writeln!(std::io::stdout(), "{} pairs", rig.measured())?;
    Ok(())
}
