//! `dpdk:` ports from outside, with real ends: the kernel's TCP through `net_tap` and `net_af_packet`, captures through
//! `net_pcap`, and testpmd as the virtio and memif peer. Wants `colo` built with its feature `dpdk`, root for namespaces,
//! and the Debian packages dpdk-dev, iproute2 and ethtool. No hugepages.
#![cfg(feature = "dpdk")]
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use colo_tests::netns::{Namespace, join};
use colo_tests::process::{Colo, Finished, colo_binary, tail};
use colo_tests::sniff::{Captured, write_pcap};
use colo_tests::wait::until;
use etherparse::PacketBuilder;
use pcap_file::pcap::PcapReader;
use serde_json::Value;

/// How long anything may take that takes a second.
const STEP: Duration = Duration::from_secs(30);
/// Bytes of the transfers between kernels; more with `COLO_DPDK_MEGABYTES`.
const MEGABYTES: u64 = 64;
/// Bytes that the client lets the server send ahead.
const WINDOW: usize = 200_000;
/// Bytes that are made and compared at once.
const BLOCK: usize = 1 << 16;

/// UDP datagrams of all sizes up to `longest`, in several flows, no two alike.
fn datagrams(count: usize, longest: usize) -> Result<Vec<Captured>> {
    let frame = |number: usize| {
        let port = u16::try_from(4_000 + number % 7)?;
        let payload: Vec<u8> =
            (0..18 + number * 37 % longest).map(|at| (at * 31 + number).to_le_bytes()[0]).collect();
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64)
            .udp(port, 9);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[&number.to_le_bytes(), payload.as_slice()].concat())?;
        Ok(Captured { at: Duration::from_micros(u64::try_from(number)?), bytes })
    };
    (0..count).map(frame).collect()
}

fn read_pcap(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut reader = PcapReader::new(File::open(path)?)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet?.data.into_owned());
    }
    Ok(frames)
}

/// Whole frames in a capture that somebody is still writing.
fn frames_in(path: &Path) -> usize {
    let Some(mut reader) = File::open(path).ok().and_then(|file| PcapReader::new(file).ok()) else {
        return 0;
    };
    let mut frames = 0;
    while let Some(Ok(_)) = reader.next_packet() {
        frames += 1;
    }
    frames
}

fn compare(primary: &str, secondary: &str, out: &str) -> Vec<String> {
    let flags = [
        ["--primary-in", primary],
        ["--secondary-in", secondary],
        ["--out", out],
        ["--checkpoint", "none"],
        ["--metrics", "off"],
        ["--set", "compare_timeout=5000"],
    ];
    ["compare", "--json"].into_iter().chain(flags.into_iter().flatten()).map(str::to_owned).collect()
}

/// What the summary says, after checking what must hold for equal streams.
fn expect_equal(finished: &Finished) -> Result<Value> {
    finished.expect_code(0)?;
    let summary: Value = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("no summary; stderr: {}", tail(&finished.stderr)))?;
    for zero in ["/checkpoints/mismatch", "/checkpoints/timeout", "/invariant_violations", "/held"] {
        ensure!(summary.pointer(zero).and_then(Value::as_u64) == Some(0), "{zero} in {summary:#}");
    }
    Ok(summary)
}

fn number(summary: &Value, pointer: &str) -> Result<u64> {
    summary.pointer(pointer).and_then(Value::as_u64).ok_or_else(|| anyhow!("no {pointer} in {summary:#}"))
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

#[test]
fn captures_through_net_pcap_come_out_whole() -> Result<()> {
    // Beyond 2,048 bytes a frame takes several mbufs, in and out.
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let sent = datagrams(2_000, 8_000)?;
    write_pcap(&path("in.pcap"), &sent)?;
    let arguments = compare(
        &format!("dpdk:net_pcap0,rx_pcap={}", path("in.pcap").display()),
        &format!("dpdk:net_pcap1,rx_pcap={}", path("in.pcap").display()),
        &format!("dpdk:net_pcap2,tx_pcap={}", path("out.pcap").display()),
    );
    let colo = Colo::start(&arguments)?;
    colo.wait_for_log("out is up", STEP)?;
    // The driver writes the rest when it is closed: the count of the engine is what tells that all have come.
    std::thread::sleep(Duration::from_secs(1));
    let summary = expect_equal(&colo.terminate(STEP)?)?;
    assert_eq!(number(&summary, "/released_by/matched")?, 2_000);
    let bytes: Vec<_> = sent.into_iter().map(|frame| frame.bytes).collect();
    ensure!(read_pcap(&path("out.pcap"))? == bytes, "what came out is not what went in");
    Ok(())
}

#[test]
fn an_unprivileged_user_needs_no_hugepages() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let sent = datagrams(200, 1_400)?;
    write_pcap(&path("in.pcap"), &sent)?;
    // The binary may lie where only this user can go.
    std::fs::copy(colo_binary()?, path("colo"))?;
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
    let input = |number: u8| format!("dpdk:net_pcap{number},rx_pcap={}", path("in.pcap").display());
    let out = format!("dpdk:net_pcap2,tx_pcap={}", path("out.pcap").display());
    let mut command = Command::new(path("colo"));
    command
        .args(compare(&input(0), &input(1), &out))
        .current_dir(folder.path())
        .env_remove("XDG_RUNTIME_DIR");
    command.uid(NOBODY).gid(NOBODY).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let wrote = until("frames of an unprivileged colo", STEP, || {
        ensure!(child.try_wait()?.is_none(), "it ended early");
        ensure!(path("out.pcap").exists(), "no output yet");
        Ok(())
    });
    std::thread::sleep(Duration::from_secs(1));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)?;
    let output = child.wait_with_output()?;
    wrote.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes: Vec<_> = sent.into_iter().map(|frame| frame.bytes).collect();
    ensure!(read_pcap(&path("out.pcap"))? == bytes, "what came out is not what went in");
    Ok(())
}

#[test]
fn what_dpdk_does_not_know_is_one_sentence() -> Result<()> {
    let arguments = compare("dpdk:net_nix0", "dpdk:net_null0", "dpdk:net_null1");
    let finished = Colo::run(&arguments, STEP)?;
    finished.expect_code(2)?;
    let last = finished.stderr.lines().last().unwrap_or_default();
    ensure!(last.starts_with("colo: cannot open dpdk:net_nix0: No such device"), "{last}");
    Ok(())
}

/// A server's and a client's kernel with colo between them. What the server sends is given to both inputs; what colo
/// releases goes to the client; what the client sends goes to the server beside colo, which is no switch.
struct Rig {
    server: Namespace,
    client: Namespace,
    middle: Namespace,
}

impl Rig {
    fn new() -> Result<Self> {
        let rig = Self { server: Namespace::new()?, client: Namespace::new()?, middle: Namespace::new()? };
        rig.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
        for (outer, near, far, address) in
            [(&rig.server, "s0", "sm", "10.77.0.1"), (&rig.client, "c0", "cm", "10.77.0.2")]
        {
            outer.inside(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
            outer.ip(&format!(
                "link add {near} type veth peer name {far} netns {}",
                rig.middle.holder_pid()
            ))?;
            outer.ip(&format!("addr add {address}/24 dev {near}"))?;
            outer.ip(&format!("link set {near} up"))?;
            rig.middle.ip(&format!("link set {far} up"))?;
        }
        Ok(rig)
    }

    /// Runs a command in the middle, split at spaces.
    fn run(&self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        let output = self.middle.inside(|| {
            Command::new(program).args(words).output().with_context(|| format!("cannot run {program}"))
        })?;
        ensure!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Frames that come in at `from` go out at each of `to`.
    fn wire(&self, from: &str, to: &[&str]) -> Result<()> {
        self.run(&format!("tc qdisc add dev {from} clsact"))?;
        let (last, copies) = to.split_last().context("a wire has two ends")?;
        let copies: Vec<_> =
            copies.iter().map(|to| format!("action mirred egress mirror dev {to}")).collect();
        let copies = copies.join(" ");
        self.run(&format!(
            "tc filter add dev {from} ingress protocol all u32 match u32 0 0 {copies} action mirred egress redirect dev {last}"
        ))
    }

    /// Carries bytes from the server to the client through `p`, `q` (inputs) and `o` (output).
    fn transfer(&self, what: &str, arguments: &[String]) -> Result<()> {
        let colo = self.middle.inside(|| Colo::start(arguments))?;
        colo.wait_for_log("out is up", STEP)?;
        for queue in ["p", "q", "o"] {
            self.middle.ip(&format!("link set {queue} txqueuelen 10000 up"))?;
        }
        self.wire("sm", &["p", "q"])?;
        self.wire("o", &["cm"])?;
        self.wire("cm", &["sm"])?;
        let bytes =
            std::env::var("COLO_DPDK_MEGABYTES").ok().map_or(Ok(MEGABYTES), |text| text.parse())? << 20;
        let began = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let server = self.server.spawn(scope, move || {
                let listener = TcpListener::bind("10.77.0.1:7000")?;
                ready.send(())?;
                send_all(&mut listener.accept()?.0, bytes)
            });
            is_ready.recv_timeout(STEP)?;
            let client = self.client.spawn(scope, move || {
                let mut stream = TcpStream::connect_timeout(&"10.77.0.1:7000".parse()?, STEP)?;
                stream.set_read_timeout(Some(STEP))?;
                // No more on the way than the kernel's queues between the namespaces and the rings of DPDK's driver have room
                // for: behind a loss everything is held until the server sends again.
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, WINDOW)?;
                check_all(&mut stream, bytes)
            });
            join(client).with_context(|| format!("the client; colo: {}", tail(&colo.stderr_so_far())))?;
            join(server)
        })?;
        let took = began.elapsed();
        let summary = expect_equal(&colo.terminate(STEP)?)?;
        let matched = number(&summary, "/released_by/matched")?;
        ensure!(matched >= bytes / 1_500, "{matched} frames matched, too few for {bytes} bytes: {summary:#}");
        say(&format!(
            "{what}: {} MiB, every byte right, {:.0} Mbit/s, {matched} frames matched",
            bytes >> 20,
            to_f64(bytes * 8) / 1e6 / took.as_secs_f64(),
        ))
    }
}

fn to_f64(number: u64) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}

/// Bytes of the stream from `at` on: a permutation of the offsets, so that no two places look alike.
fn block(at: u64) -> Vec<u8> {
    let words = u64::try_from(BLOCK / 8).unwrap_or_default();
    (0..words).flat_map(|word| (at / 8 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

fn send_all(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    stream.set_write_timeout(Some(STEP))?;
    for at in (0..bytes).step_by(BLOCK) {
        stream.write_all(&block(at))?;
    }
    Ok(())
}

fn check_all(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut got = vec![0; BLOCK];
    for at in (0..bytes).step_by(BLOCK) {
        stream.read_exact(&mut got).with_context(|| format!("after {at} bytes"))?;
        ensure!(got == block(at), "wrong bytes from {at} on");
    }
    ensure!(stream.read(&mut got)? == 0, "more than was sent");
    Ok(())
}

#[test]
fn kernel_tcp_through_net_tap() -> Result<()> {
    let rig = Rig::new()?;
    rig.transfer(
        "net_tap",
        &compare("dpdk:net_tap0,iface=p", "dpdk:net_tap1,iface=q", "dpdk:net_tap2,iface=o"),
    )
}

#[test]
fn kernel_tcp_through_net_af_packet() -> Result<()> {
    let rig = Rig::new()?;
    for (near, far) in [("p", "pp"), ("q", "qq"), ("o", "oo")] {
        rig.middle.ip(&format!("link add {near} type veth peer name {far}"))?;
        rig.middle.ip(&format!("link set {near} up"))?;
        rig.middle.ip(&format!("link set {far} up"))?;
        // Frames must be complete when they get to a raw socket: no checksum and no cutting left to a device.
        rig.run(&format!("ethtool -K {near} tx off gso off tso off"))?;
    }
    rig.transfer(
        "net_af_packet",
        &compare(
            "dpdk:net_af_packet0,iface=pp",
            "dpdk:net_af_packet1,iface=qq",
            "dpdk:net_af_packet2,iface=oo",
        ),
    )
}

/// testpmd, told what to do on stdin. Dropping it ends it.
struct Testpmd(Child);

impl Testpmd {
    fn start(folder: &Path, devices: &[String]) -> Result<Self> {
        let mut command = Command::new("dpdk-testpmd");
        command.args(["-l", "0,1", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf"]);
        command.args(devices.iter().map(|device| format!("--vdev={device}")));
        command.args(["--", "--total-num-mbufs=8192", "--no-mlockall", "--no-flush-rx", "-i"]);
        let log = File::create(folder.join("testpmd.log"))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("cannot run `dpdk-testpmd` (Debian package dpdk-dev)")?))
    }

    fn tell(&mut self, lines: &str) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("testpmd has no stdin")?;
        Ok(stdin.write_all(lines.as_bytes())?)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended.
        drop(self.tell("stop\nquit\n"));
        drop(self.0.stdin.take());
        std::thread::sleep(Duration::from_millis(300));
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Two captures, alike, go by testpmd through two links into colo, and come out as one.
fn through_a_peer(what: &str, ours: [&str; 2], theirs: [&str; 2]) -> Result<()> {
    const FRAMES: usize = 20_000;
    let folder = tempfile::tempdir()?;
    let place = |text: &str| text.replace("DIR", &folder.path().display().to_string());
    let sent = datagrams(FRAMES, 1_400)?;
    write_pcap(&folder.path().join("in.pcap"), &sent)?;
    let out = folder.path().join("out.pcap");
    let colo = Colo::start(compare(
        &place(ours[0]),
        &place(ours[1]),
        &place("dpdk:net_pcap0,tx_pcap=DIR/out.pcap"),
    ))?;
    colo.wait_for_log("out is up", STEP)?;
    // Forwarded in pairs: 0 to 1, 2 to 3.
    let capture = |number: u8| place(&format!("net_pcap{number},rx_pcap=DIR/in.pcap"));
    let mut peer =
        Testpmd::start(folder.path(), &[capture(0), place(theirs[0]), capture(1), place(theirs[1])])?;
    for input in ["primary_in is up", "secondary_in is up"] {
        let log = || std::fs::read_to_string(folder.path().join("testpmd.log")).unwrap_or_default();
        colo.wait_for_log(input, STEP).with_context(|| format!("testpmd: {}", tail(&log())))?;
    }
    let began = Instant::now();
    peer.tell("set fwd io retry\nset burst tx delay 10 retry 1000000\nstart\n")?;
    until("all frames", STEP, || {
        ensure!(frames_in(&out) + 200 >= FRAMES, "{} of {FRAMES} frames", frames_in(&out));
        Ok(())
    })?;
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let summary = expect_equal(&colo.terminate(STEP)?)?;
    drop(peer);
    assert_eq!(number(&summary, "/released_by/matched")?, u64::try_from(FRAMES)?, "{summary:#}");
    let bytes: Vec<_> = sent.into_iter().map(|frame| frame.bytes).collect();
    ensure!(read_pcap(&out)? == bytes, "what came out is not what went in");
    say(&format!("{what}: {FRAMES} pairs released in {} ms", took.as_millis()))
}

#[test]
fn vhost_with_a_virtio_user_peer() -> Result<()> {
    through_a_peer(
        "net_vhost",
        ["dpdk:net_vhost0,iface=DIR/p.sock", "dpdk:net_vhost1,iface=DIR/s.sock"],
        ["net_virtio_user0,path=DIR/p.sock", "net_virtio_user1,path=DIR/s.sock"],
    )
}

#[test]
fn memif_with_a_peer() -> Result<()> {
    let [ours, theirs] = ["server", "client"].map(|role| {
        [0, 1].map(|number| {
            format!("net_memif{number},role={role},id={number},socket=DIR/memif.sock,socket-abstract=no")
        })
    });
    let ours = ours.map(|device| format!("dpdk:{device}"));
    through_a_peer("net_memif", [&ours[0], &ours[1]], [&theirs[0], &theirs[1]])
}
