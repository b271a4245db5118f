//! A cause as JSON: the words that verdict lines and diverged files share. Nothing is decided here.

use serde::Serialize;

use crate::side::{BySide, Side};
use crate::verdict::{Detail, Scene, SideState, StreamState};

/// What is known of a cause. A key that does not apply is not there.
#[derive(Default, Serialize)]
pub(crate) struct DetailFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary_frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<SideFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary: Option<SideFields>,
}

/// Where a side stood.
#[derive(Serialize)]
struct SideFields {
    /// The sequence number of offset 0 in the side's own counting.
    #[serde(skip_serializing_if = "Option::is_none")]
    zero: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<u32>,
    held: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_held_ns: Option<u64>,
}

impl From<SideState> for SideFields {
    fn from(state: SideState) -> Self {
        Self {
            zero: state.stream.map(|stream| stream.zero.0),
            next: state.stream.map(|stream| stream.next),
            top: state.stream.map(StreamState::top),
            ack: state.ack.map(|ack| ack.0),
            edge: state.edge.map(|edge| edge.0),
            held: state.held,
            oldest_held_ns: (state.held > 0).then_some(state.oldest_held_ns),
        }
    }
}

impl DetailFields {
    fn at(scene: &Scene) -> Self {
        let BySide { primary, secondary } = scene.sides;
        Self {
            rule: scene.rule,
            primary: Some(primary.into()),
            secondary: Some(secondary.into()),
            ..Self::default()
        }
    }
}

impl From<&Detail> for DetailFields {
    fn from(detail: &Detail) -> Self {
        match detail {
            Detail::None => Self::default(),
            Detail::Mismatch { kind, offset, primary, secondary, scene } => Self {
                kind: Some(kind.label()),
                offset: Some(*offset),
                primary_frame: *primary,
                secondary_frame: *secondary,
                ..Self::at(scene)
            },
            Detail::Timeout { side, frame, waits_for, scene } => Self {
                primary_frame: (*side == Side::Primary).then_some(*frame),
                secondary_frame: (*side == Side::Secondary).then_some(*frame),
                waits_for: Some(waits_for.label()),
                ..Self::at(scene)
            },
            Detail::Bound { limit } => Self { limit: Some(limit), ..Self::default() },
        }
    }
}
