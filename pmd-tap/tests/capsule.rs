//! The published `capsule`, unmodified, on our binding of DPDK: its own runtime, mempools, queues and pipelines forward
//! from one device to another, through a capture in and a capture out. Not a test of our port. One test in this file, as a
//! process can start DPDK once.
#![cfg(feature = "dpdk")]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;

use capsule::batch::{Batch, Poll};
use capsule::config::RuntimeConfig;
use capsule::{PortQueue, Runtime};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// Frames of every length from a bare ACK's to the longest that one mbuf has room for.
fn frames() -> Vec<Vec<u8>> {
    let frame = |len: usize| (0..len).map(|at| u8::try_from((at * 7 + len) % 251).unwrap()).collect();
    (60..2_000).step_by(7).map(frame).collect()
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        writer.write_packet(&PcapPacket::new(std::time::Duration::ZERO, len, frame)).unwrap();
    }
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// A core number beyond the CPUs stands for a queue, so that this runs on one CPU too.
fn config(folder: &Path) -> RuntimeConfig {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let text = format!(
        r#"
            app_name = "colo-capsule"
            master_core = 0
            duration = 1
            dpdk_args = "--no-huge -m 128 --no-shconf --no-telemetry --no-pci --log-level=*:warning"

            [mempool]
                capacity = 4095
                cache_size = 128

            [[ports]]
                name = "in"
                device = "net_pcap0"
                args = "rx_pcap={}"
                cores = [200]

            [[ports]]
                name = "out"
                device = "net_pcap1"
                args = "rx_pcap={},tx_pcap={}"
                cores = [200]
        "#,
        path("in.pcap"),
        path("none.pcap"),
        path("out.pcap"),
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn capsule_forwards_on_our_binding() {
    let folder = tempfile::tempdir().unwrap();
    let sent = frames();
    write(&folder.path().join("in.pcap"), &sent);
    write(&folder.path().join("none.pcap"), &[]);
    let mut runtime = Runtime::build(config(folder.path())).unwrap();
    runtime
        .add_pipeline_to_core(200, |mut ports: std::collections::HashMap<String, PortQueue>| {
            let (from, to) = (ports.remove("in").unwrap(), ports.remove("out").unwrap());
            Poll::new(from).send(to)
        })
        .unwrap();
    runtime.execute().unwrap();
    drop(runtime);
    assert_eq!(read(&folder.path().join("out.pcap")), sent);
}
