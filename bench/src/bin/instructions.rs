//! Runs a scenario, or a part alone, for callgrind: `instructions <name> <passes>`; what to collect is
//! `colo_bench::rig::Rig::pass` and `colo_bench::parts::pass`.
#![forbid(unsafe_code)]

use std::io::Write;

use anyhow::Context;
use colo_bench::parts;
use colo_bench::rig::Rig;
use colo_bench::scenario::Scenario;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: instructions <scenario or part> <passes>")?;
    let passes: usize = arguments.next().context("how many passes?")?.parse()?;
    if let Some(mut part) = parts::named(&name)? {
        for _ in 0..passes {
            part.fill();
            parts::pass(part.as_mut())?;
        }
        writeln!(std::io::stdout(), "{} frames", passes * parts::FRAMES)?;
        return Ok(());
    }
    let scenario =
        Scenario::named(&name).with_context(|| format!("no scenario and no part is called {name}"))?;
    let mut rig = Rig::new(scenario)?;
    for _ in 0..passes {
        rig.fill();
        rig.pass();
    }
    rig.check();
    writeln!(std::io::stdout(), "{} pairs", rig.measured())?;
    Ok(())
}
