//! Payload masks: stretches of payload whose content does not count. Dangerous, for what is masked is not compared: a
//! client may see after a failover what it would not have seen before.
//!
//! Positions are offsets: in a datagram's payload, or in a TCP stream, where 0 is the byte after the SYN. A mask never
//! changes lengths. Nothing here allocates once it is built.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use regex_automata::dfa::{dense, regex::Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// Most byte ranges of one rule.
pub const MAX_RANGES: usize = 16;
/// Most expressions of one rule.
pub const MAX_EXPRESSIONS: usize = 4;
/// Most memory for the automata of one expression, bytes; making them may take as much again.
const AUTOMATON_BYTES: usize = 1 << 20;
/// Matches of one expression that are looked at in one payload: what lies behind them counts. A bound on work.
const MAX_MATCHES: u32 = 64;

/// What of a payload does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadMask {
    ranges: Vec<Range<i64>>,
    expressions: Vec<Expression>,
}

/// Why there is no mask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum MaskError {
    #[error("a rule has at most {MAX_RANGES} byte ranges in its mask")]
    TooManyRanges,
    #[error("a rule has at most {MAX_EXPRESSIONS} expressions in its mask")]
    TooManyExpressions,
    #[error("a byte range needs a length of at least 1")]
    EmptyRange,
    #[error(
        "the expression {0:?} matches nothing at all, so that it would mask nothing; make it match something"
    )]
    MatchesEmpty(String),
    #[error("the expression {text:?} cannot be used: {reason}")]
    Expression { text: String, reason: String },
    #[error(
        "the expression {0:?} needs an automaton of more than {AUTOMATON_BYTES} bytes; make it simpler, with fewer or \
         smaller repetitions"
    )]
    TooLarge(String),
}

/// A regular expression over bytes, as automata.
#[derive(Clone, Debug)]
struct Expression {
    text: String,
    automata: Arc<Regex>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl PayloadMask {
    /// Whether it masks nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.expressions.is_empty()
    }

    /// Whether it has an expression.
    pub fn has_expressions(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// Its byte ranges: in order, none touching another.
    pub fn ranges(&self) -> &[Range<i64>] {
        &self.ranges
    }

    /// Its expressions as they were written.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        self.expressions.iter().map(|expression| expression.text.as_str())
    }

    /// Adds `length` bytes from `offset` on.
    pub fn add_range(&mut self, offset: u32, length: u32) -> Result<(), MaskError> {
        if length == 0 {
            return Err(MaskError::EmptyRange);
        }
        let start = i64::from(offset);
        let mut added = start..start + i64::from(length);
        self.ranges.retain(|range| {
            let touches = range.start <= added.end && added.start <= range.end;
            if touches {
                added = added.start.min(range.start)..added.end.max(range.end);
            }
            !touches
        });
        if self.ranges.len() == MAX_RANGES {
            return Err(MaskError::TooManyRanges);
        }
        self.ranges.push(added);
        self.ranges.sort_by_key(|range| range.start);
        Ok(())
    }

    /// Adds an expression over bytes (not Unicode): `.` is any byte but a line feed.
    pub fn add_expression(&mut self, text: &str) -> Result<(), MaskError> {
        if self.expressions.len() == MAX_EXPRESSIONS {
            return Err(MaskError::TooManyExpressions);
        }
        let dense = dense::Config::new()
            .dfa_size_limit(Some(AUTOMATON_BYTES))
            .determinize_size_limit(Some(4 * AUTOMATON_BYTES));
        let automata = Regex::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(
                regex_automata::nfa::thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(AUTOMATON_BYTES)),
            )
            .dense(dense)
            .build(text)
            .map_err(|error| refusal(text, &error))?;
        if automata.is_match(b"") {
            return Err(MaskError::MatchesEmpty(text.to_owned()));
        }
        self.expressions.push(Expression { text: text.to_owned(), automata: Arc::new(automata) });
        Ok(())
    }
}

fn refusal(text: &str, error: &dense::BuildError) -> MaskError {
    let mut chain = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    if chain.iter().any(|cause| cause.contains("limit")) {
        return MaskError::TooLarge(text.to_owned());
    }
    let reason = chain.pop().unwrap_or_default();
    // The parser draws a picture of several lines; its last one says what is wrong.
    let reason = reason.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
    MaskError::Expression { text: text.to_owned(), reason }
}

/// Payload of one frame, and the offset of its first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: i64,
}

impl Window<'_> {
    fn byte(&self, offset: i64) -> Option<u8> {
        self.bytes.get(usize::try_from(offset - self.start).ok()?).copied()
    }
}

/// How a comparison under a mask ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Masked {
    /// The first byte that differs and counts.
    DiffersAt(i64),
    /// Something differs, but nothing that counts.
    Forgiven,
}

/// Looks at the offsets of `common`, which both windows have, for a difference that counts. `free` is what never counts
/// anyway, in order: not the mask's doing.
#[cold]
pub(crate) fn compare(
    mask: Option<&PayloadMask>,
    free: &[Range<usize>],
    [mine, theirs]: [Window<'_>; 2],
    common: Range<i64>,
) -> Option<Masked> {
    let mut matches: ArrayVec<[Matches<'_>; 2], MAX_EXPRESSIONS> = mask
        .iter()
        .flat_map(|mask| &mask.expressions)
        .take(MAX_EXPRESSIONS)
        .map(|expression| [Matches::new(expression, mine), Matches::new(expression, theirs)])
        .collect();
    let ranges = mask.map_or(&[][..], |mask| &mask.ranges);
    let mut outcome = None;
    let mut at = common.start;
    while at < common.end {
        if mine.byte(at) == theirs.byte(at) {
            at += 1;
            continue;
        }
        let inside = usize::try_from(at).ok().and_then(|at| free.iter().find(|range| range.contains(&at)));
        if let Some(range) = inside {
            at = i64::try_from(range.end).unwrap_or(common.end);
        } else if let Some(range) = ranges.iter().find(|range| range.contains(&at)) {
            outcome = Some(Masked::Forgiven);
            at = range.end;
        } else if let Some(end) = matches.iter_mut().find_map(|pair| same_match(pair, at)) {
            outcome = Some(Masked::Forgiven);
            at = end;
        } else {
            return Some(Masked::DiffersAt(at));
        }
    }
    outcome
}

/// The end of the stretch with `at` in it that an expression matches on both sides.
fn same_match([mine, theirs]: &mut [Matches<'_>; 2], at: i64) -> Option<i64> {
    let mine = mine.covering(at)?;
    (theirs.covering(at)? == mine).then_some(mine.end)
}

/// The matches of one expression in one payload, from the left, as far as they were asked for.
struct Matches<'a> {
    automata: &'a Regex,
    window: Window<'a>,
    current: Option<Range<i64>>,
    from: usize,
    left: u32,
}

impl<'a> Matches<'a> {
    fn new(expression: &'a Expression, window: Window<'a>) -> Self {
        Self { automata: &expression.automata, window, current: None, from: 0, left: MAX_MATCHES }
    }

    /// The match with `at` in it. Offsets must be asked for in ascending order.
    fn covering(&mut self, at: i64) -> Option<Range<i64>> {
        while self.current.as_ref().is_none_or(|current| current.end <= at) {
            self.left = self.left.checked_sub(1)?;
            let input = Input::new(self.window.bytes).range(self.from.min(self.window.bytes.len())..);
            // Nothing makes these automata give up.
            let found = self.automata.try_search(&input.anchored(Anchored::No)).ok().flatten();
            let Some(found) = found else {
                self.left = 0;
                return None;
            };
            self.from = found.end().max(found.start() + 1);
            let offset = |place: usize| self.window.start + i64::try_from(place).unwrap_or(0);
            self.current = Some(offset(found.start())..offset(found.end()));
        }
        self.current.clone().filter(|current| current.contains(&at))
    }
}

/// The parts of a content that count, given what does not: `free`, in order, and the mask's ranges.
pub(crate) fn counting_parts<'a>(
    content: &'a [u8],
    free: &'a [Range<usize>],
    mask: Option<&'a PayloadMask>,
) -> impl Iterator<Item = &'a [u8]> {
    let ranges = mask.map_or(&[][..], |mask| &mask.ranges);
    let place = |offset: i64| usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= content.len() {
            return None;
        }
        let of_mask = ranges.iter().map(|range| place(range.start)..place(range.end));
        let next = free.iter().cloned().chain(of_mask).filter(|range| range.end > at);
        let next = next.min_by_key(|range| range.start).unwrap_or(content.len()..content.len());
        let part = content.get(at..next.start.max(at)).unwrap_or(&[]);
        at = next.end;
        Some(part)
    })
}
