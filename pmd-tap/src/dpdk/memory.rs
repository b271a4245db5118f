//! What DPDK is told about memory, buses and noise: hugepages where there are enough free, otherwise without.

use super::DpdkAddress;

/// Bytes that a mbuf of the pool takes: header, structure, headroom, 2,048 bytes, and what the pool puts around it.
const MBUF_BYTES: usize = 2_496;
/// Bytes that DPDK and its drivers take besides.
const OWN_BYTES: usize = 64 << 20;
/// Where the kernel says how many hugepages there are.
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// The first CPU that this process may use. DPDK knows 128.
pub(super) fn first_cpu() -> usize {
    let allowed = rustix::thread::sched_getaffinity(None);
    allowed.ok().and_then(|set| (0..128).find(|cpu| set.is_set(*cpu))).unwrap_or(0)
}

/// Arguments of DPDK beyond those of the devices.
pub(super) fn arguments(addresses: &[DpdkAddress], mbufs: usize) -> String {
    let bytes = OWN_BYTES + mbufs * MBUF_BYTES;
    let memory = if free_hugepage_bytes() >= bytes {
        "--in-memory".to_owned()
    } else {
        // Without shared configuration two engines do not meet in one folder.
        format!("--no-huge --no-shconf -m {}", bytes.div_ceil(1 << 20))
    };
    // With the bus DPDK would take devices that nobody named.
    let bus = if addresses.iter().any(DpdkAddress::is_pci) { "" } else { " --no-pci" };
    format!("{memory}{bus} --no-telemetry --log-level=*:warning")
}

/// Bytes in hugepages that nobody has; 0 where that cannot be read.
fn free_hugepage_bytes() -> usize {
    let Ok(sizes) = std::fs::read_dir(HUGEPAGES) else { return 0 };
    let free = |entry: std::io::Result<std::fs::DirEntry>| {
        let folder = entry.ok()?;
        let kib: usize =
            folder.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages: usize =
            std::fs::read_to_string(folder.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
        Some(pages.saturating_mul(kib).saturating_mul(1024))
    };
    sizes.filter_map(free).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_is_looked_at_only_for_a_device_on_it() {
        let address = |text: &str| text.parse::<DpdkAddress>().unwrap();
        let (tap, nic) = (address("net_tap0"), address("0000:af:00.0"));
        assert!(arguments(std::slice::from_ref(&tap), 1_023).contains("--no-pci"));
        assert!(!arguments(&[tap, nic], 1_023).contains("--no-pci"));
    }

    #[test]
    fn more_than_any_machine_has_is_asked_for_without_hugepages() {
        let arguments = arguments(&[], 1 << 40);
        assert!(arguments.contains("--no-huge") && !arguments.contains("--in-memory"), "{arguments}");
    }
}
