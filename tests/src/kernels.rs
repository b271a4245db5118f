//! Kernel, `colo`, kernel: a server's and a client's network namespace with a third between them, in which the engine
//! stands on the server's way out.
//!
//! What the server sends is doubled by the kernel (`tc mirred`), so that the primary's and the secondary's port get the same
//! frames, each at its own time. What the engine lets out goes to the client. What the client sends goes straight to the
//! server, as QEMU's mirror filter would bring it to both guests.

pub mod transfer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::metrics::Scrape;
use crate::netns::Namespace;
use crate::process::{Colo, tail};
use crate::wait;
use transfer::{Order, Speed};

/// How long the engine may take to make its devices, and to end.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Its page of metrics, in a namespace where nobody else is.
const METRICS: &str = "127.0.0.1:9420";
/// Frames that a TAP device keeps for its reader: a whole window of TCP.
const QUEUE_FRAMES: usize = 20_000;
/// Bytes of a socket's buffer: least, first, most; half of it is TCP's window. A frame passes the kernel's backlog of 1,000
/// frames three times where veth pairs lead to both inputs, and what a single input lacks is waited for until TCP sends it
/// again. So no more is on its way than fits.
const SMALL_WINDOW: &str = "4096 400000 400000";
/// Frames that a ring of DPDK's `AF_PACKET` driver has room for.
const RING_FRAMES: usize = 8_192;
/// Counters are published every 20 ms, losses every 250.
const COUNTERS_PERIOD: Duration = Duration::from_millis(50);
const LOSSES_PERIOD: Duration = Duration::from_millis(400);

/// Kind of the engine's three ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TAP devices that the engine makes.
    Tap,
    /// TAP devices that are there, of two queues each.
    TapQueues,
    /// `AF_PACKET` on veth pairs.
    Packet,
    /// The same, with two sockets each that share the frames out.
    PacketQueues,
    /// TAP devices that DPDK makes. Wants `colo` built with its feature `dpdk`, as the next does.
    DpdkTap,
    /// DPDK's `AF_PACKET` driver on veth pairs.
    DpdkPacket,
}

impl Kind {
    /// How the engine's addresses begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tap | Self::TapQueues => "tap:",
            Self::Packet | Self::PacketQueues => "packet:",
            Self::DpdkTap => "dpdk:net_tap",
            Self::DpdkPacket => "dpdk:net_af_packet",
        }
    }
}

/// Whether the kernel leaves work to whoever comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    /// Open checksums, and super-frames of up to 64 KiB: `,vnet`.
    On,
    /// Complete frames of one MTU.
    Off,
}

/// What the engine did meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// The primary's frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Bytes and times at the client and the server.
    pub speed: Speed,
    /// Of the engine, while the guest's bytes came.
    pub usage: Usage,
    /// Frames lost at the engine's ports.
    pub lost: u64,
    /// The engine's summary.
    pub summary: Value,
}

/// The three namespaces and the engine in the middle one.
pub struct Kernels {
    client: Namespace,
    middle: Namespace,
    server: Namespace,
    colo: Colo,
}

impl Kernels {
    /// The server's address.
    pub const SERVER: &str = "10.78.0.1";
    /// The client's address.
    pub const CLIENT: &str = "10.78.0.2";

    /// Makes them and starts the engine; `more` arguments go to it, split at spaces.
    pub fn start(kind: Kind, offloads: Offloads, more: &str) -> Result<Self> {
        let (client, middle, server) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        middle.ip("link set lo up")?;
        for (namespace, end, here, address) in
            [(&server, "s0", "ms", Self::SERVER), (&client, "c0", "mc", Self::CLIENT)]
        {
            middle
                .ip(&format!("link add {here} type veth peer name {end} netns {}", namespace.holder_pid()))?;
            namespace.ip(&format!("addr add {address}/24 dev {end}"))?;
            namespace.ip(&format!("link set {end} addrgenmode none up"))?;
            middle.ip(&format!("link set {here} addrgenmode none up"))?;
        }
        let is_veth = matches!(kind, Kind::Packet | Kind::PacketQueues | Kind::DpdkPacket);
        if offloads == Offloads::Off && is_veth {
            client.inside(|| Ok(std::fs::write("/proc/sys/net/ipv4/tcp_rmem", SMALL_WINDOW)?))?;
        }
        prepare(kind, offloads, &middle)?;
        let colo = middle.inside(|| Colo::start(arguments(kind, offloads, more)))?;
        let kernels = Self { client, middle, server, colo };
        wait::until("the engine's page of metrics", STEP_LIMIT, || kernels.scrape()).with_context(|| {
            format!("the engine did not start; stderr: {}", tail(&kernels.colo.stderr_so_far()))
        })?;
        kernels.colo.wait_for_log("out is up", STEP_LIMIT)?;
        kernels.wire(kind)?;
        Ok(kernels)
    }

    /// Where the client lives.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// Where the server lives.
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// What the server sends goes to both inputs, what the engine lets out to the client, what the client sends to the server.
    fn wire(&self, kind: Kind) -> Result<()> {
        let (primary, secondary) = match kind {
            Kind::Tap | Kind::TapQueues | Kind::DpdkTap => ("pri", "sec"),
            Kind::Packet | Kind::PacketQueues | Kind::DpdkPacket => ("p0", "q0"),
        };
        if primary == "pri" {
            for device in ["pri", "sec", "out"] {
                self.middle
                    .ip(&format!("link set {device} addrgenmode none txqueuelen {QUEUE_FRAMES} up"))?;
            }
            self.redirect("out", "mirred egress redirect dev mc")?;
        }
        if kind == Kind::DpdkPacket {
            self.redirect("o0", "mirred egress redirect dev mc")?;
        }
        self.redirect(
            "ms",
            &format!("mirred egress mirror dev {primary} action mirred egress redirect dev {secondary}"),
        )?;
        self.redirect("mc", "mirred egress redirect dev ms")
    }

    fn redirect(&self, from: &str, action: &str) -> Result<()> {
        self.middle.tc(&format!("qdisc add dev {from} clsact"))?;
        self.middle
            .tc(&format!("filter add dev {from} ingress protocol all u32 match u32 0 0 action {action}"))
    }

    fn scrape(&self) -> Result<Scrape> {
        self.middle.inside(|| Scrape::get(METRICS.parse()?))
    }

    /// Processor time of the engine so far.
    fn engine_cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.colo.pid()))? {
            // The first number is the time on a processor, nanoseconds. A kernel without it has zeros.
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = text.split_whitespace().next().context("an empty schedstat")?.parse()?;
            sum += Duration::from_nanos(nanos);
        }
        Ok(sum)
    }

    /// Does the work, and says what the engine did meanwhile.
    pub fn measure<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<(T, Usage)> {
        let before = self.usage()?;
        let done = work(self);
        let done = done.with_context(|| {
            let page = self.scrape().map(|page| page.interesting()).unwrap_or_default();
            format!("{page}\nstderr: {}", tail(&self.colo.stderr_so_far()))
        })?;
        let after = self.usage()?;
        let usage = Usage {
            cpu: after.cpu.saturating_sub(before.cpu),
            frames: after.frames - before.frames,
            bytes: after.bytes - before.bytes,
        };
        Ok((done, usage))
    }

    fn usage(&self) -> Result<Usage> {
        let cpu = self.engine_cpu()?;
        std::thread::sleep(COUNTERS_PERIOD);
        let page = self.scrape()?;
        let of_primary = |name| page.sum(name, &["side=\"primary\""]);
        let (frames, bytes) =
            (of_primary("colo_frames_received_total")?, of_primary("colo_bytes_received_total")?);
        Ok(Usage { cpu, frames, bytes })
    }

    /// Transfers by the order between the client and the server.
    pub fn transfer(&self, order: &Order) -> Result<Speed> {
        transfer::run(&self.client, &self.server, order)
    }

    /// Transfers by the order, ends the engine, and returns what it all came to.
    pub fn run(mut self, order: &Order) -> Result<Outcome> {
        let (speed, usage) = self.measure(|kernels| kernels.transfer(order))?;
        self.colo.check_alive()?;
        let (lost, summary) = self.finish()?;
        Ok(Outcome { speed, usage, lost, summary })
    }

    /// Ends the engine; returns the frames lost at its ports, and its summary.
    pub fn finish(self) -> Result<(u64, Value)> {
        std::thread::sleep(LOSSES_PERIOD);
        let lost = self.scrape()?.sum("colo_port_lost_frames_total", &[])?;
        let finished = self.colo.terminate(STEP_LIMIT)?;
        finished.expect_code(0)?;
        Ok((lost, serde_json::from_str(&finished.stdout).context("the engine's summary")?))
    }
}

impl Outcome {
    /// Fails unless both sides were equal from beginning to end, and everything left.
    pub fn expect_equal(&self) -> Result<()> {
        let summary = &self.summary;
        ensure!(self.lost == 0, "{} frames lost at the ports: {summary}", self.lost);
        for reason in ["mismatch", "timeout", "queue_full", "table_full"] {
            ensure!(summary["checkpoints"][reason] == 0, "checkpoints for {reason}: {summary}");
        }
        ensure!(summary["invariant_violations"] == 0, "the books do not balance: {summary}");
        ensure!(summary["held"] == 0 && summary["frames"]["primary"] == summary["released"], "{summary}");
        ensure!(summary["released_by"]["flush"] == 0, "frames left by a flush: {summary}");
        let matched = summary["released_by"]["matched"].as_u64().unwrap_or(0);
        ensure!(matched > 0, "nothing was compared: {summary}");
        Ok(())
    }
}

/// Devices that must be there before the engine is.
fn prepare(kind: Kind, offloads: Offloads, middle: &Namespace) -> Result<()> {
    match kind {
        Kind::Tap | Kind::DpdkTap => Ok(()),
        Kind::TapQueues => ["pri", "sec", "out"].into_iter().try_for_each(|name| {
            middle.ip(&format!("tuntap add dev {name} mode tap multi_queue"))?;
            middle.ip(&format!("link set {name} addrgenmode none up"))
        }),
        Kind::Packet | Kind::PacketQueues => {
            ["p", "q"].into_iter().try_for_each(|name| veth_pair(middle, name, offloads))
        }
        Kind::DpdkPacket => {
            ["p", "q", "o"].into_iter().try_for_each(|name| veth_pair(middle, name, offloads))
        }
    }
}

/// Two devices, `0` and `1` behind the name. A TAP device has the kernel cut super-frames and complete checksums; a packet
/// socket sees frames as they are, so without offloads the way to it must do that.
fn veth_pair(middle: &Namespace, name: &str, offloads: Offloads) -> Result<()> {
    middle.ip(&format!("link add {name}0 type veth peer name {name}1"))?;
    for end in ["0", "1"] {
        middle.ip(&format!("link set {name}{end} addrgenmode none up"))?;
        if offloads == Offloads::Off {
            middle.ethtool(&format!("-K {name}{end} tx off tso off gso off"))?;
        }
    }
    Ok(())
}

/// The engine's command line.
fn arguments(kind: Kind, offloads: Offloads, more: &str) -> Vec<String> {
    let vnet = match offloads {
        Offloads::On => ",vnet",
        Offloads::Off => "",
    };
    let ports = match kind {
        Kind::DpdkTap => {
            ["0,iface=pri", "1,iface=sec", "2,iface=out"].map(|rest| format!("dpdk:net_tap{rest}"))
        }
        Kind::DpdkPacket => ["0,iface=p1", "1,iface=q1", "2,iface=o1"]
            .map(|rest| format!("dpdk:net_af_packet{rest},framecnt={RING_FRAMES}")),
        Kind::Tap => ["tap:pri", "tap:sec", "tap:out"].map(|port| format!("{port}{vnet}")),
        Kind::TapQueues => ["tap:pri", "tap:sec", "tap:out"].map(|port| format!("{port},queues=2{vnet}")),
        Kind::Packet => {
            ["packet:p1", "packet:q1", "packet:mc"].map(|port| format!("{port},promisc,ring=32{vnet}"))
        }
        Kind::PacketQueues => ["packet:p1", "packet:q1", "packet:mc"]
            .map(|port| format!("{port},promisc,queues=2,ring=32{vnet}")),
    };
    let [primary, secondary, out] = ports;
    // No periodic checkpoints: a flush would be one more way out for what must match.
    let fixed = format!(
        "compare --primary-in {primary} --secondary-in {secondary} --out {out} --checkpoint none --metrics {METRICS} \
         --json --set compare_timeout=10000 --set max_checkpoint_interval=0 --set max_held_frames=65536 --set max_queue_size=65536 --set \
         max_gso_frames=2048 {more}"
    );
    fixed.split_whitespace().map(str::to_owned).collect()
}

/// Bits of a second, for tables.
pub fn gigabits(bytes: u64, time: Duration) -> f64 {
    let bytes = u32::try_from(bytes >> 10).map_or(f64::MAX, f64::from) * 1024.0;
    bytes * 8.0 / time.as_secs_f64() / 1e9
}

/// How long something took.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}
