//! Configuration: TOML file, flags and `--set` → validated [`Settings`].
//!
//! [`Sources`] says what is merged, [`Sources::load`] does it and either gives settings that hold together or one
//! sentence that says what is wrong, where, and how to mend it. The data plane gets plain structs; no clap or serde
//! type leaves this module.

mod address;
mod classes;
mod dump;
mod error;
mod header_fields;
mod keys;
mod load;
mod mode_keys;
mod pairs;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod validate;
mod value;
mod wrappers;

pub use address::{AddressError, PortAddress, QmpAddresses, Rebuild, SocketAddress};
pub use dump::dump_json;
pub use error::{ConfigError, Place, Subject};
pub use header_fields::{HeaderFields, SynOptionsPolicy, WindowPolicy};
pub use keys::{log_filter, mode_from_word};
pub use load::Sources;
pub use pairs::{DEFAULT_PAIR, MAX_PAIRS, PairSettings};
pub use rules::{rule_from_text, rules_json};
pub use settings::{
    CheckpointBackend, CheckpointSettings, CommitAfter, Failover, LimitSettings, LossSettings, MemoryMode,
    OnPrimaryLoss, OnSecondaryLoss, PolicySettings, PollMode, PortSettings, Ports, Purpose, QuarantineConfig,
    RunMode, RuntimeSettings, Settings,
};
pub use wrappers::{CaptureSettings, FaultSpec, WrapperSettings};
