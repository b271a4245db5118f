//! Network namespaces and the veth pair between them, for tests that need real kernel TCP. A namespace has no
//! name: a child that waits on a pipe from this process holds it, so it vanishes with the test however the test ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Fails with a sentence unless this process is root.
pub fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this test needs root, because it creates network namespaces: run the suite as root"
    );
    Ok(())
}

/// A network namespace of its own, with nothing in it but a loopback interface that is down.
pub struct Namespace {
    holder: Child,
    handle: File,
}

impl Namespace {
    /// Creates one.
    pub fn new() -> Result<Self> {
        require_root()?;
        // `cat` ends when the pipe to it closes, which happens at any end of this process, SIGKILL included.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run `unshare` (Debian package util-linux)")?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let handle = File::open(format!("/proc/{}/ns/net", holder.id()));
        let namespace = Self { handle: handle.context("the namespace's holder has gone")?, holder };
        ensure!(line == "ready\n", "`unshare --net` failed: may this root create network namespaces?");
        Ok(namespace)
    }

    /// Process that holds the namespace; `ip` takes it wherever it wants a namespace.
    pub fn holder_pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs `work` on a thread of `scope` inside the namespace. Sockets it makes stay there for good.
    pub fn spawn<'scope, T: Send + 'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        work: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, Result<T>> {
        scope.spawn(move || {
            move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the network namespace")?;
            work()
        })
    }

    /// Runs `work` inside and waits for it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| join(self.spawn(scope, work)))
    }

    /// Runs `ip` with these arguments, split at spaces, inside.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        self.iproute2("ip", arguments)
    }

    /// Runs `tc` in the same way.
    pub fn tc(&self, arguments: &str) -> Result<()> {
        self.iproute2("tc", arguments)
    }

    /// Runs `ethtool` in the same way.
    pub fn ethtool(&self, arguments: &str) -> Result<()> {
        self.tool("ethtool", "ethtool", arguments)
    }

    fn iproute2(&self, command: &str, arguments: &str) -> Result<()> {
        self.tool(command, "iproute2", arguments)
    }

    fn tool(&self, command: &str, package: &str, arguments: &str) -> Result<()> {
        self.inside(|| {
            let output = Command::new(command)
                .args(arguments.split_whitespace())
                .output()
                .with_context(|| format!("cannot run `{command}` (Debian package {package})"))?;
            ensure!(
                output.status.success(),
                "`{command} {arguments}`: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            Ok(())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

/// Result of a scoped thread; a panic becomes an error.
pub fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("a thread of the test panicked"))?
}

/// How the sending side cuts long sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Frames of one segment each, as on a real wire.
    Mss,
    /// Super-frames of up to 64 KiB, as a guest with TSO hands them out.
    Gso,
}

/// A client's and a server's namespace with a veth pair between them.
pub struct Pair {
    /// Where the client lives.
    pub client: Namespace,
    /// Where the server, which plays the guest, lives.
    pub server: Namespace,
}

impl Pair {
    /// The server's Ethernet address.
    pub const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
    /// The server's IPv4 address.
    pub const SERVER_V4: &str = "10.77.0.1";
    /// The server's IPv6 address.
    pub const SERVER_V6: &str = "fd77::1";
    /// The client's IPv4 address.
    pub const CLIENT_V4: &str = "10.77.0.2";
    /// The client's IPv6 address.
    pub const CLIENT_V6: &str = "fd77::2";

    /// Both namespaces, addresses set, links up.
    pub fn new(segmentation: Segmentation) -> Result<Self> {
        let pair = Self { client: Namespace::new()?, server: Namespace::new()? };
        pair.client.ip(&format!(
            "link add c0 address 02:00:00:00:00:02 type veth peer name s0 address 02:00:00:00:00:01 netns {}",
            pair.server.holder_pid()
        ))?;
        if segmentation == Segmentation::Mss {
            pair.server.ip("link set s0 gso_max_segs 1")?;
        }
        for (namespace, interface, v4, v6) in [
            (&pair.client, "c0", Self::CLIENT_V4, Self::CLIENT_V6),
            (&pair.server, "s0", Self::SERVER_V4, Self::SERVER_V6),
        ] {
            namespace.ip(&format!("addr add {v4}/24 dev {interface}"))?;
            namespace.ip(&format!("addr add {v6}/64 dev {interface} nodad"))?;
            namespace.ip(&format!("link set {interface} up"))?;
        }
        Ok(pair)
    }
}
