//! What is to be compared: scenarios in TOML, each of them for every combination of its lists.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::frames::Protocol;
use crate::load::engine::Transport;
use crate::load::shape::{Shape, Writes};

/// A plan file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How often each case is run on each comparer, unless the command line says otherwise.
    pub rounds: u32,
    scenario: Vec<Scenario>,
}

/// One value or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn all(list: Option<&Self>, default: T) -> Vec<T> {
        match list {
            Some(Self::One(one)) => vec![one.clone()],
            Some(Self::Many(many)) => many.clone(),
            None => vec![default],
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    /// Rounds of its own.
    rounds: Option<u32>,
    transport: Option<OneOrMany<Transport>>,
    protocol: Option<OneOrMany<Protocol>>,
    frame: Option<OneOrMany<usize>>,
    flows: Option<OneOrMany<u32>>,
    rate: Option<OneOrMany<u32>>,
    writes: Option<OneOrMany<Writes>>,
    window: Option<u32>,
    vnet: Option<bool>,
    skew: Option<u32>,
    late_us: Option<u32>,
    reorder: Option<f64>,
    reorder_depth: Option<u32>,
    mismatch: Option<f64>,
    gated: Option<bool>,
    pairs: Option<u64>,
    seconds: Option<f64>,
    seed: Option<u64>,
    /// Settings of each comparer.
    #[serde(default)]
    colo: Vec<String>,
    #[serde(default)]
    qemu: Vec<String>,
}

/// One load for both comparers.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario's name.
    pub scenario: String,
    /// How often.
    pub rounds: Option<u32>,
    /// Over what.
    pub transport: Transport,
    /// What.
    pub shape: Shape,
    /// Settings of `colo`.
    pub colo: Vec<String>,
    /// Properties of QEMU's object.
    pub qemu: Vec<String>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// When the file cannot be read, or what it says cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text)?;
        ensure!(plan.rounds > 0, "rounds = 0 measures nothing");
        for case in plan.cases() {
            case.shape.check().with_context(|| format!("scenario {:?}", case.scenario))?;
        }
        Ok(plan)
    }

    /// Every combination, in the file's order.
    pub fn cases(&self) -> Vec<Case> {
        self.scenario.iter().flat_map(Scenario::cases).collect()
    }
}

impl Scenario {
    fn cases(&self) -> Vec<Case> {
        let default = Shape::default();
        let rates = match &self.rate {
            None => vec![None],
            Some(rates) => OneOrMany::all(Some(rates), 0).into_iter().map(Some).collect(),
        };
        let mut shapes = vec![(Transport::Unix, self.scalars(&default))];
        spread(&mut shapes, &OneOrMany::all(self.transport.as_ref(), Transport::Unix), |one, value| {
            one.0 = value;
        });
        spread(&mut shapes, &OneOrMany::all(self.protocol.as_ref(), default.protocol), |one, value| {
            one.1.protocol = value;
        });
        spread(&mut shapes, &OneOrMany::all(self.frame.as_ref(), default.frame), |one, value| {
            one.1.frame = value;
        });
        spread(&mut shapes, &OneOrMany::all(self.flows.as_ref(), default.flows), |one, value| {
            one.1.flows = value;
        });
        spread(&mut shapes, &rates, |one, value| {
            one.1.rate = value;
        });
        spread(&mut shapes, &OneOrMany::all(self.writes.as_ref(), default.writes), |one, value| {
            one.1.writes = value;
        });
        let case = |(transport, shape)| Case {
            scenario: self.name.clone(),
            rounds: self.rounds,
            transport,
            shape,
            colo: self.colo.clone(),
            qemu: self.qemu.clone(),
        };
        shapes.into_iter().map(case).collect()
    }

    fn scalars(&self, default: &Shape) -> Shape {
        Shape {
            window: self.window.unwrap_or(default.window),
            vnet: self.vnet.unwrap_or(default.vnet),
            skew: self.skew.unwrap_or(default.skew),
            late_us: self.late_us.unwrap_or(default.late_us),
            reorder: self.reorder.unwrap_or(default.reorder),
            reorder_depth: self.reorder_depth.unwrap_or(default.reorder_depth),
            mismatch: self.mismatch.unwrap_or(default.mismatch),
            gated: self.gated.unwrap_or(default.gated),
            seed: self.seed.unwrap_or(default.seed),
            pairs: self.pairs,
            seconds: self.seconds,
            ..default.clone()
        }
    }
}

/// Each of `all` once with each of `values`.
fn spread<T: Clone, V: Clone>(all: &mut Vec<T>, values: &[V], set: impl Fn(&mut T, V)) {
    let with = |one: &T| {
        let one = one.clone();
        let set = &set;
        values.iter().cloned().map(move |value| {
            let mut one = one.clone();
            set(&mut one, value);
            one
        })
    };
    *all = all.iter().flat_map(with).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_every_combination_of_its_lists() {
        let plan = Plan::parse(
            "rounds = 3\n[[scenario]]\nname = \"a\"\nprotocol = [\"tcp\", \"udp\"]\nflows = [1, 100]\nwindow = 512\n\
             colo = [\"poll=busy\"]\n[[scenario]]\nname = \"b\"\nrate = [1000, 10000]\ntransport = \"tcp\"\n",
        )
        .unwrap();
        let cases = plan.cases();
        let seen: Vec<_> =
            cases.iter().map(|case| (case.shape.protocol, case.shape.flows, case.shape.rate)).collect();
        let tcp = Protocol::Tcp;
        assert_eq!(seen[..2], [(tcp, 1, None), (tcp, 100, None)]);
        assert_eq!(seen[2..4], [(Protocol::Udp, 1, None), (Protocol::Udp, 100, None)]);
        assert_eq!(seen[4..], [(tcp, 100, Some(1000)), (tcp, 100, Some(10_000))]);
        assert!(cases[..4].iter().all(|case| case.shape.window == 512 && case.colo == ["poll=busy"]));
        assert_eq!(cases[5].transport, Transport::Tcp);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, part) in [
            ("rounds = 1\n[[scenario]]\nname = \"x\"\nframes = 3\n", "frames"),
            ("rounds = 1\n[[scenario]]\nname = \"x\"\nframe = 3\n", "scenario \"x\""),
            ("rounds = 0\nscenario = []\n", "rounds"),
        ] {
            let error = format!("{:#}", Plan::parse(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_plans_of_the_tree_are_plans() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            assert!(!Plan::read(&entry.unwrap().path()).unwrap().cases().is_empty());
            seen += 1;
        }
        assert!(seen >= 3, "{seen}");
    }
}
