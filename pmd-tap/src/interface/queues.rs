//! The queues of one port: polled in turn by whoever has it, and waited on together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;

/// One queue or several.
#[derive(Debug)]
pub(crate) struct Queues<Q> {
    all: Vec<Q>,
    /// Which is next.
    turn: usize,
    /// All together, to wait on, if there are several.
    bundle: Option<OwnedFd>,
}

impl<Q: AsFd> Queues<Q> {
    /// These; asks the kernel for something to wait on if there are several.
    pub(crate) fn new(all: Vec<Q>) -> Result<Self, Errno> {
        let bundle = if all.len() > 1 { Some(bundle(&all)?) } else { None };
        Ok(Self { all, turn: 0, bundle })
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The queue whose turn it is.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<&mut Q> {
        let turn = self.turn;
        self.turn = if turn + 1 < self.all.len() { turn + 1 } else { 0 };
        self.all.get_mut(turn)
    }

    /// The one that sends.
    #[inline]
    pub(crate) fn first(&self) -> Option<&Q> {
        self.all.first()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Q> {
        self.all.iter_mut()
    }

    /// Readable when one of them is.
    pub(crate) fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.bundle.as_ref().map(AsFd::as_fd).or_else(|| self.all.first().map(AsFd::as_fd))
    }
}

fn bundle(queues: &[impl AsFd]) -> Result<OwnedFd, Errno> {
    let bundle = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for queue in queues {
        epoll::add(&bundle, queue, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn each_has_its_turn_and_any_wakes() {
        let pipes = [pipe().unwrap(), pipe().unwrap(), pipe().unwrap()];
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let mut queues = Queues::new(readers).unwrap();
        let is_ready = |queues: &Queues<OwnedFd>| {
            let ready = queues.readiness().unwrap();
            poll(&mut [PollFd::from_borrowed_fd(ready, PollFlags::IN)], Some(&Timespec::default())).unwrap()
                == 1
        };
        assert!(!is_ready(&queues));
        rustix::io::write(&writers[1], b"x").unwrap();
        assert!(is_ready(&queues) && queues.len() == 3);
        let mut buffer = [0; 2];
        let mut got = Vec::new();
        for place in 0..6 {
            // Only the second has something, and its turn comes every third time.
            let queue = queues.next().unwrap();
            if place % 3 == 1 && is_ready(&queues_of(queue)) {
                got.push(rustix::io::read(queue, &mut buffer).unwrap());
            }
        }
        assert_eq!(got, [1]);
        assert!(!is_ready(&queues));
    }

    fn queues_of(queue: &OwnedFd) -> Queues<OwnedFd> {
        Queues::new(vec![queue.try_clone().unwrap()]).unwrap()
    }
}
