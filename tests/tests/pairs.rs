//! Several pairs of VMs in one `colo compare`: each is compared as if it were alone, and none can hinder another.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use colo_tests::metrics::{Scrape, http_get};
use colo_tests::netns::join;
use colo_tests::process::{Colo, Finished, free_tcp_address, tail};
use colo_tests::qemu_link::{Framing, Link, Place};
use colo_tests::traffic::{Flow, Shape, identify};
use colo_tests::wait::until;
use etherparse::PacketBuilder;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Bound of a step; nothing here is a matter of time.
const LIMIT: Duration = Duration::from_mins(1);
/// Nobody is late on purpose, and a slow machine must not look like it.
const PATIENT: &str = "compare_timeout = 60000\nmax_checkpoint_interval = \"off\"\nmax_held_frames = 4096\n";
/// Primary frames on the way at most: less than half of what may be held.
const WINDOW: usize = 1_024;

/// An engine with pairs, each listening.
struct Engine {
    colo: Colo,
    metrics: SocketAddr,
    directory: TempDir,
}

/// The far ends of one pair's links.
struct Ends {
    primary: Link,
    secondary: Link,
    out: Link,
}

fn config(directory: &Path, metrics: SocketAddr, common: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = format!(
        "metrics = \"{metrics}\"\ncheckpoint = \"none\"\ncheckpoint_ms = \"never\"\n{PATIENT}{common}"
    );
    for (name, own) in pairs {
        let at = directory.join(name);
        let at = at.display();
        write!(
            text,
            "[[pair]]\nname = \"{name}\"\nprimary_in = \"unix:{at}-p,listen\"\nsecondary_in = \"unix:{at}-s,listen\"\n\
             outdev = \"unix:{at}-o,listen\"\n{own}"
        )
        .expect("a String takes everything");
    }
    text
}

impl Engine {
    fn start(common: &str, pairs: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let metrics = free_tcp_address()?;
        let file = directory.path().join("colo.toml");
        std::fs::write(&file, config(directory.path(), metrics, common, pairs))?;
        let colo = Colo::start(["compare", "--json", "--config", &file.display().to_string()])?;
        Ok(Self { colo, metrics, directory })
    }

    fn place(&self, pair: &str, end: &str) -> Place {
        Place::unix(self.directory.path(), &format!("{pair}-{end}"))
    }

    fn ends(&self, pair: &str) -> Result<Ends> {
        let link = |end| self.place(pair, end).connect(Framing::Plain);
        let ends = Ends { primary: link("p")?, secondary: link("s")?, out: link("o")? };
        let up = |scrape: &Scrape| {
            let label = format!("pair=\"{pair}\"");
            scrape.sum("colo_link_up", &[&label]).is_ok_and(|up| up >= 3)
        };
        Scrape::wait(self.metrics, LIMIT, up).with_context(|| self.words())?;
        Ok(ends)
    }

    /// A pair's number, of all label values.
    fn count(&self, name: &str, pair: &str) -> Result<u64> {
        Scrape::get(self.metrics)?.sum(name, &[&format!("pair=\"{pair}\"")])
    }

    fn wait(&self, name: &str, pair: &str, so: impl Fn(u64) -> bool) -> Result<()> {
        let label = format!("pair=\"{pair}\"");
        let done = |scrape: &Scrape| scrape.sum(name, &[&label]).is_ok_and(&so);
        Scrape::wait(self.metrics, LIMIT, done)
            .with_context(|| format!("{name} of {pair}; {}", self.words()))?;
        Ok(())
    }

    fn words(&self) -> String {
        format!("stderr: {}", tail(&self.colo.stderr_so_far()))
    }

    fn end(self) -> Result<Value> {
        let finished: Finished = self.colo.terminate(LIMIT)?;
        finished.expect_code(0)?;
        serde_json::from_str(&finished.stdout).with_context(|| format!("no JSON: {}", tail(&finished.stdout)))
    }
}

/// Plays a shape on a pair. Every primary frame must come out once, unchanged, in the order of its flow.
fn play(shape: &Shape, ends: &mut Ends) -> Result<u64> {
    let total = shape.flows * shape.frames_per_flow;
    let got = AtomicUsize::new(0);
    let Ends { primary, secondary, out } = ends;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(shape, primary, secondary, &got));
        let checked = check(shape, total, out, &got);
        // A sender that still waits goes on, and finds nobody.
        got.store(total, Ordering::Release);
        let sent = join(sending);
        checked?;
        sent
    })
}

fn send(shape: &Shape, primary: &mut Link, secondary: &mut Link, got: &AtomicUsize) -> Result<u64> {
    let mut flows: Vec<_> = (0..shape.flows).map(|index| Flow::new(shape, index)).collect();
    let deadline = Instant::now() + LIMIT;
    let (mut sent, mut secondary_frames) = (0, 0);
    for _ in 0..shape.frames_per_flow {
        for flows in flows.chunks_mut(64) {
            while sent > got.load(Ordering::Acquire) + WINDOW {
                ensure!(Instant::now() < deadline, "{sent} were sent, too few came out");
                std::thread::sleep(Duration::from_micros(200));
            }
            let steps = flows.iter_mut().map(|flow| flow.step()?.context("a flow ended early"));
            let steps = steps.collect::<Result<Vec<_>>>()?;
            sent += steps.len();
            primary.send(steps.iter().map(|step| step.primary.as_slice()))?;
            let theirs: Vec<_> = steps.iter().flat_map(|step| &step.secondary).map(Vec::as_slice).collect();
            secondary_frames += theirs.len();
            secondary.send(theirs)?;
        }
    }
    Ok(u64::try_from(secondary_frames)?)
}

fn check(shape: &Shape, total: usize, out: &mut Link, got: &AtomicUsize) -> Result<()> {
    let mut flows: HashMap<usize, Flow> = HashMap::new();
    let deadline = Instant::now() + LIMIT;
    for count in 0..total {
        let Some(frame) = out.receive(deadline.saturating_duration_since(Instant::now()))? else {
            bail!("{count} of {total} frames came out");
        };
        let (index, place) = identify(&frame)?;
        let flow = flows.entry(index).or_insert_with(|| Flow::new(shape, index));
        let due = flow.step()?.with_context(|| format!("flow {index}: frame {place} is one too many"))?;
        ensure!(
            due.primary == frame,
            "flow {index}: frame {place} came out, due was {:?}",
            identify(&due.primary)?
        );
        got.store(count + 1, Ordering::Release);
    }
    out.expect_silence(Duration::from_millis(100))
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64).udp(53, port);
    step.write(&mut frame, payload).expect("a frame");
    frame
}

/// Sends what only one side has, over many flows and as fast as it is taken, until told to stop. Returns bytes taken.
fn flood(place: &Path, mark: u8, stop: &AtomicBool) -> Result<usize> {
    let mut stream = until("the port is there", LIMIT, || Ok(UnixStream::connect(place)?))?;
    stream.set_write_timeout(Some(Duration::from_millis(20)))?;
    let mut bytes = Vec::new();
    for port in 0..2_000_u16 {
        Framing::Plain.encode(&datagram(1 + port, &[mark; 40]), &mut bytes)?;
    }
    let (mut at, mut taken) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        match stream.write(&bytes[at..]) {
            Ok(written) => {
                at = (at + written) % bytes.len();
                taken += written;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// All of a pair's frames left because both sides agreed, and nobody was asked for anything.
fn expect_calm(engine: &Engine, pair: &str, total: usize, secondary: u64) -> Result<()> {
    let total = u64::try_from(total)?;
    engine.wait("colo_frames_released_total", pair, |released| released == total)?;
    engine.wait("colo_frames_dropped_total", pair, |dropped| dropped == secondary)?;
    for (name, count) in [
        ("colo_frames_received_total", total + secondary),
        ("colo_held_frames", 0),
        ("colo_checkpoints_requested_total", 0),
        ("colo_checkpoints_absorbed_total", 0),
        ("colo_reading_stops_total", 0),
        ("colo_invariant_violations_total", 0),
    ] {
        assert_eq!(engine.count(name, pair)?, count, "{name} of {pair}");
    }
    Ok(())
}

fn two_pairs(common: &str) -> Result<()> {
    let engine = Engine::start(common, &[("web", ""), ("db", "reorder_grace = 7\n")])?;
    let mut ends = [engine.ends("web")?, engine.ends("db")?];
    assert_eq!(http_get(engine.metrics, "/readyz")?.trim(), "ready");
    // The same addresses and ports in both, with other content: a frame in the wrong pair is a mismatch.
    let shapes = [11, 12].map(|seed| Shape { flows: 200, frames_per_flow: 50, seed });
    let secondary = std::thread::scope(|scope| {
        let playing: Vec<_> = shapes
            .iter()
            .zip(&mut ends)
            .map(|(shape, ends)| scope.spawn(move || play(shape, ends)))
            .collect();
        playing.into_iter().map(join).collect::<Result<Vec<_>>>()
    });
    let secondary = secondary.with_context(|| engine.words())?;
    for (pair, secondary) in ["web", "db"].into_iter().zip(secondary) {
        expect_calm(&engine, pair, 10_000, secondary)?;
        ensure!(engine.count("colo_connections", pair)? == 200, "{pair} has the other's connections");
    }
    let status: Value = serde_json::from_str(&http_get(engine.metrics, "/status")?)?;
    let names: Vec<_> =
        status["pairs"].as_array().context("pairs")?.iter().map(|pair| &pair["pair"]).collect();
    assert_eq!(names, ["web", "db"]);
    let summary = engine.end()?;
    for pair in ["web", "db"] {
        assert_eq!(summary["by_pair"][pair]["released"], 10_000, "{summary}");
    }
    Ok(())
}

#[test]
fn two_pairs_are_compared_apart_by_one_thread() -> Result<()> {
    two_pairs("workers = 1\n")
}

#[test]
fn two_pairs_are_compared_apart_by_two_threads() -> Result<()> {
    two_pairs("workers = 2\npoll = \"busy\"\n")
}

#[test]
fn two_pairs_are_compared_apart_in_a_pipeline() -> Result<()> {
    two_pairs("workers = 2\nrun_mode = \"pipeline\"\n")
}

const NARROW: &str =
    "max_held_frames = 1024\nmax_connections = 256\nmax_queue_size = 64\ncompare_timeout = 20\n";

/// Plays on pair `good` while both sides of pair `bad` are flooded with frames that differ, from when `bad` is as told.
fn play_beside_a_flood(engine: &Engine, begun: (&str, u64)) -> Result<()> {
    let mut good = engine.ends("good")?;
    let stop = AtomicBool::new(false);
    let at = |end: &str| engine.directory.path().join(format!("bad-{end}"));
    let shape = Shape { flows: 200, frames_per_flow: 50, seed: 13 };
    let (stop, paths) = (&stop, [at("p"), at("s")]);
    let played = std::thread::scope(|scope| {
        let [primary, secondary] = &paths;
        let floods =
            [scope.spawn(move || flood(primary, 1, stop)), scope.spawn(move || flood(secondary, 2, stop))];
        let begun = engine.wait(begun.0, "bad", |count| count >= begun.1);
        let played = begun.and_then(|()| play(&shape, &mut good));
        stop.store(true, Ordering::Release);
        let taken = floods.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        ensure!(taken.iter().all(|bytes| *bytes > 20_000), "{taken:?}");
        played
    });
    expect_calm(engine, "good", 10_000, played.with_context(|| engine.words())?)?;
    ensure!(engine.count("colo_invariant_violations_total", "bad")? == 0);
    Ok(())
}

#[test]
fn a_flooded_pair_takes_nothing_from_the_other() -> Result<()> {
    for common in ["workers = 1\n", "workers = 2\n"] {
        let engine = Engine::start(common, &[("bad", NARROW), ("good", "")])?;
        let _out = engine.place("bad", "o").connect(Framing::Plain)?;
        // Full, and waiting for a checkpoint that never comes.
        play_beside_a_flood(&engine, ("colo_reading_stops_total", 1))?;
        ensure!(engine.count("colo_held_frames", "bad")? >= 1_000, "nothing was held");
        ensure!(engine.count("colo_checkpoints_requested_total", "bad")? == 1, "it was asked for once");
        ensure!(engine.count("colo_checkpoints_completed_total", "bad")? == 0);
        engine.end()?;
    }
    Ok(())
}

#[test]
fn boundaries_of_a_flooded_pair_take_nothing_from_the_other() -> Result<()> {
    let own = format!("{NARROW}checkpoint_ms = 0\nmin_checkpoint_interval = 0\ncheckpoint_delay = 0\n");
    let engine = Engine::start("workers = 1\n", &[("bad", &own), ("good", "")])?;
    let out = engine.place("bad", "o").connect(Framing::Plain)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody takes what the checkpoints let out.
        let reading = scope.spawn(|| {
            let mut out = out;
            let mut frames = 0_usize;
            while !done.load(Ordering::Acquire) {
                frames += usize::from(out.receive(Duration::from_millis(20))?.is_some());
            }
            Ok(frames)
        });
        let played = play_beside_a_flood(&engine, ("colo_checkpoints_completed_total", 3));
        done.store(true, Ordering::Release);
        let frames = join(reading)?;
        ensure!(frames > 1_000, "{frames} left the flooded pair");
        played
    })?;
    engine.end()?;
    Ok(())
}

#[test]
fn a_pair_without_links_or_readers_does_not_hinder_the_other() -> Result<()> {
    let gone = "on_secondary_loss = \"pass\"\n";
    let pairs = [("gone", gone), ("stuck", "mode = \"off\"\n"), ("good", "")];
    let engine = Engine::start("workers = 1\n", &pairs)?;
    let mut good = engine.ends("good")?;
    // One pair's QEMUs are not there, the other's out is never read: all that leaves stays in the engine.
    let _unread = engine.place("stuck", "o").connect(Framing::Plain)?;
    let stop = AtomicBool::new(false);
    let path = engine.directory.path().join("stuck-p");
    let shape = Shape { flows: 200, frames_per_flow: 50, seed: 14 };
    let played = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&path, 3, &stop));
        let full = engine.wait("colo_reading_stops_total", "stuck", |stops| stops > 0);
        let played = full.and_then(|()| play(&shape, &mut good));
        stop.store(true, Ordering::Release);
        join(flooding)?;
        played
    });
    expect_calm(&engine, "good", 10_000, played.with_context(|| engine.words())?)?;
    let ready = http_get(engine.metrics, "/readyz").expect_err("not all links are up").to_string();
    ensure!(ready.contains("503"), "{ready}");
    // At the end the one that is stuck is waited for, within bounds, and the other's are out long since.
    let summary = engine.end()?;
    assert_eq!(summary["by_pair"]["good"]["released"], 10_000);
    assert_eq!(summary["by_pair"]["gone"]["released"], 0);
    Ok(())
}

#[test]
fn a_commit_is_one_pairs() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let notifier = Place::unix(directory.path(), "notify");
    let listener = notifier.listen()?;
    let own = format!("checkpoint = \"notify:{}\"\n", notifier.address());
    let engine = Engine::start("workers = 1\n", &[("web", &own), ("db", "")])?;
    let mut notify = listener.accept(Framing::Plain)?;
    let (mut web, mut db) = (engine.ends("web")?, engine.ends("db")?);
    for ends in [&mut web, &mut db] {
        ends.primary.send([datagram(1, b"one").as_slice()])?;
        ends.secondary.send([datagram(1, b"two").as_slice()])?;
    }
    let request = b"\0\0\0\x0dDO_CHECKPOINT";
    assert_eq!(notify.receive_raw(request.len(), LIMIT)?, request);
    engine.wait("colo_checkpoints_requested_total", "db", |requested| requested == 1)?;
    notify.send_raw(&Framing::Plain.message("COLO_CHECKPOINT")?)?;
    assert_eq!(web.out.receive_all(1, LIMIT)?, [datagram(1, b"one")]);
    engine.wait("colo_checkpoints_completed_total", "web", |completed| completed == 1)?;
    // A core tells what it holds by its own clock.
    engine.wait("colo_held_frames", "web", |held| held == 0)?;
    assert_eq!(
        (engine.count("colo_checkpoints_completed_total", "db")?, engine.count("colo_held_frames", "db")?),
        (0, 2)
    );
    db.out.expect_silence(Duration::from_millis(200))?;
    engine.end()?;
    Ok(())
}

#[test]
fn a_reload_changes_each_pair_and_adds_none() -> Result<()> {
    let engine = Engine::start("workers = 1\n", &[("web", ""), ("db", "")])?;
    let (mut web, mut db) = (engine.ends("web")?, engine.ends("db")?);
    for ends in [&mut web, &mut db] {
        ends.primary.send([datagram(1, b"held").as_slice()])?;
        ends.out.expect_silence(Duration::from_millis(100)).context("nothing leaves uncompared")?;
    }
    let file = engine.directory.path().join("colo.toml");
    let write = |pairs: &[(&str, &str)]| {
        std::fs::write(&file, config(engine.directory.path(), engine.metrics, "workers = 1\n", pairs))
    };
    write(&[("web", ""), ("db", "mode = \"off\"\n"), ("new", "")])?;
    engine.colo.signal(Signal::HUP)?;
    let refused = "nothing is changed: the file has the pairs web, db, new, the engine web, db; restart to add, remove or move";
    engine.colo.wait_for_log(refused, LIMIT)?;
    db.out.expect_silence(Duration::from_millis(100)).context("a refusal changes nothing")?;
    write(&[("web", ""), ("db", "mode = \"off\"\nmax_connections = 64\n")])?;
    engine.colo.signal(Signal::HUP)?;
    let line = engine.colo.wait_for_log("restart to change max_connections", LIMIT)?;
    ensure!(line.contains("db") && !line.contains("web"), "{line}");
    assert_eq!(db.out.receive_all(1, LIMIT)?, [datagram(1, b"held")]);
    web.out.expect_silence(Duration::from_millis(100)).context("the other pair's mode is as it was")?;
    write(&[("web", "[[pair.rule]]\nprotocol = \"udp\"\naction = \"pass\"\n"), ("db", "mode = \"off\"\n")])?;
    engine.colo.signal(Signal::HUP)?;
    assert_eq!(web.out.receive_all(1, LIMIT)?, [datagram(1, b"held")]);
    assert_eq!((engine.count("colo_rules", "web")?, engine.count("colo_rules", "db")?), (1, 0));
    engine.end()?;
    Ok(())
}
