//! A safe hint to the processor.

use crate::sys;

/// Asks for the cache line of `value` ahead of its use. Changes nothing but time.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    sys::prefetch(std::ptr::from_ref(value).cast());
}

/// Asks for some cache lines of `value`, counted from 0 in 64 bytes, ahead of their use.
#[inline(always)]
pub fn prefetch_lines<T, const LINES: usize>(value: &T, lines: [usize; LINES]) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for line in lines {
        sys::prefetch(start.wrapping_add(line * 64));
    }
}
