//! Memory that is there before it is needed: what the process has mapped becomes resident, so that no frame waits for a
//! page, and a machine without enough memory shows it at the start. Not which memory anybody takes.

use std::ops::Range;

use crate::sys;

/// What pages memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Huge ones wherever the system has them to give (transparent huge pages), so that fewer addresses are looked up.
    Huge,
    /// The system's ordinary ones.
    Ordinary,
}

/// Makes all private memory of the process resident, stacks aside, as if every page of it had been written; its contents
/// stay. Mappings of more than `largest` bytes are left alone: they are reserves that nobody means to fill. Returns the
/// bytes that are resident; where the system cannot do it (Linux before 5.14), nothing is.
pub fn make_resident(largest: u64, pages: Pages) -> u64 {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return 0 };
    let mut resident = 0;
    for range in maps.lines().filter_map(private_memory) {
        let bytes = u64::try_from(range.len()).unwrap_or(u64::MAX);
        if bytes <= largest && sys::populate(&range, pages) {
            resident += bytes;
        }
    }
    resident
}

/// The addresses of a line of proc(5)'s `maps`, if they are private writable memory without a file behind it.
fn private_memory(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let (_offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let is_memory = fields.next().is_none_or(|name| name == "[heap]" || name.starts_with("[anon"));
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (rights == "rw-p" && inode == "0" && is_memory).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_memory_is_chosen() {
        let memory = "7f00-7fff rw-p 00000000 00:00 0 ";
        assert_eq!(private_memory(memory), Some(0x7f00..0x7fff));
        assert_eq!(
            private_memory("10-20 rw-p 00000000 00:00 0                          [heap]"),
            Some(0x10..0x20)
        );
        for other in [
            "7f00-7fff ---p 00000000 00:00 0 ",
            "7f00-7fff r--p 00000000 00:00 0 ",
            "7f00-7fff rw-s 00000000 00:01 77 /dev/zero (deleted)",
            "7f00-7fff rw-p 00004000 fe:00 77 /usr/lib/libc.so.6",
            "7f00-7fff rw-p 00000000 00:00 0 [stack]",
            "7f00-7fff",
            "",
        ] {
            assert_eq!(private_memory(other), None, "{other}");
        }
    }

    /// Resident pages, in KiB.
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_nobody_has_touched_is_resident_and_what_was_written_stays() {
        let mut memory = vec![0_u8; 64 << 20];
        memory[5] = 5;
        let before = resident_kib();
        assert!(make_resident(1 << 30, Pages::Huge) >= 64 << 20);
        assert!(resident_kib() >= before + 60 * 1024, "64 MiB that nobody has touched");
        assert_eq!((memory[5], memory[6], memory[60 << 20]), (5, 0, 0));
        assert_eq!(make_resident(0, Pages::Ordinary), 0, "nothing is small enough");
    }
}
