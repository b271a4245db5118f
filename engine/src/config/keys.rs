//! The table of keys: one row a key, with its meaning, how it is read and how it is shown.
//!
//! File, flags, `--set`, `dump-config` and the "nearest known key" all go through this table, so none can know a key
//! that another does not. Checks over several keys are not here but in `validate`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::address::{AddressError, PORT_SYNTAX, PortAddress, SOCKET_SYNTAX, SocketAddress};
use super::classes::POLICY_KEYS;
use super::header_fields::{SynOptionsPolicy, WindowPolicy, fields, words};
use super::mode_keys::{MODE_KEYS, MODES};
use super::settings::{CheckpointBackend, CommitAfter, MemoryMode, PollMode, RunMode, Settings, queue_size};
use super::value::{Expected, Shown, Value, boolean, choice, core_list, count, millis, number};
use super::wrappers::WRAPPER_KEYS;
use crate::compare::{AckPolicy, SecondarySequence};
use crate::modes::Mode;

/// One row of the table.
pub(super) struct Key {
    /// As it is written in the file.
    pub(super) name: &'static str,
    /// What it means, with its unit, for `dump-config`.
    pub(super) meaning: &'static str,
    /// A value that is fine, as in the file.
    pub(super) example: &'static str,
    /// Reads a value into the settings.
    pub(super) set: fn(&mut Settings, &Value) -> Result<(), Expected>,
    /// Shows the value in effect.
    pub(super) show: fn(&Settings) -> Shown,
}

/// Other names of keys, and the key meant.
pub(super) const ALIASES: [(&str, &str); 1] = [("out", "outdev")];

/// Sets `checkpoint` by QEMU's property name; not shown, as `checkpoint` says it all.
pub(super) const NOTIFY_DEV: Key = Key {
    name: "notify_dev",
    meaning: "QEMU's name: the same as checkpoint = \"notify:ADDR\"",
    example: "\"unix:/run/colo/notify.sock\"",
    set: |s, v| {
        let text = v.as_text().ok_or_else(|| SOCKET_SYNTAX.to_owned())?;
        let address = text.parse().map_err(|error| format!("{SOCKET_SYNTAX} ({text:?} {error})"))?;
        s.checkpoint.backend = CheckpointBackend::Notify(address);
        Ok(())
    },
    show: |_| Shown::Unset,
};

const HOUR_MS: u64 = 3_600_000;
const RUN_MODES: [(&str, RunMode); 2] = [("workers", RunMode::Workers), ("pipeline", RunMode::Pipeline)];
const POLL_MODES: [(&str, PollMode); 2] = [("busy", PollMode::Busy), ("adaptive", PollMode::Adaptive)];
const MEMORY_MODES: [(&str, MemoryMode); 3] =
    [("huge", MemoryMode::Huge), ("resident", MemoryMode::Resident), ("lazy", MemoryMode::Lazy)];
const ACK_POLICIES: [(&str, AckPolicy); 2] = [("both", AckPolicy::Both), ("any", AckPolicy::Any)];
const SYN_OPTIONS: [(&str, SynOptionsPolicy); 2] =
    [("compare", SynOptionsPolicy::Compare), ("ignore", SynOptionsPolicy::Ignore)];
const WINDOW_POLICIES: [(&str, WindowPolicy); 2] =
    [("clamp", WindowPolicy::Clamp), ("ignore", WindowPolicy::Ignore)];
const SEQUENCES: [(&str, SecondarySequence); 3] = [
    ("auto", SecondarySequence::Auto),
    ("translated", SecondarySequence::Translated),
    ("raw", SecondarySequence::Raw),
];

/// Most threads the engine starts as workers.
const WORKERS: RangeInclusive<u64> = 1..=64;
/// Frames and connections: below 64 a single burst would not fit, above it memory would not.
const MANY: RangeInclusive<u64> = 64..=4_194_304;

/// A file must have room for one record at least; above a TiB it is a mistake.
pub(super) const FILE_BYTES: RangeInclusive<u64> = 1_048_576..=1 << 40;

/// Every key, in the order `dump-config` prints them.
pub(super) static KEYS: [Key; 36] = [
    Key {
        name: "primary_in",
        meaning: "the primary VM's output: unix:PATH[,listen][,vnet], tcp:HOST:PORT[,listen][,vnet], \
                  tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet] or pcap:FILE",
        example: "\"unix:/run/colo/primary.sock\"",
        set: |s, v| port(v).map(|address| s.ports.primary_in = Some(address)),
        show: |s| Shown::optional(s.ports.primary_in.as_ref()),
    },
    Key {
        name: "secondary_in",
        meaning: "the secondary VM's output, same syntax",
        example: "\"unix:/run/colo/secondary.sock,listen\"",
        set: |s, v| port(v).map(|address| s.ports.secondary_in = Some(address)),
        show: |s| Shown::optional(s.ports.secondary_in.as_ref()),
    },
    Key {
        name: "outdev",
        meaning: "where released frames go, same syntax; also called out",
        example: "\"unix:/run/colo/out.sock\"",
        set: |s, v| port(v).map(|address| s.ports.out = Some(address)),
        show: |s| Shown::optional(s.ports.out.as_ref()),
    },
    Key {
        name: "vnet_hdr_support",
        meaning: "frames on the sockets carry a virtio-net header, as with QEMU's property of this name",
        example: "true",
        set: |s, v| boolean(v).map(|flag| s.ports.vnet_hdr_support = flag),
        show: |s| Shown::Boolean(s.ports.vnet_hdr_support),
    },
    Key {
        name: "checkpoint",
        meaning: "who takes checkpoints: \"qmp:ADDR[,secondary=ADDR][,rebuild=FILTER|off]\" (QEMU's monitor), \"notify:ADDR\" (QEMU's notify_dev), \
                  \"exec:COMMAND\" (exit status 0: committed) or \"none\" (a request commits by itself \
                  after checkpoint_ms); colo compare wants it said",
        example: "\"notify:unix:/run/colo/notify.sock\"",
        set: |s, v| backend(v).map(|backend| s.checkpoint.backend = backend),
        show: |s| match &s.checkpoint.backend {
            CheckpointBackend::Notify(address) => Shown::Text(format!("notify:{address}")),
            CheckpointBackend::Qmp(addresses) => Shown::Text(format!("qmp:{addresses}")),
            CheckpointBackend::Exec(command) => Shown::Text(format!("exec:{command}")),
            CheckpointBackend::None => Shown::text("none"),
        },
    },
    Key {
        name: "checkpoint_ms",
        meaning: "with checkpoint = \"none\": a request commits after so many milliseconds, or \"never\"",
        example: "5",
        set: |s, v| commit_after(v).map(|after| s.checkpoint.none_commit_after = after),
        show: |s| match s.checkpoint.none_commit_after {
            CommitAfter::After(delay) => delay.into(),
            CommitAfter::Never => Shown::text("never"),
        },
    },
    Key {
        name: "checkpoint_delay",
        meaning: "milliseconds a mismatch waits for further ones before the request goes out",
        example: "3",
        set: |s, v| millis(v, &(0..=HOUR_MS)).map(|delay| s.checkpoint.delay = delay),
        show: |s| s.checkpoint.delay.into(),
    },
    Key {
        name: "min_checkpoint_interval",
        meaning: "milliseconds from a commit to the next request, at least",
        example: "100",
        set: |s, v| millis(v, &(0..=HOUR_MS)).map(|interval| s.checkpoint.min_interval = interval),
        show: |s| s.checkpoint.min_interval.into(),
    },
    Key {
        name: "max_checkpoint_interval",
        meaning: "milliseconds without a checkpoint before a periodic one; 0 or \"off\": none",
        example: "10000",
        set: |s, v| periodic(v).map(|interval| s.checkpoint.max_interval = interval),
        show: |s| s.checkpoint.max_interval.map_or_else(|| Shown::text("off"), Shown::from),
    },
    Key {
        name: "checkpoint_deadline",
        meaning: "milliseconds from a request to its commit before it is asked for again, with an alarm",
        example: "10000",
        set: |s, v| millis(v, &(1..=HOUR_MS)).map(|deadline| s.checkpoint.deadline = deadline),
        show: |s| s.checkpoint.deadline.into(),
    },
    Key {
        name: "compare_timeout",
        meaning: "milliseconds a frame waits for its partner before a checkpoint is asked for",
        example: "400",
        set: |s, v| millis(v, &(1..=HOUR_MS)).map(|timeout| s.compare.compare_timeout = timeout),
        show: |s| s.compare.compare_timeout.into(),
    },
    Key {
        name: "expired_scan_cycle",
        meaning: "timer tick in milliseconds: a timeout fires at most this late; never above compare_timeout",
        example: "10",
        set: |s, v| millis(v, &(1..=HOUR_MS)).map(|tick| s.runtime.timer_tick = tick),
        show: |s| s.runtime.timer_tick.into(),
    },
    Key {
        name: "reorder_grace",
        meaning: "milliseconds two differing datagrams may stay unmatched before that is a mismatch",
        example: "20",
        set: |s, v| millis(v, &(0..=HOUR_MS)).map(|grace| s.compare.reorder_grace = grace),
        show: |s| s.compare.reorder_grace.into(),
    },
    Key {
        name: "ack_policy",
        meaning: "\"both\": no released ACK runs ahead of either guest; \"any\": of the faster one",
        example: "\"both\"",
        set: |s, v| choice(v, &ACK_POLICIES).map(|policy| s.compare.ack_policy = policy),
        show: |s| Shown::word(&s.compare.ack_policy, &ACK_POLICIES),
    },
    Key {
        name: "window_policy",
        meaning: "\"clamp\": no window leaves that reaches beyond the secondary's; \"ignore\": windows are left alone",
        example: "\"clamp\"",
        set: |s, v| choice(v, &WINDOW_POLICIES).map(|policy| s.header_fields.window = policy),
        show: |s| Shown::word(&s.header_fields.window, &WINDOW_POLICIES),
    },
    Key {
        name: "window_grace",
        meaning: "milliseconds a pure ACK waits for the secondary's window before it leaves with a lower one",
        example: "20",
        set: |s, v| millis(v, &(0..=HOUR_MS)).map(|grace| s.compare.window_grace = grace),
        show: |s| s.compare.window_grace.into(),
    },
    Key {
        name: "syn_options",
        meaning: "\"compare\": MSS, window scale, SACK and timestamps that SYNs offer must be equal; \"ignore\": need not",
        example: "\"compare\"",
        set: |s, v| choice(v, &SYN_OPTIONS).map(|policy| s.header_fields.syn_options = policy),
        show: |s| Shown::word(&s.header_fields.syn_options, &SYN_OPTIONS),
    },
    Key {
        name: "ignore",
        meaning: "header fields that do not count: mss, window-scale, sack-permitted, timestamps-permitted, urgent, window",
        example: "[\"mss\", \"urgent\"]",
        set: |s, v| fields(v).map(|ignored| s.header_fields.ignore = ignored),
        show: |s| Shown::Words(words(s.header_fields.ignore)),
    },
    Key {
        name: "secondary_sequence",
        meaning: "the secondary's sequence numbers: \"translated\" (by filter-rewriter), \"raw\", or \"auto\" to find out",
        example: "\"auto\"",
        set: |s, v| choice(v, &SEQUENCES).map(|sequence| s.compare.secondary_sequence = sequence),
        show: |s| Shown::word(&s.compare.secondary_sequence, &SEQUENCES),
    },
    Key {
        name: "max_queue_size",
        meaning: "held packets per flow and side",
        example: "1024",
        set: |s, v| {
            let packets = count(v, &(1..=1_048_576), "packets")?;
            s.compare.max_queue_size = u32::try_from(packets).unwrap_or(u32::MAX);
            Ok(())
        },
        show: |s| queue_size(s).into(),
    },
    Key {
        name: "max_connections",
        meaning: "entries of the connection table",
        example: "65536",
        set: |s, v| count(v, &MANY, "connections").map(|entries| s.limits.max_connections = entries),
        show: |s| s.limits.max_connections.into(),
    },
    Key {
        name: "max_held_frames",
        meaning: "held frames per side; the frame pool is sized by it",
        example: "65536",
        set: |s, v| count(v, &MANY, "frames").map(|frames| s.limits.max_held_frames = frames),
        show: |s| s.limits.max_held_frames.into(),
    },
    Key {
        name: "max_gso_frames",
        meaning: "frames per side that are longer than a jumbo frame (segmentation offload)",
        example: "64",
        set: |s, v| count(v, &(1..=65_536), "frames").map(|frames| s.limits.max_gso_frames = frames),
        show: |s| s.limits.max_gso_frames.into(),
    },
    Key {
        name: "max_fragments",
        meaning: "IP fragments per side that wait for the rest of their datagram; 1 KiB of memory each",
        example: "1024",
        set: |s, v| count(v, &(1..=65_536), "fragments").map(|most| s.limits.max_fragments = most),
        show: |s| s.limits.max_fragments.into(),
    },
    Key {
        name: "workers",
        meaning: "worker threads, one shard each",
        example: "2",
        set: |s, v| count(v, &WORKERS, "threads").map(|threads| s.runtime.workers = threads),
        show: |s| s.runtime.workers.into(),
    },
    Key {
        name: "cores",
        meaning: "core numbers to pin threads to, as \"0,1\" or [0, 1]; not given: all, in order",
        example: "[0, 1]",
        set: |s, v| core_list(v).map(|cores| s.runtime.cores = cores),
        show: |s| {
            if s.runtime.cores.is_empty() { Shown::Unset } else { Shown::List(s.runtime.cores.clone()) }
        },
    },
    Key {
        name: "run_mode",
        meaning: "\"workers\": every core receives and compares; \"pipeline\": receive cores hand to shard cores",
        example: "\"workers\"",
        set: |s, v| choice(v, &RUN_MODES).map(|mode| s.runtime.run_mode = mode),
        show: |s| Shown::word(&s.runtime.run_mode, &RUN_MODES),
    },
    Key {
        name: "poll",
        meaning: "\"busy\": idle threads spin; \"adaptive\": they sleep after a while",
        example: "\"adaptive\"",
        set: |s, v| choice(v, &POLL_MODES).map(|mode| s.runtime.poll = mode),
        show: |s| Shown::word(&s.runtime.poll, &POLL_MODES),
    },
    Key {
        name: "memory",
        meaning: "\"huge\": all resident at the start, in huge pages where there are; \"resident\": in ordinary ones; \
                  \"lazy\": when it is touched",
        example: "\"huge\"",
        set: |s, v| choice(v, &MEMORY_MODES).map(|mode| s.runtime.memory = mode),
        show: |s| Shown::word(&s.runtime.memory, &MEMORY_MODES),
    },
    Key {
        name: "diverged",
        meaning: "pcapng file for the frames of both sides when they differ, for colo explain; or \"off\"",
        example: "\"/var/lib/colo/diverged.pcapng\"",
        set: |s, v| file(v).map(|path| s.diverged.path = path),
        show: |s| {
            s.diverged.path.as_ref().map_or_else(|| Shown::text("off"), |path| Shown::text(path.display()))
        },
    },
    Key {
        name: "diverged_max_bytes",
        meaning: "bytes of the diverged file, at which a new one is begun",
        example: "67108864",
        set: |s, v| number(v, &FILE_BYTES, "bytes").map(|bytes| s.diverged.rotation.max_bytes = bytes),
        show: |s| Shown::Integer(s.diverged.rotation.max_bytes.into()),
    },
    Key {
        name: "diverged_files",
        meaning: "diverged files kept, the current one included",
        example: "4",
        set: |s, v| count(v, &(1..=1_000), "files").map(|files| s.diverged.rotation.files = files),
        show: |s| s.diverged.rotation.files.into(),
    },
    Key {
        name: "metrics",
        meaning: "address and port of /metrics, /healthz, /readyz and /status, or \"off\"",
        example: "\"127.0.0.1:9420\"",
        set: |s, v| metrics(v).map(|address| s.metrics = address),
        show: |s| s.metrics.map_or_else(|| Shown::text("off"), Shown::text),
    },
    Key {
        name: "ctl",
        meaning: "path of the socket for colo ctl, or \"off\"; only its owner may open it",
        example: "\"/run/colo/ctl.sock\"",
        set: |s, v| file(v).map(|path| s.ctl = path),
        show: |s| s.ctl.as_ref().map_or_else(|| Shown::text("off"), |path| Shown::text(path.display())),
    },
    Key {
        name: "log",
        meaning: "error, warn, info, debug, trace or off; per module as in \"info,colo_engine::checkpoint=debug\"",
        example: "\"info\"",
        set: |s, v| log_words(v).map(|filter| s.log = filter),
        show: |s| Shown::text(&s.log),
    },
    NOTIFY_DEV,
];

/// The row of a key or alias.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, key)| key);
    all().find(|key| key.name == name)
}

/// The rows of all tables, in the order `dump-config` prints them.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(&MODE_KEYS).chain(&POLICY_KEYS).chain(&WRAPPER_KEYS)
}

/// Whether keys are written in a table of this name.
pub(super) fn is_table(name: &str) -> bool {
    all().any(|key| key.name.split_once('.').is_some_and(|(table, _)| table == name))
}

/// The known name most like `name`.
pub(super) fn nearest(name: &str) -> &'static str {
    let names =
        all().map(|key| key.name).chain(["rule", "pair"]).chain(ALIASES.iter().map(|(alias, _)| *alias));
    // Jaro-Winkler is quadratic: a monster of a key needs no exact answer.
    let head: String = name.chars().take(64).collect();
    let near = |known: &str| strsim::jaro_winkler(known, &head);
    names.max_by(|a, b| near(a).total_cmp(&near(b))).unwrap_or("workers")
}

fn port(value: &Value) -> Result<PortAddress, Expected> {
    let text = value.as_text().ok_or_else(|| PORT_SYNTAX.to_owned())?;
    text.parse().map_err(|error| format!("{PORT_SYNTAX} ({text:?} {error})"))
}

fn backend(value: &Value) -> Result<CheckpointBackend, Expected> {
    let text = value.as_text().unwrap_or_default();
    if text == "none" {
        return Ok(CheckpointBackend::None);
    }
    let syntax =
        || "notify:ADDR, qmp:ADDR[,secondary=ADDR][,rebuild=FILTER|off], exec:COMMAND or none".to_owned();
    let wrong = |address: &str, error: AddressError| match error {
        // What would be known stands in front already.
        AddressError::Kind(_) => format!("{} ({address:?} has no known kind in front)", syntax()),
        error => format!("{} ({address:?} {error})", syntax()),
    };
    match text.split_once(':').ok_or_else(syntax)? {
        ("notify", address) => {
            address.parse().map(CheckpointBackend::Notify).map_err(|error| wrong(address, error))
        }
        ("qmp", addresses) => {
            let named = |error| {
                let parts =
                    || addresses.split(",rebuild=").take(1).flat_map(|part| part.split(",secondary="));
                wrong(parts().find(|part| part.parse::<SocketAddress>().is_err()).unwrap_or(addresses), error)
            };
            addresses.parse().map(CheckpointBackend::Qmp).map_err(named)
        }
        ("exec", command) if command.trim().is_empty() => Err(syntax() + " (no command stands behind exec:)"),
        ("exec", command) if command.contains('\0') => Err(syntax() + " (the command contains a zero byte)"),
        ("exec", command) => Ok(CheckpointBackend::Exec(command.to_owned())),
        _ => Err(syntax()),
    }
}

fn commit_after(value: &Value) -> Result<CommitAfter, Expected> {
    if value.as_text() == Some("never") {
        return Ok(CommitAfter::Never);
    }
    millis(value, &(0..=HOUR_MS)).map(CommitAfter::After).map_err(|wanted| wanted + ", or \"never\"")
}

fn periodic(value: &Value) -> Result<Option<Duration>, Expected> {
    if value.as_text() == Some("off") {
        return Ok(None);
    }
    let interval = millis(value, &(0..=HOUR_MS)).map_err(|wanted| wanted + ", or \"off\"")?;
    Ok(Some(interval).filter(|interval| !interval.is_zero()))
}

pub(super) fn file(value: &Value) -> Result<Option<PathBuf>, Expected> {
    match value.as_text() {
        Some("off") => Ok(None),
        Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
        _ => Err("the path of a file, or \"off\"".to_owned()),
    }
}

fn metrics(value: &Value) -> Result<Option<SocketAddr>, Expected> {
    let text = value.as_text().unwrap_or_default();
    if text == "off" {
        return Ok(None);
    }
    // Resolving names is left out on purpose: only this one is known without asking anybody.
    let numeric =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map(Some).map_err(|_| "a numeric address with a port, or \"off\"".to_owned())
}

/// A filter of log lines, as `log` takes it.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let text = log_words(&Value::Word(text.to_owned())).map_err(|wanted| format!("it must be {wanted}"))?;
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// A mode, as `mode` takes it.
pub fn mode_from_word(word: &str) -> Result<Mode, String> {
    choice(&Value::Word(word.to_owned()), &MODES).map_err(|wanted| format!("the mode must be {wanted}"))
}

fn log_words(value: &Value) -> Result<String, Expected> {
    let expected =
        || "error, warn, info, debug, trace or off, or MODULE=LEVEL with commas between".to_owned();
    let text = value.as_text().ok_or_else(expected)?;
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    // The filter takes a lone word for the name of a module: `--log inof` would silence everything.
    let fits = text.split(',').all(|part| part.contains('=') || is_level(part.trim()));
    if fits && EnvFilter::try_new(text).is_ok() { Ok(text.to_owned()) } else { Err(expected()) }
}
