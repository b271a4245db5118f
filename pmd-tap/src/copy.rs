//! Copies of a small frame's bytes without a call.

/// Copies `from` over `to`, which has the same length.
///
/// What most frames on a busy wire are, acknowledgments and small requests, is two blocks that overlap in the middle: a
/// few moves, where a call of the C library first finds out what kind of copy this is.
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy has its original's length");
    if !(copied_as::<64>(to, from) || copied_as::<32>(to, from)) {
        to.copy_from_slice(from);
    }
}

/// Copies as the first and the last block, if those are all of it.
#[inline(always)]
fn copied_as<const BLOCK: usize>(to: &mut [u8], from: &[u8]) -> bool {
    if from.len() > 2 * BLOCK {
        return false;
    }
    let (Some(first), Some(last)) = (from.first_chunk::<BLOCK>(), from.last_chunk::<BLOCK>()) else {
        return false;
    };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_else() {
        let from: Vec<u8> = (0..=255).collect();
        for len in 0..=from.len() {
            let mut to = vec![7; len + 2];
            copy(&mut to[1..=len], &from[..len]);
            assert_eq!((to[0], &to[1..=len], to[len + 1]), (7, &from[..len], 7));
        }
    }
}
