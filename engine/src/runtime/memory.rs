//! How much memory the process has taken, as the system counts it, and whether it is there already. Asked at the start
//! only.

use pmd_tap::{Pages, make_resident};

use crate::config::MemoryMode;

/// Bytes of private memory that are mapped, touched or not: `VmData` of proc(5). `None` where that cannot be read.
pub(super) fn taken() -> Option<u64> {
    status("VmData:")
}

/// Bytes of the process that are resident, the program's own included: `VmRSS` of proc(5).
pub(super) fn resident() -> Option<u64> {
    status("VmRSS:")
}

fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Makes resident what was taken, `taken` bytes in all, before the threads begin: no frame waits for a page later, and a
/// machine that has not so much says so now. Where the system cannot do it, pages come when they are touched. Returns
/// what is resident then.
pub(super) fn settle(mode: MemoryMode, taken: u64) -> Option<u64> {
    let pages = match mode {
        MemoryMode::Lazy => return resident(),
        MemoryMode::Resident => Pages::Ordinary,
        MemoryMode::Huge => Pages::Huge,
    };
    // Nobody has taken more at once. A larger mapping is somebody else's reserve: a sanitizer's.
    make_resident(taken, pages);
    resident()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_mapped_is_counted() {
        let before = super::taken().unwrap();
        let room = std::hint::black_box(Vec::<u8>::with_capacity(1 << 28));
        assert!(
            super::taken().unwrap() >= before + (1 << 27),
            "others may have given back a little meanwhile"
        );
        drop(room);
    }
}
