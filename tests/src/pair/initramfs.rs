//! What guests boot from: an uncompressed cpio archive in the kernel's format ("newc", buffer-format.rst of the
//! kernel's documentation) with busybox, network cards' drivers, and pages made from a seed.

use std::fs;

use anyhow::{Context, Result};

use super::cache::{Cache, RTL8139_MODULES, VIRTIO_MODULES};

/// Type and permission bits of a folder.
const FOLDER: u32 = 0o40_755;
/// Those of a program.
const PROGRAM: u32 = 0o100_755;
/// Those of a file.
const FILE: u32 = 0o100_644;
/// Those of a character device.
const DEVICE: u32 = 0o20_600;

/// The guest's first process, up to its network cards. A second guest of a pair is never booted: it starts with the first
/// one's memory.
const BEGIN: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
ip link set lo up
";

/// One card for both ways.
const ONE_CARD: &str = "ip addr add 10.77.0.2/24 dev eth0
ip link set eth0 up
";

/// What leaves goes out of the first two, because the bridge never learns where the client is; the third one hears.
const FLOODED_CARDS: &str = "mount -t sysfs sys /sys
brctl addbr br0
brctl addif br0 eth0
brctl addif br0 eth1
ip addr add 10.77.0.2/24 dev br0
for card in eth0 eth1 eth2 br0; do ip link set $card up; done
arp -i br0 -s 10.77.0.1 52:54:00:77:00:01
";

/// The rest of it.
const END: &str = "httpd -p 80 -h /www
nc -ll -p 7 -e cat &
echo GUEST-READY
while true; do sleep 1000; done
";

/// A page that is another one each time, in each guest. Random bytes alone would not be: a checkpoint gives both guests
/// the same generator. The list of timers holds the time in nanoseconds.
const RANDOM_PAGE: &str = "#!/bin/sh
printf \"Content-Type: text/plain\\r\\n\\r\\n\"
{ head -c 32 /dev/urandom; cat /proc/timer_list; } | sha256sum
";

/// A guest's network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cards {
    /// One, an RTL8139.
    OneRtl8139,
    /// Three of virtio: two that get all that the guest sends, each the same, and one that hears.
    ThreeVirtio,
}

impl Cards {
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::OneRtl8139 => &RTL8139_MODULES,
            Self::ThreeVirtio => &VIRTIO_MODULES,
        }
    }

    fn init(self) -> String {
        let load = format!("for module in {}; do insmod /lib/$module; done\n", self.modules().join(" "));
        let set_up = match self {
            Self::OneRtl8139 => ONE_CARD,
            Self::ThreeVirtio => FLOODED_CARDS,
        };
        format!("{BEGIN}{load}{set_up}{END}")
    }
}

/// Last words of the guest's start on its console.
pub const READY: &str = "GUEST-READY";

/// Length and path of the pages made from a seed.
pub const PAGES: [(usize, &str); 2] = [(4 << 10, "/4k"), (256 << 10, "/256k")];

/// Bytes of a page: the same for the same seed and length.
pub fn page(seed: u64, length: usize) -> Vec<u8> {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut state = seed;
    let mut words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    let bytes = std::iter::from_fn(|| words.next()).flat_map(u64::to_le_bytes);
    bytes.take(length).collect()
}

/// The whole archive.
pub fn archive(cache: &Cache, seed: u64, cards: Cards) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "lib", "proc", "sys", "www", "www/cgi-bin"] {
        archive.add(folder, FOLDER, &[], [0, 0])?;
    }
    let read =
        |path: &std::path::Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    archive.add("dev/console", DEVICE, &[], [5, 1])?;
    archive.add("init", PROGRAM, cards.init().as_bytes(), [0, 0])?;
    archive.add("bin/busybox", PROGRAM, &read(&cache.busybox())?, [0, 0])?;
    for module in cards.modules() {
        archive.add(&format!("lib/{module}"), FILE, &read(&cache.module(module))?, [0, 0])?;
    }
    for (length, path) in PAGES {
        archive.add(&format!("www{path}"), FILE, &page(seed, length), [0, 0])?;
    }
    archive.add("www/cgi-bin/random", PROGRAM, RANDOM_PAGE.as_bytes(), [0, 0])?;
    archive.add("TRAILER!!!", 0, &[], [0, 0])?;
    Ok(archive.bytes)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An entry: a header of hexadecimal numbers, the name with its NUL, the content, both filled up to four bytes.
    fn add(&mut self, name: &str, mode: u32, content: &[u8], device: [u32; 2]) -> Result<()> {
        self.entries += 1;
        let (length, name_length) = (u32::try_from(content.len())?, u32::try_from(name.len() + 1)?);
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, length, device of the file, device it is, name's length, checksum.
        let [major, minor] = device;
        for field in [self.entries, mode, 0, 0, 1, 0, length, 0, 0, major, minor, name_length, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend_from_slice(content);
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.add("a", FILE, b"xyz", [0, 0]).unwrap();
        let header = b"070701\
            00000001000081a400000000000000000000000100000000\
            00000003000000000000000000000000000000000000000200000000";
        // 110 bytes of header and two of name are a multiple of four.
        assert_eq!(archive.bytes, [&header[..], b"a\0", b"xyz\0"].concat());
    }

    #[test]
    fn a_page_depends_on_its_seed_alone() {
        assert_eq!(page(1, 100)[..40], page(1, 40)[..]);
        assert_ne!(page(1, 100), page(2, 100));
    }
}
