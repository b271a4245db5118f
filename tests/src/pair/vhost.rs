//! A guest of a real QEMU with vhost-user network cards: `colo` is their back end, by DPDK's `net_vhost`.
//!
//! `colo compare` carries one direction, so what the client sends comes in by a card of another kind. What the guest sends,
//! its bridge sends out of both vhost-user cards, as two equal guests would. It is one guest, and no checkpoints are taken.
//!
//! ```text
//! client -- rx (TAP) ------------------------> eth2 -- guest -- br0
//!    |                                                           |
//!    |                   +-- primary_in <-- net_vhost0 <-- eth0 -+
//!    +-- out (TAP) <-- colo                                      |
//!                        +-- secondary_in <-- net_vhost1 <-- eth1 +
//! ```

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::cache::Cache;
use super::guests::{BOOT_LIMIT, BOOT_WORDS, STEP_LIMIT};
use super::initramfs::{self, Cards};
use super::{Client, alone};
use crate::netns::Namespace;
use crate::process::{Colo, Finished, tail};
use crate::wait;

/// How the client reaches the guest: by one device there, by another back. Both addresses are known from the start.
const NETWORK: [&str; 7] = [
    "link set lo up",
    "tuntap add dev rx mode tap",
    "link set rx addrgenmode none up",
    "link set out addrgenmode none address 52:54:00:77:00:01 up",
    "addr add 10.77.0.1/24 dev out",
    "route add 10.77.0.2/32 dev rx src 10.77.0.1",
    "neigh add 10.77.0.2 lladdr 52:54:00:77:00:02 dev rx",
];

/// The guest, and `colo` beside it.
pub struct VhostGuest {
    qemu: Child,
    colo: Option<Colo>,
    namespace: Namespace,
    // Goes last: the sockets and logs are in it.
    folder: TempDir,
}

impl VhostGuest {
    /// Starts `colo` and then the guest, whose pages are those of `seed`, does `work`, and ends `colo`. Wants `colo` built
    /// with its feature `dpdk`.
    ///
    /// # Errors
    /// Whatever failed, with the last words of everybody involved.
    pub fn run<T>(seed: u64, work: impl FnOnce(Client<'_>) -> Result<T>) -> Result<(T, Finished)> {
        let _alone = alone();
        let mut guest = Self::start(seed)?;
        let done = guest.boot().and_then(|()| work(Client::new(&guest.namespace)));
        let done = done.with_context(|| guest.last_words())?;
        let colo = guest.colo.take().context("colo was started")?;
        Ok((done, colo.terminate(STEP_LIMIT)?))
    }

    fn start(seed: u64) -> Result<Self> {
        let cache = Cache::get()?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("initramfs"), initramfs::archive(&cache, seed, Cards::ThreeVirtio)?)?;
        let namespace = Namespace::new()?;
        let [primary, secondary] = ["p", "s"].map(|name| path(&format!("{name}.sock")).display().to_string());
        let line = format!(
            "compare --json --primary-in dpdk:net_vhost0,iface={primary} --secondary-in dpdk:net_vhost1,iface={secondary} \
             --out dpdk:net_tap0,iface=out --checkpoint none --metrics off --set compare_timeout=30000"
        );
        let colo = namespace.inside(|| Colo::start(line.split_whitespace()))?;
        colo.wait_for_log("out is up", STEP_LIMIT)?;
        NETWORK.into_iter().try_for_each(|arguments| namespace.ip(arguments))?;
        // Frames of the guest come in where no frame to it goes out.
        namespace.inside(|| {
            let filters = ["all", "out"].map(|name| format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
            Ok(filters.into_iter().try_for_each(|path| fs::write(path, "0"))?)
        })?;
        let log = File::create(path("qemu.log"))?;
        let mut command = cache.qemu_in(&namespace, &[]);
        command.args(["-append", BOOT_WORDS]).arg("-initrd").arg(path("initramfs"));
        command.arg("-serial").arg(format!("file:{}", path("console.log").display()));
        let cards = arguments(&primary, &secondary);
        command.args(cards.split_whitespace()).stdout(log.try_clone()?).stderr(log);
        let qemu = command.spawn().context("cannot run `nsenter` (Debian package util-linux)")?;
        Ok(Self { qemu, colo: Some(colo), namespace, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits for the guest and for both of its cards.
    fn boot(&mut self) -> Result<()> {
        wait::until("the guest", BOOT_LIMIT, || {
            if let Some(status) = self.qemu.try_wait()? {
                return Ok(Err(anyhow::anyhow!("QEMU ended: {status}")));
            }
            let console = fs::read(self.path("console.log"))?;
            ensure!(String::from_utf8_lossy(&console).contains(initramfs::READY), "it is still booting");
            Ok(Ok(()))
        })??;
        let colo = self.colo.as_ref().context("colo was started")?;
        for input in ["primary_in is up", "secondary_in is up"] {
            colo.wait_for_log(input, STEP_LIMIT)?;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let said = self.colo.as_ref().map(Colo::stderr_so_far).unwrap_or_default();
        let mut words = format!("colo's stderr: {}", tail(&said));
        for name in ["qemu.log", "console.log"] {
            let text = fs::read(self.path(name)).unwrap_or_default();
            words = format!("{words}\n{name}: {}", tail(&String::from_utf8_lossy(&text)));
        }
        words
    }
}

impl Drop for VhostGuest {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// QEMU's arguments for the guest's memory and cards, as docs/DPDK.md has them. The memory is shared with `colo`, which reads
/// frames where they lie. Without KVM QEMU 7.2 dies of a vhost-user card with MSI-X, hence no vectors.
fn arguments(primary: &str, secondary: &str) -> String {
    format!(
        "-m 256M -object memory-backend-memfd,id=mem,size=256M,share=on -machine pc,memory-backend=mem \
         -chardev socket,id=p,path={primary} -netdev vhost-user,id=np,chardev=p \
         -device virtio-net-pci,netdev=np,mac=52:54:00:77:00:10,romfile=,vectors=0 \
         -chardev socket,id=s,path={secondary} -netdev vhost-user,id=ns,chardev=s \
         -device virtio-net-pci,netdev=ns,mac=52:54:00:77:00:11,romfile=,vectors=0 \
         -netdev tap,id=nr,ifname=rx,script=no,downscript=no,vhost=off \
         -device virtio-net-pci,netdev=nr,mac=52:54:00:77:00:02,romfile=,vectors=0"
    )
}
