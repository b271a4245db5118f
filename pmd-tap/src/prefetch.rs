//! A safe hint to the processor.

use crate::sys;

/// Asks for the cache line of `value` ahead of its use. Changes nothing but time.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    sys::prefetch(std::ptr::from_ref(value).cast());
}
