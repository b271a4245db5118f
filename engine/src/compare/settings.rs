//! What the comparison goes by.

use std::time::Duration;

use super::IgnoredFields;
use crate::modes::QuarantineSettings;
use crate::wire::Tunnels;

/// Whose acknowledgment limits the primary's (comparison rule 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// A client byte is acknowledged only when both guests have it.
    #[default]
    Both,
    /// The primary's own acknowledgment is enough: the reading of a 2016 mail, `max_ack = MAX(primary, secondary)`.
    Any,
}

/// In which sequence space the secondary's TCP segments come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondarySequence {
    /// Found out for each connection.
    #[default]
    Auto,
    /// The primary's: a rewriter in front translates everything after the SYN.
    Translated,
    /// Its own.
    Raw,
}

/// What the comparison goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareSettings {
    /// How long a frame may wait for its partner.
    pub compare_timeout: Duration,
    /// How long the oldest datagrams of both sides may differ before that is a mismatch.
    pub reorder_grace: Duration,
    /// How long a pure ACK with a window beyond the secondary's waits for it.
    pub window_grace: Duration,
    /// Rule 3.
    pub ack_policy: AckPolicy,
    /// Sequence space of the secondary.
    pub secondary_sequence: SecondarySequence,
    /// Most frames held per flow and side.
    pub max_queue_size: u32,
    /// Header fields that do not count.
    pub ignored: IgnoredFields,
    /// What a packet in a tunnel is. Who receives asks for it, not who compares.
    pub tunnels: Tunnels,
    /// When a flow that keeps differing is put aside; `None`: never.
    pub quarantine: Option<QuarantineSettings>,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self {
            compare_timeout: Duration::from_millis(400),
            reorder_grace: Duration::from_millis(20),
            window_grace: Duration::from_millis(20),
            ack_policy: AckPolicy::default(),
            secondary_sequence: SecondarySequence::default(),
            max_queue_size: 1024,
            ignored: IgnoredFields::NONE,
            tunnels: Tunnels::default(),
            quarantine: None,
        }
    }
}
