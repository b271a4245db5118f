//! Frames behind a frame: what stands for several goes through the engine as one handle.
//!
//! A chain is what the reassembly of IP fragments needs: the frame in front is the whole datagram, put together, and
//! behind it are the frames that came. Nothing here looks into a frame.

use crate::{Frame, Nanos};

impl Frame {
    /// Puts a frame, with what stands behind it, in front of the followers.
    pub fn attach(&mut self, first: Self) {
        let former = self.header_mut().next.replace(first);
        if former.is_none() {
            return;
        }
        let mut last = self;
        while last.has_followers() {
            let Some(next) = &mut last.header_mut().next else { return };
            last = next;
        }
        last.header_mut().next = former;
    }

    /// Takes the first follower; the others stay.
    pub fn detach(&mut self) -> Option<Self> {
        let mut first = self.header_mut().next.take()?;
        self.header_mut().next = first.header_mut().next.take();
        Some(first)
    }

    /// The frames behind it, first to last.
    pub fn followers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.header().next.as_ref(), |frame| frame.header().next.as_ref())
    }

    /// Looks at the frames behind it, first to last, and may change them.
    pub fn visit_followers(&mut self, mut visit: impl FnMut(&mut Self)) {
        let mut next = self.header_mut().next.as_mut();
        while let Some(frame) = next {
            visit(frame);
            next = frame.header_mut().next.as_mut();
        }
    }

    /// Whether there are frames behind it.
    #[inline(always)]
    pub fn has_followers(&self) -> bool {
        self.header().next.is_some()
    }

    /// Whether it was made from its followers, so that it must not leave itself.
    pub fn is_assembled(&self) -> bool {
        self.header().completed.is_some()
    }

    /// Says that it was made from its followers, the last of which arrived at `completed`.
    pub fn mark_assembled(&mut self, completed: Nanos) {
        self.header_mut().completed = Some(completed);
    }

    /// When it was whole: for a frame as it came, its arrival.
    pub fn completed(&self) -> Nanos {
        self.header().completed.unwrap_or(self.arrival())
    }

    /// The frames that came, of a chain: itself, unless it is assembled, and its followers.
    pub fn originals(&self) -> impl Iterator<Item = &Self> {
        let itself = (!self.is_assembled()).then_some(self);
        itself.into_iter().chain(self.followers())
    }

    /// How many frames that came it stands for.
    #[inline(always)]
    pub fn stands_for(&self) -> usize {
        if self.has_followers() { self.originals().count() } else { 1 }
    }

    /// The chain taken apart into frames that came, in its order. An assembled frame goes home.
    pub fn into_originals(self) -> impl Iterator<Item = Self> {
        let mut front = Some(self);
        std::iter::from_fn(move || {
            let mut frame = front.take()?;
            front = frame.header_mut().next.take();
            if frame.is_assembled() {
                frame = front.take()?;
                front = frame.header_mut().next.take();
            }
            Some(frame)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FramePool, PoolSettings};

    fn pool() -> FramePool {
        FramePool::new(PoolSettings { small: 4_096, mtu: 0, jumbo: 0, gso: 0 }).unwrap()
    }

    fn frame(pool: &mut FramePool, ordinal: u64) -> Frame {
        let mut frame = pool.frame_from(&[0; 60]).unwrap();
        frame.stamp(Nanos(ordinal), ordinal);
        frame
    }

    fn ordinals<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<u64> {
        frames.map(Frame::ordinal).collect()
    }

    #[test]
    fn followers_keep_their_order() {
        let mut pool = pool();
        let [mut one, mut two, three, four] = [1, 2, 3, 4].map(|ordinal| frame(&mut pool, ordinal));
        assert_eq!((one.stands_for(), one.has_followers()), (1, false));
        one.attach(four);
        two.attach(three);
        one.attach(two);
        assert_eq!(ordinals(one.followers()), [2, 3, 4]);
        assert_eq!((one.stands_for(), one.completed()), (4, Nanos(1)));
        let two = one.detach().unwrap();
        assert!(!two.has_followers());
        assert_eq!(ordinals(one.originals()), [1, 3, 4]);
        drop(two);
        let alone: Vec<Frame> = one.into_originals().collect();
        assert_eq!(ordinals(alone.iter()), [1, 3, 4]);
        assert!(alone.iter().all(|frame| !frame.has_followers()));
    }

    #[test]
    fn an_assembled_frame_stands_for_its_followers_only() {
        let mut pool = pool();
        let mut whole = frame(&mut pool, 1);
        for ordinal in [3, 1] {
            whole.attach(frame(&mut pool, ordinal));
        }
        whole.mark_assembled(Nanos(3));
        assert_eq!((whole.arrival(), whole.completed(), whole.stands_for()), (Nanos(1), Nanos(3), 2));
        assert_eq!(ordinals(whole.originals()), [1, 3]);
        let originals: Vec<Frame> = whole.into_originals().collect();
        assert_eq!(ordinals(originals.iter()), [1, 3]);
        drop(originals);
        pool.collect();
        assert_eq!(pool.frames_out(), 0, "the assembled frame went home by itself");
        let again = frame(&mut pool, 9);
        assert!(!again.is_assembled(), "a slot forgets what it was");
    }

    #[test]
    fn long_chains_go_home_from_anywhere() {
        let mut pool = pool();
        let mut chain = |length: u64| {
            let mut first = frame(&mut pool, 0);
            (1..length).for_each(|ordinal| first.attach(frame(&mut pool, ordinal)));
            first
        };
        let (dropped, recycled, taken_apart) = (chain(2_000), chain(1_000), chain(1_000));
        std::thread::Builder::new()
            .stack_size(16_384)
            .spawn(move || {
                drop(dropped);
                let mut parts = taken_apart.into_originals();
                assert_eq!(parts.next().map(|frame| frame.ordinal()), Some(0));
                drop(parts);
            })
            .unwrap()
            .join()
            .unwrap();
        pool.recycle(recycled);
        pool.collect();
        assert_eq!(pool.frames_out(), 0);
    }
}
