//! When the secondary sends which of its frames: behind the primary, some of them later than their turn.

use std::collections::VecDeque;

use super::random::Random;

/// The secondary's next frames.
#[derive(Debug)]
pub struct Order {
    /// The next pair whose turn has not come.
    next: u64,
    /// Pairs that were put off: at which turn they come, and which they are. In order of their turns.
    late: VecDeque<(u64, u64)>,
    chance: f64,
    depth: u64,
    random: Random,
}

/// A frame that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which pair it is of.
    pub pair: u64,
    /// Whose turn it is sent at: its own, or a later one.
    pub at: u64,
}

impl Order {
    /// Each frame comes `depth` turns late with this chance.
    pub fn new(chance: f64, depth: u32, seed: u64) -> Self {
        let random = Random::new(seed ^ 0x5eed);
        Self { next: 0, late: VecDeque::new(), chance, depth: depth.into(), random }
    }

    /// The next frame, if the turn of one of the first `due` pairs has come.
    pub fn next(&mut self, due: u64) -> Option<Turn> {
        loop {
            if let Some(&(at, pair)) = self.late.front()
                && at <= self.next
                && at <= due
            {
                self.late.pop_front();
                return Some(Turn { pair, at });
            }
            if self.next >= due {
                return None;
            }
            let pair = self.next;
            self.next += 1;
            if self.depth == 0 || !self.random.happens(self.chance) {
                return Some(Turn { pair, at: pair });
            }
            self.late.push_back((pair + self.depth, pair));
        }
    }

    /// The next frame of the first `all` pairs, whether or not its turn has come.
    pub fn hurry(&mut self, all: u64) -> Option<Turn> {
        self.next(all).or_else(|| self.late.pop_front().map(|(_, pair)| Turn { pair, at: pair }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_once_and_none_much_later_than_it_may() {
        let mut order = Order::new(0.2, 5, 3);
        let mut seen = Vec::new();
        for due in 1..=1000 {
            while let Some(turn) = order.next(due) {
                assert!(turn.pair < due && turn.at <= due, "{turn:?} of {due}");
                assert!(turn.at == turn.pair || turn.at == turn.pair + 5);
                seen.push(turn.pair);
            }
        }
        while let Some(turn) = order.hurry(1000) {
            seen.push(turn.pair);
        }
        assert!(seen.windows(2).any(|pair| pair[0] > pair[1]), "some came late");
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_chance_they_come_in_turn() {
        let mut order = Order::new(0.0, 5, 3);
        let pairs: Vec<_> = std::iter::from_fn(|| order.next(10)).map(|turn| turn.pair).collect();
        assert_eq!(pairs, (0..10).collect::<Vec<_>>());
        assert_eq!(order.hurry(10), None);
    }
}
