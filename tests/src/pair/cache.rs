//! QEMU, a kernel and busybox from Debian's packages, fetched once into a folder under cargo's target directory.
//!
//! They are unpacked and never installed: installing would remove a newer qemu-utils, and a test changes nothing of the
//! machine it runs on. `apt-get update` alone is run when the machine's lists cannot give the packages.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::netns::Namespace;
use crate::process::profile_directory;

/// What the folder holds, in words that change when it changes.
const RECIPE: &str =
    "qemu-system-x86, vmlinuz, 8139cp.ko, mii.ko, virtio_net.ko, bridge.ko, busybox-static: 2\n";
/// Written last; holds [`RECIPE`].
const MARKER: &str = "complete";
/// Modules of a guest's network card, in the order in which they are to be loaded.
pub const RTL8139_MODULES: [&str; 2] = ["mii.ko", "8139cp.ko"];
/// Those of a virtio card on the PCI bus, and of a bridge.
pub const VIRTIO_MODULES: [&str; 11] = [
    "virtio_ring.ko",
    "virtio.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci.ko",
    "failover.ko",
    "net_failover.ko",
    "virtio_net.ko",
    "llc.ko",
    "stp.ko",
    "bridge.ko",
];
/// How long one command of the package manager may take, in seconds, as `timeout` takes it.
const COMMAND_LIMIT: &str = "900";
/// These belong to QEMU even where the machine has some of them already.
const QEMU_PACKAGES: [&str; 5] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu"];

/// The unpacked files.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Fetches what is not there yet. Tests that want it at once wait for the first.
    ///
    /// # Errors
    /// One sentence that says which command failed and what would help.
    pub fn get() -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the pair's guests are of Debian's amd64 packages: run this test on an x86-64 machine"
        );
        let home = target_directory()?.join("qemu-pair");
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let lock = File::create(home.join("lock"))?;
        lock.lock().context("cannot lock the cache of QEMU's files")?;
        let cache = Self { folder: home.join("files") };
        if fs::read_to_string(cache.folder.join(MARKER)).ok().as_deref() != Some(RECIPE) {
            fetch_into(&home, &cache.folder)?;
        }
        super::shim::build(&cache.shim())?;
        Ok(cache)
    }

    /// QEMU's binary.
    pub fn qemu(&self) -> PathBuf {
        self.folder.join("root/usr/bin/qemu-system-x86_64")
    }

    /// Where QEMU finds its firmware.
    pub fn firmware(&self) -> [PathBuf; 3] {
        ["qemu", "seabios", "../lib/ipxe/qemu"].map(|name| self.folder.join("root/usr/share").join(name))
    }

    /// Value of `LD_LIBRARY_PATH` for QEMU.
    pub fn library_path(&self) -> String {
        let root = self.folder.join("root");
        let root = root.display();
        format!("{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu")
    }

    /// The guests' kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// QEMU inside a namespace, with `environment` (`NAME=value`) and without arguments but those for its firmware. Each of
    /// the words becomes the next, so the child is QEMU itself, and dies with the thread that started it.
    pub(super) fn qemu_in(&self, namespace: &Namespace, environment: &[OsString]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", namespace.holder_pid()));
        command.args(["setpriv", "--pdeathsig=KILL", "env"]);
        command.arg(format!("LD_LIBRARY_PATH={}", self.library_path()));
        command.args(environment).arg(self.qemu());
        for folder in self.firmware() {
            command.arg("-L").arg(folder);
        }
        command.args(["-nodefaults", "-display", "none", "-cpu", "qemu64"]);
        // One thread for all of a guest is the simplest of QEMU's ways to run one without KVM.
        command.args(["-accel", "tcg,thread=single"]);
        command.arg("-kernel").arg(self.kernel()).stdin(Stdio::null());
        command
    }

    /// A kernel module, one of [`RTL8139_MODULES`] and [`VIRTIO_MODULES`].
    pub fn module(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The guests' only program, statically linked.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("root/bin/busybox")
    }

    /// Library to be loaded before QEMU's own; see [`shim`](super::shim).
    pub fn shim(&self) -> PathBuf {
        self.folder.join("bqlfix.so")
    }
}

/// Cargo's target directory: the one this test or command was built in.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of this test's own binary")?;
    let target = profile_directory(&test).and_then(Path::parent);
    Ok(target.ok_or_else(|| anyhow!("{} lies in no target directory", test.display()))?.to_owned())
}

/// Fills a temporary folder in `home`, which becomes `folder` in one step.
fn fetch_into(home: &Path, folder: &Path) -> Result<()> {
    let attempt = || -> Result<(TempDir, Vec<String>)> {
        let new = tempfile::Builder::new().prefix("fetching-").tempdir_in(home)?;
        let packages = download(new.path())?;
        Ok((new, packages))
    };
    // The lists of a fresh machine are empty, those of an old one name packages that are gone.
    let (new, packages) = attempt().or_else(|_| {
        run(home, "apt-get", &["update", "-qq"])
            .and_then(|_| attempt())
            .context("QEMU's packages cannot be fetched: this test's first run needs root and a network")
    })?;
    for package in &packages {
        if is_kernel(package) {
            unpack_kernel(new.path(), package)?;
        } else {
            run(new.path(), "dpkg", &["-x", package, "root"])?;
        }
        fs::remove_file(new.path().join(package))?;
    }
    let made = Cache { folder: new.path().to_owned() };
    for needed in [made.qemu(), made.kernel(), made.busybox()] {
        ensure!(needed.is_file(), "Debian's packages lack {}: run this test on Debian 12", needed.display());
    }
    fs::write(new.path().join(MARKER), RECIPE)?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::rename(new.keep(), folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Downloads all packages into `folder`; returns their file names.
fn download(folder: &Path) -> Result<Vec<String>> {
    let plan =
        run(folder, "apt-get", &["install", "--simulate", "--no-install-recommends", "qemu-system-x86"])?;
    let mut names: BTreeSet<String> = QEMU_PACKAGES.map(str::to_owned).into();
    names.extend(missing_packages(&plan));
    names.insert("busybox-static".to_owned());
    let depends = run(folder, "apt-cache", &["depends", "linux-image-amd64"])?;
    let kernel = depends.split_whitespace().find(|word| is_kernel(word));
    names.insert(kernel.context("the package linux-image-amd64 names no kernel")?.to_owned());

    let mut arguments = vec!["download", "-qq"];
    arguments.extend(names.iter().map(String::as_str));
    run(folder, "apt-get", &arguments)?;
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|extension| extension == "deb") {
            packages.push(name);
        }
    }
    ensure!(packages.len() >= names.len(), "{} packages downloaded, {} wanted", packages.len(), names.len());
    Ok(packages)
}

/// Names in the plan's lines `Inst NAME (VERSION ...)`. What would only be upgraded, `Inst NAME [OLD] (...)`, is there.
fn missing_packages(plan: &str) -> impl Iterator<Item = String> {
    plan.lines().filter_map(|line| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?;
        (!words.next()?.starts_with('[')).then(|| name.to_owned())
    })
}

/// Of a package's name or file name: `linux-image-6.1.0-56-amd64`.
fn is_kernel(name: &str) -> bool {
    name.strip_prefix("linux-image-")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The few files that are needed of the 400 MB.
fn unpack_kernel(folder: &Path, package: &str) -> Result<()> {
    let mut archive = Command::new("dpkg")
        .args(["--fsys-tarfile", package])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `dpkg`: this test needs Debian")?;
    let stream = archive.stdout.take().context("no stream from `dpkg`")?;
    let modules = RTL8139_MODULES.iter().chain(&VIRTIO_MODULES).map(|name| format!("*/{name}"));
    let listed = ["./boot/vmlinuz-*".to_owned()].into_iter().chain(modules);
    let unpacked = Command::new("tar")
        .args(["-x", "--wildcards", "--transform", "s,.*/,,"])
        .args(listed)
        .current_dir(folder)
        .stdin(stream)
        .output()
        .context("cannot run `tar` (Debian package tar)");
    drop(archive.wait());
    let unpacked = unpacked?;
    ensure!(
        unpacked.status.success(),
        "{package} lacks the kernel or its modules, so this test needs Debian 12: {}",
        String::from_utf8_lossy(&unpacked.stderr).trim()
    );
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            fs::rename(entry.path(), folder.join("vmlinuz"))?;
            return Ok(());
        }
    }
    bail!("{package} holds no kernel")
}

/// Stdout of a command that ends by itself in time.
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("timeout")
        .arg(COMMAND_LIMIT)
        .arg(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run `timeout` (Debian package coreutils)")?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed ({}): {}",
        arguments.first().unwrap_or(&""),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_taken_from_the_plan() {
        let plan = "Remv qemu-utils [1:10.0.2]\nInst seabios (1.16.2-1 Debian:12/x [all])\n\
                    Inst libc6 [2.36-9] (2.36-10 Debian:12/x [amd64])\nConf seabios (1.16.2-1)\n";
        assert_eq!(missing_packages(plan).collect::<Vec<_>>(), ["seabios"]);
    }

    #[test]
    fn a_kernel_is_a_package_with_a_version_in_its_name() {
        assert!(is_kernel("linux-image-6.1.0-56-amd64"));
        assert!(!is_kernel("linux-image-amd64"));
        assert!(!is_kernel("busybox-static"));
    }
}
