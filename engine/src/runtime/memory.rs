//! How much memory the process has taken, as the system counts it. Asked at the start only.

/// Bytes of private memory that are mapped, touched or not: `VmData` of proc(5). `None` where that cannot be read.
pub(super) fn taken() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
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
