//! What is compared and what is not: rules for flows, policies for classes of frames.
//!
//! A [`RuleSet`] is plain data that never changes; to change the rules is to put another set in its place. It is asked
//! once for a connection, not for each frame.

mod mask;
mod rules;
#[cfg(test)]
mod tests;

use crate::compare::CompareSettings;
use crate::flow::FlowKey;
use crate::wire::Class;

pub use mask::{MAX_EXPRESSIONS, MAX_RANGES, MaskError, PayloadMask};
pub(crate) use mask::{Masked, Window, compare, counting_parts};
pub use rules::{MAX_PORT_RANGES, Network, PortRanges, Protocol, Rule};

/// Most rules of a set.
pub const MAX_RULES: usize = 256;

/// What becomes of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// They are compared.
    #[default]
    Compare,
    /// The primary's leave at once, uncompared; the secondary's are dropped.
    Pass,
    /// The primary's wait for the next checkpoint, uncompared; the secondary's are dropped.
    Hold,
}

impl Action {
    /// As a word of the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Pass => "pass",
            Self::Hold => "hold",
        }
    }
}

/// What becomes of frames outside the comparison of IP flows, by class. By default all pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPolicies([Action; Class::ALL.len()]);

impl Default for ClassPolicies {
    fn default() -> Self {
        Self([Action::Pass; Class::ALL.len()])
    }
}

impl ClassPolicies {
    /// The policy of a class.
    pub fn of(&self, class: Class) -> Action {
        self.0[class.index()]
    }

    /// Sets the policy of a class.
    pub fn set(&mut self, class: Class, action: Action) {
        self.0[class.index()] = action;
    }
}

/// A rule by its place in its set, counted from 0; or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleIndex(u16);

impl RuleIndex {
    /// No rule applies.
    pub const NONE: Self = Self(u16::MAX);

    /// The place, unless there is no rule.
    pub fn place(self) -> Option<usize> {
        (self != Self::NONE).then_some(usize::from(self.0))
    }
}

/// What is to be done with a flow, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of its frames.
    pub action: Action,
    /// By which rule.
    pub rule: RuleIndex,
}

/// Too many rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} rules are more than {MAX_RULES}; merge some (ports takes a list)")]
pub struct TooManyRules(pub usize);

/// Everything that decides what is compared, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    base: CompareSettings,
    classes: ClassPolicies,
    rules: Vec<(Rule, CompareSettings)>,
}

impl RuleSet {
    /// No rules: all is compared by `base`, and classes pass.
    pub fn empty(base: CompareSettings) -> Self {
        Self { base, classes: ClassPolicies::default(), rules: Vec::new() }
    }

    /// Rules over `base`; the first that matches counts.
    pub fn new(
        base: CompareSettings,
        classes: ClassPolicies,
        rules: Vec<Rule>,
    ) -> Result<Self, TooManyRules> {
        if rules.len() > MAX_RULES {
            return Err(TooManyRules(rules.len()));
        }
        let with_settings = |rule: Rule| {
            let ignored = base.ignored.union(rule.ignored);
            (rule, CompareSettings { ignored, ..base })
        };
        Ok(Self { base, classes, rules: rules.into_iter().map(with_settings).collect() })
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is to be done with a flow. Frames of a class have their policy, everything else the first rule that matches.
    #[cold]
    pub fn ruling(&self, flow: &FlowKey) -> Ruling {
        if let Some(class) = flow.class() {
            return Ruling { action: self.classes.of(class), rule: RuleIndex::NONE };
        }
        let found = self.rules.iter().position(|(rule, _)| rule.matches(flow));
        match found.and_then(|place| Some((self.rules.get(place)?, u16::try_from(place).ok()?))) {
            Some(((rule, _), place)) => Ruling { action: rule.action, rule: RuleIndex(place) },
            None => Ruling { action: Action::Compare, rule: RuleIndex::NONE },
        }
    }

    /// What a connection under a rule is compared by.
    #[inline(always)]
    pub fn settings(&self, rule: RuleIndex) -> &CompareSettings {
        match self.rules.get(usize::from(rule.0)) {
            Some((_, settings)) => settings,
            None => &self.base,
        }
    }

    /// What of the payload does not count under a rule.
    pub fn mask(&self, rule: RuleIndex) -> Option<&PayloadMask> {
        let (rule, _) = self.rules.get(rule.place()?)?;
        (!rule.mask.is_empty()).then_some(&rule.mask)
    }

    /// The rules that mask payload, by their place.
    pub fn masked(&self) -> impl Iterator<Item = usize> {
        let masks = |(place, (rule, _)): (usize, &(Rule, _))| (!rule.mask.is_empty()).then_some(place);
        self.rules.iter().enumerate().filter_map(masks)
    }
}
