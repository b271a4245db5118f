//! Checks over several keys, and of cores against the machine.
//!
//! A check of one key alone is in its row of `keys`.

use super::address::PORT_SYNTAX;
use super::error::{ConfigError, Subject};
use super::load::Given;
use super::settings::{
    CheckpointBackend, Failover, OnSecondaryLoss, PortSettings, Ports, Purpose, Settings, queue_size,
};

/// What the checks have to know of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Core numbers this process may run on; empty when the system does not say.
    pub(super) cores: Vec<usize>,
}

impl Machine {
    /// The one we run on.
    pub(super) fn this() -> Self {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        Self { cores: ids.into_iter().map(|core| core.id).collect() }
    }

    fn describe(&self) -> String {
        let numbers: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        numbers.join(",")
    }
}

impl PortSettings {
    /// All ports, or the sentence that names the missing one.
    pub fn complete(&self) -> Result<Ports, ConfigError> {
        let need = |port: &Option<_>, flag, key| {
            port.clone().ok_or(ConfigError::MissingPort { flag, key, syntax: PORT_SYNTAX })
        };
        let ports = Ports {
            primary_in: need(&self.primary_in, "primary-in", "primary_in")?,
            secondary_in: need(&self.secondary_in, "secondary-in", "secondary_in")?,
            out: need(&self.out, "out", "outdev")?,
        };
        if !self.vnet_hdr_support {
            return Ok(ports);
        }
        Ok(Ports {
            primary_in: ports.primary_in.with_virtio_headers(),
            secondary_in: ports.secondary_in.with_virtio_headers(),
            out: ports.out.with_virtio_headers(),
        })
    }
}

/// Defaults that would contradict what somebody set give way.
pub(super) fn adjust_defaults(settings: &mut Settings, given: &Given) {
    let timeout = settings.compare.compare_timeout;
    if !given.contains_key("expired_scan_cycle") {
        settings.runtime.timer_tick = settings.runtime.timer_tick.min(timeout);
    }
    if !given.contains_key("max_queue_size") {
        let most = u32::try_from(settings.limits.max_held_frames).unwrap_or(u32::MAX);
        settings.compare.max_queue_size = settings.compare.max_queue_size.min(most);
    }
    if let (Some(max), false) =
        (settings.checkpoint.max_interval, given.contains_key("min_checkpoint_interval"))
    {
        settings.checkpoint.min_interval = settings.checkpoint.min_interval.min(max);
    }
    let modes = &mut settings.modes;
    if !given.contains_key("passive_leave_limit") {
        modes.passive_leave_limit = modes.passive_leave_limit.max(modes.passive_limit.saturating_mul(3) / 2);
    }
    if !given.contains_key("passive_limit") {
        modes.passive_limit = modes.passive_limit.min(modes.passive_leave_limit);
    }
    if !given.contains_key("passive_count_max") {
        modes.passive_count_max = modes.passive_count_max.max(modes.passive_count);
    }
    if !given.contains_key("passive_count") {
        modes.passive_count = modes.passive_count.min(modes.passive_count_max);
    }
    if given.contains_key("min_checkpoint_interval") && !given.contains_key("max_checkpoint_interval") {
        let min = settings.checkpoint.min_interval;
        settings.checkpoint.max_interval = settings.checkpoint.max_interval.map(|max| max.max(min));
    }
}

/// Everything that no single key can tell.
pub(super) fn check(
    settings: &Settings,
    given: &Given,
    machine: &Machine,
    purpose: Purpose,
) -> Result<(), ConfigError> {
    let subject =
        |key: &str| Subject { place: given.get(key).cloned().unwrap_or_default(), key: key.to_owned() };
    // Virtual time needs no cores: a file written for another machine will do.
    if purpose != Purpose::Replay {
        check_cores(settings, machine, &subject)?;
    }
    let (tick, timeout) = (settings.runtime.timer_tick, settings.compare.compare_timeout);
    if tick > timeout {
        return Err(ConfigError::TickAboveTimeout {
            subject: subject("expired_scan_cycle"),
            tick: tick.as_millis(),
            timeout: timeout.as_millis(),
        });
    }
    let min = settings.checkpoint.min_interval;
    if let Some(max) = settings.checkpoint.max_interval.filter(|max| *max < min) {
        return Err(ConfigError::MinAboveMax {
            subject: subject("min_checkpoint_interval"),
            min: min.as_millis(),
            max: max.as_millis(),
        });
    }
    let (queue, held) = (queue_size(settings), settings.limits.max_held_frames);
    if queue > held {
        return Err(ConfigError::QueueAboveHeld { subject: subject("max_queue_size"), queue, held });
    }
    check_modes(settings, &subject)?;
    let policy = &settings.policy;
    let masked = policy.rules.iter().position(|rule| !rule.mask.is_empty());
    if let Some(place) = masked.filter(|_| !policy.allow_unsafe_masks) {
        return Err(ConfigError::UnsafeMask { place: subject("rule").place, rule: place + 1 });
    }
    check_addresses(settings, &subject)
}

fn check_modes(settings: &Settings, subject: &dyn Fn(&str) -> Subject) -> Result<(), ConfigError> {
    let modes = &settings.modes;
    if modes.passive_leave_limit < modes.passive_limit {
        return Err(ConfigError::LeaveBelowLimit {
            subject: subject("passive_leave_limit"),
            leave: modes.passive_leave_limit.as_millis(),
            limit: modes.passive_limit.as_millis(),
        });
    }
    if modes.passive_count_max < modes.passive_count {
        return Err(ConfigError::CountAboveMost {
            subject: subject("passive_count_max"),
            most: modes.passive_count_max,
            count: modes.passive_count,
        });
    }
    if settings.loss.failover == Failover::Primary {
        let wanted = match (&settings.checkpoint.backend, settings.loss.on_secondary) {
            (CheckpointBackend::Qmp(_), OnSecondaryLoss::Pass) => return Ok(()),
            (CheckpointBackend::Qmp(_), OnSecondaryLoss::Hold) => {
                "on_secondary_loss is \"hold\", so that the primary is never left alone; set it to \"pass\""
            }
            _ => "only QEMU's monitor can be told; say checkpoint = \"qmp:ADDR\"",
        };
        return Err(ConfigError::FailoverNeeds { subject: subject("failover"), wanted });
    }
    Ok(())
}

fn check_cores(
    settings: &Settings,
    machine: &Machine,
    subject: &dyn Fn(&str) -> Subject,
) -> Result<(), ConfigError> {
    let cores = &settings.runtime.cores;
    for (at, core) in cores.iter().enumerate() {
        if cores[..at].contains(core) {
            return Err(ConfigError::CoreTwice { subject: subject("cores"), core: *core });
        }
        if !machine.cores.is_empty() && !machine.cores.contains(core) {
            let have = machine.describe();
            return Err(ConfigError::NoSuchCore { subject: subject("cores"), core: *core, have });
        }
    }
    let workers = settings.runtime.workers;
    if !cores.is_empty() && workers > cores.len() {
        return Err(ConfigError::TooFewCores { subject: subject("workers"), workers, cores: cores.len() });
    }
    Ok(())
}

fn check_addresses(settings: &Settings, subject: &dyn Fn(&str) -> Subject) -> Result<(), ConfigError> {
    let mut seen: Vec<(&'static str, String)> = Vec::new();
    let metrics = settings.metrics.filter(|address| address.port() != 0);
    let metrics = metrics.map(|address| ("metrics", format!("tcp:{address}")));
    for (key, endpoint) in endpoints(settings).into_iter().chain(metrics) {
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == endpoint) {
            return Err(ConfigError::SameAddress { subject: subject(key), address: endpoint, other });
        }
        seen.push((key, endpoint));
    }
    Ok(())
}

/// The ends of a pair's links, each with its key: nobody else may have them.
pub(super) fn endpoints(settings: &Settings) -> Vec<(&'static str, String)> {
    let ports = [
        ("primary_in", &settings.ports.primary_in),
        ("secondary_in", &settings.ports.secondary_in),
        ("outdev", &settings.ports.out),
    ];
    let ports = ports.into_iter().filter_map(|(key, port)| Some((key, port.as_ref()?.endpoint())));
    let backend = match &settings.checkpoint.backend {
        CheckpointBackend::Notify(address) => vec![address],
        CheckpointBackend::Qmp(monitors) => {
            std::iter::once(&monitors.primary).chain(&monitors.secondary).collect()
        }
        CheckpointBackend::Exec(_) | CheckpointBackend::None => Vec::new(),
    };
    ports.chain(backend.into_iter().map(|address| ("checkpoint", address.endpoint()))).collect()
}
