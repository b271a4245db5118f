//! Peers that break the protocol, vanish and come back, and operators who mistype: one clear sentence each, and everybody
//! else goes on.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_tests::metrics::Scrape;
use colo_tests::process::{Colo, free_tcp_address};
use colo_tests::qemu_link::Framing;
use colo_tests::rig::{Books, Checkpoint, Dial, Rig, STEP_LIMIT, Setup, Transport};
use colo_tests::traffic::{Flow, Shape};
use rustix::process::Signal;

/// A short connection.
const SHAPE: Shape = Shape { flows: 64, frames_per_flow: 6, seed: 3 };

fn setup(framing: Framing, dial: Dial) -> Setup<'static> {
    Setup {
        transport: Transport::Unix,
        dial,
        framing,
        checkpoint: Checkpoint::None,
        arguments: "--workers 1 --compare-timeout 60000",
    }
}

/// A new connection through all three links: the proof that the engine works. Returns its number of primary frames.
fn exchange(rig: &mut Rig, flow: usize) -> Result<u64> {
    let mut expected = Vec::new();
    let mut connection = Flow::new(&SHAPE, flow);
    while let Some(step) = connection.step()? {
        rig.primary.send([step.primary.as_slice()])?;
        rig.secondary.send(step.secondary.iter().map(Vec::as_slice))?;
        expected.push(step.primary);
    }
    let came = rig.out.receive_all(expected.len(), STEP_LIMIT);
    let came = came.with_context(|| format!("flow {flow}; stderr: {}", rig.colo.stderr_so_far()))?;
    ensure!(came == expected, "flow {flow} came out changed");
    Ok(u64::try_from(expected.len())?)
}

/// Peers thrown out so far.
fn refusals(rig: &Rig) -> Result<f64> {
    let page = Scrape::get(rig.metrics)?;
    let counters = page.samples.iter().filter(|sample| sample.name == "colo_peers_refused_total");
    Ok(counters.fold(0.0, |sum, sample| sum + sample.value))
}

#[test]
fn an_impossible_length_costs_one_peer_its_link() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, Dial::EngineListens))?;
    let mut total = exchange(&mut rig, 0)?;
    for (flow, length) in [(1, 0), (2, 69_633), (3, u32::MAX)] {
        let before = refusals(&rig)?;
        rig.primary.send_raw(&length.to_be_bytes())?;
        rig.primary.expect_closed(STEP_LIMIT).with_context(|| format!("length {length}"))?;
        let line = rig.colo.wait_for_log(&format!("a frame length of {length}"), STEP_LIMIT)?;
        ensure!(line.contains("69632"), "the log should say what is legal: {line}");
        let after = refusals(&rig)?;
        ensure!(after > before, "a refused peer must be counted; no counter says so");
        rig.primary = rig.new_primary()?;
        total += exchange(&mut rig, flow)?;
    }
    rig.secondary.send_raw(&[0xff; 4])?;
    rig.secondary.expect_closed(STEP_LIMIT)?;
    rig.secondary = rig.new_secondary()?;
    total += exchange(&mut rig, 4)?;
    let books = rig.settled(|books| books.released == total && books.held == 0)?;
    rig.stop(&books)?;
    Ok(())
}

#[test]
fn an_impossible_virtio_header_closes_the_link() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Vnet, Dial::EngineListens))?;
    exchange(&mut rig, 0)?;
    // A plain peer on a virtio link is the usual mistake: 60 bytes of frame, no header length.
    rig.secondary.send_raw(&[&60_u32.to_be_bytes()[..], &[0x52; 60]].concat())?;
    rig.secondary.expect_closed(STEP_LIMIT)?;
    rig.colo.wait_for_log("vnet", STEP_LIMIT).context("the log should name the option")?;
    rig.secondary = rig.new_secondary()?;
    exchange(&mut rig, 1)?;
    Ok(())
}

#[test]
fn half_a_frame_is_no_frame() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, Dial::EngineListens))?;
    let mut total = exchange(&mut rig, 0)?;
    for (flow, cut) in [(1, 1), (2, 3), (3, 4), (4, 40)] {
        let mut bytes = Vec::new();
        let step = Flow::new(&SHAPE, 40 + flow).step()?.context("a first frame")?;
        Framing::Plain.encode(&step.primary, &mut bytes)?;
        rig.primary.send_raw(&bytes[..cut])?;
        rig.secondary.send_raw(&bytes[..cut])?;
        rig.primary = rig.new_primary()?;
        rig.secondary = rig.new_secondary()?;
        total += exchange(&mut rig, flow)?;
    }
    let complete = |books: &Books| books.released == total && books.received_primary == total;
    let books = rig.settled(|books| complete(books) && books.held == 0)?;
    rig.stop(&books)?;
    Ok(())
}

#[test]
fn peers_that_the_engine_calls_are_called_again() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, Dial::EngineConnects))?;
    let mut total = exchange(&mut rig, 0)?;
    // Each field is replaced only when the new link is there; the old one must go first.
    rig.primary.close()?;
    rig.primary = rig.new_primary()?;
    total += exchange(&mut rig, 1)?;
    rig.secondary.close()?;
    rig.secondary = rig.new_secondary()?;
    total += exchange(&mut rig, 2)?;
    rig.out.close()?;
    rig.out = rig.new_out()?;
    total += exchange(&mut rig, 3)?;
    let books = rig.settled(|books| books.released == total && books.held == 0)?;
    rig.stop(&books)?;
    Ok(())
}

#[test]
fn frames_wait_for_an_output_that_is_away() -> Result<()> {
    let mut rig = Rig::start(&setup(Framing::Plain, Dial::EngineListens))?;
    exchange(&mut rig, 0)?;
    rig.out.close()?;
    let mut expected = Vec::new();
    let mut connection = Flow::new(&SHAPE, 1);
    while let Some(step) = connection.step()? {
        rig.primary.send([step.primary.as_slice()])?;
        rig.secondary.send(step.secondary.iter().map(Vec::as_slice))?;
        expected.push(step.primary);
    }
    // Time to find that nobody is there.
    std::thread::sleep(Duration::from_millis(200));
    rig.out = rig.new_out()?;
    let came = rig.out.receive_all(expected.len(), STEP_LIMIT).context("after the output came back")?;
    ensure!(came == expected, "other frames than were sent");
    rig.out.expect_silence(Duration::from_millis(200)).context("twice")?;
    Ok(())
}

/// One sentence on stderr that has `words`, exit code 2, no panic.
fn expect_complaint(arguments: &[&str], words: &[&str]) -> Result<()> {
    let finished = Colo::run(arguments, STEP_LIMIT).with_context(|| format!("colo {arguments:?}"))?;
    let said = &finished.stderr;
    finished.expect_code(2).with_context(|| format!("colo {arguments:?}"))?;
    for word in words {
        ensure!(said.contains(word), "colo {arguments:?} does not name {word:?}: {said}");
    }
    for crash in ["panicked", "backtrace", "RUST_BACKTRACE"] {
        ensure!(!said.contains(crash), "colo {arguments:?} crashed: {said}");
    }
    let lines = said.lines().filter(|line| !line.trim().is_empty()).count();
    ensure!(lines == 1, "colo {arguments:?} says {lines} lines: {said}");
    ensure!(finished.stdout.is_empty(), "colo {arguments:?} answers on stdout: {}", finished.stdout);
    Ok(())
}

/// `colo compare` with sound ports in `directory` and these arguments besides.
fn complaint_of_compare(directory: &Path, arguments: &[&str], words: &[&str]) -> Result<()> {
    let port = |name: &str| format!("unix:{},listen", directory.join(name).display());
    let (primary, secondary, out) = (port("p"), port("s"), port("o"));
    let mut all = vec!["compare", "--primary-in", &primary, "--secondary-in", &secondary, "--out", &out];
    all.extend(["--checkpoint", "none"]);
    if !arguments.contains(&"--metrics") {
        all.extend(["--metrics", "off"]);
    }
    // Later flags win nowhere: what a case gives replaces what stands here.
    for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
        if let Some(at) = all.iter().position(|own| own == flag) {
            all.drain(at..at + 2);
        }
    }
    all.extend(arguments);
    expect_complaint(&all, words)
}

#[test]
fn a_wrong_setting_is_one_sentence() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    complaint_of_compare(here, &["--primary-in", "socket:/nowhere"], &["socket:/nowhere", "unix:"])?;
    complaint_of_compare(here, &["--primary-in", "tcp:127.0.0.1:99999"], &["99999"])?;
    complaint_of_compare(here, &["--out", "unix:"], &["unix:"])?;
    complaint_of_compare(here, &["--set", "compare_timeut=5"], &["compare_timeut", "compare_timeout"])?;
    complaint_of_compare(here, &["--set", "compare_timeout=soon"], &["compare_timeout", "soon"])?;
    complaint_of_compare(here, &["--set", "compare_timeout=-3"], &["compare_timeout", "-3"])?;
    complaint_of_compare(here, &["--checkpoint", "pigeon"], &["pigeon", "notify:"])?;
    complaint_of_compare(here, &["--metrics", "here"], &["here"])?;
    let headers = format!("unix:{},listen,vnet", here.join("headers").display());
    complaint_of_compare(here, &["--primary-in", &headers], &["virtio-net headers", "--out", ",vnet"])?;

    let missing = here.join("absent.toml").display().to_string();
    complaint_of_compare(here, &["--config", &missing], &["absent.toml"])?;
    let config = here.join("colo.toml");
    let config_name = config.display().to_string();
    for (text, words) in [
        ("max_queue_sise = 5\n", &["colo.toml", "max_queue_sise", "max_queue_size"][..]),
        ("compare_timeout = = 4\n", &["colo.toml"]),
        ("compare_timeout = \"long\"\n", &["colo.toml", "compare_timeout"]),
    ] {
        std::fs::write(&config, text)?;
        complaint_of_compare(here, &["--config", &config_name], words)?;
    }
    Ok(())
}

#[test]
fn a_place_that_is_taken_is_one_sentence() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    complaint_of_compare(here, &["--metrics", &address], &[&address])?;
    let listening = format!("tcp:{address},listen");
    complaint_of_compare(here, &["--secondary-in", &listening], &[&address])?;
    complaint_of_compare(here, &["--out", "unix:/no/such/directory/out,listen"], &["/no/such/directory"])?;
    Ok(())
}

#[test]
fn a_wrong_capture_is_one_sentence() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let text = directory.path().join("notes.txt").display().to_string();
    std::fs::write(&text, "not a capture, but long enough to have the header of one")?;
    expect_complaint(&["replay", "--primary", &text, "--secondary", &text], &["notes.txt"])?;
    let absent = directory.path().join("absent.pcap").display().to_string();
    expect_complaint(&["replay", "--primary", &absent, "--secondary", &absent], &["absent.pcap"])
}

#[test]
fn an_address_where_nobody_is_gets_said() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let ports = [port("absent"), format!("{},listen", port("s")), format!("{},listen", port("o"))];
    let [primary, secondary, out] = ports.each_ref().map(String::as_str);
    let flags = ["--primary-in", primary, "--secondary-in", secondary, "--out", out];
    let others = ["--checkpoint", "none", "--metrics", "off"];
    let colo = Colo::start(["compare"].into_iter().chain(flags).chain(others))?;
    let line = colo.wait_for_log("primary_in: cannot connect to", STEP_LIMIT)?;
    ensure!(line.contains("absent"), "the log should name the address: {line}");
    colo.terminate(STEP_LIMIT)?.expect_code(0)
}

#[test]
fn signals_end_an_engine_that_nobody_called() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir()?;
        let metrics = free_tcp_address()?;
        let port = |name: &str| format!("unix:{},listen", directory.path().join(name).display());
        let (primary, secondary, out) = (port("p"), port("s"), port("o"));
        let colo = Colo::start([
            "compare",
            "--json",
            "--primary-in",
            &primary,
            "--secondary-in",
            &secondary,
            "--out",
            &out,
            "--checkpoint",
            "none",
            "--metrics",
            &metrics.to_string(),
        ])?;
        let page = Scrape::wait(metrics, STEP_LIMIT, |_| true)?;
        assert_eq!(Books::read(&page)?.released, 0);
        colo.signal(signal)?;
        let finished = colo.finish(STEP_LIMIT)?;
        finished.expect_code(0)?;
        serde_json::from_str::<serde_json::Value>(&finished.stdout).context("the summary")?;
    }
    Ok(())
}
