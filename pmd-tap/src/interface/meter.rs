//! What the kernel drops in front of a port, by its table of interfaces. The table has a row for every interface of the
//! namespace, so whoever polls the port does not read it: this is for a thread that has time.

use std::fs::File;

use super::InterfaceName;

/// Bytes of the kernel's table that are read at once.
const TABLE_BYTES: usize = 4096;
/// Column of `/proc/net/dev` behind the name: frames dropped on their way from the kernel to outside, which for a TAP device
/// is us.
const SEND_DROPS: usize = 11;

/// Reads how many frames the kernel has dropped in front of a port since this was made. It asks the kernel each time, which
/// takes some 10 µs and more where there are many interfaces.
#[derive(Debug)]
pub struct LossMeter {
    name: InterfaceName,
    table: File,
    /// By the interface's own count.
    last: u64,
    sum: u64,
}

impl LossMeter {
    /// A meter at zero, if there is a table. It is bound to the namespace of the calling thread.
    pub(crate) fn new(name: InterfaceName) -> Option<Self> {
        let table = File::open("/proc/thread-self/net/dev").ok()?;
        let last = read_drops(&table, name).unwrap_or(0);
        Some(Self { name, table, last, sum: 0 })
    }

    /// Frames dropped so far.
    pub fn read(&mut self) -> u64 {
        if let Some(drops) = read_drops(&self.table, self.name) {
            self.add(drops);
        }
        self.sum
    }

    /// An interface that was deleted and made anew counts from zero.
    fn add(&mut self, drops: u64) {
        self.sum += drops.checked_sub(self.last).unwrap_or(drops);
        self.last = drops;
    }
}

/// The interface's row of the kernel's table.
fn read_drops(table: &File, name: InterfaceName) -> Option<u64> {
    let mut buffer = [0; TABLE_BYTES];
    let (mut kept, mut offset) = (0, 0_u64);
    loop {
        let got = rustix::io::pread(table, &mut buffer[kept..], offset).ok()?;
        offset += u64::try_from(got).ok()?;
        let end = kept + got;
        let whole = buffer[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let rows = std::str::from_utf8(&buffer[..whole]).ok()?;
        if let Some(drops) = rows.lines().find_map(|row| drops_of(row, name)) {
            return Some(drops);
        }
        if got == 0 {
            return None;
        }
        buffer.copy_within(whole..end, 0);
        kept = end - whole;
    }
}

/// `  name: numbers`, of which one is of interest.
fn drops_of(row: &str, name: InterfaceName) -> Option<u64> {
    let (title, numbers) = row.split_once(':')?;
    if title.trim() != name.as_str() {
        return None;
    }
    numbers.split_whitespace().nth(SEND_DROPS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_table_has_the_drops() {
        let name: InterfaceName = "tap0".parse().unwrap();
        let row = "  tap0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(drops_of(row, name), Some(12));
        assert_eq!(drops_of("tap01: 1 2 3 4 5 6 7 8 9 10 11 12", name), None);
        assert_eq!(drops_of("tap0: 1 2 3", name), None);
    }

    #[test]
    fn the_table_is_read_and_only_what_is_new_counts() {
        let mut meter = LossMeter::new("lo".parse().unwrap()).unwrap();
        assert!(read_drops(&meter.table, meter.name).is_some());
        assert_eq!(meter.read(), 0);
        meter.last = 5;
        meter.add(9);
        assert_eq!((meter.sum, meter.last), (4, 9));
        // Made anew.
        meter.add(2);
        assert_eq!((meter.sum, meter.last), (6, 2));
        let mut none = LossMeter::new("no-such-device".parse().unwrap()).unwrap();
        assert_eq!(none.read(), 0);
    }
}
