//! A safe hint to the processor.

use crate::sys;

/// Asks for the cache line of `value` ahead of its use. Changes nothing but time.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    sys::prefetch(std::ptr::from_ref(value).cast());
}

/// Asks for all cache lines of `value` ahead of its use.
#[inline(always)]
pub fn prefetch_all<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(64) {
        sys::prefetch(start.wrapping_add(offset));
    }
}
