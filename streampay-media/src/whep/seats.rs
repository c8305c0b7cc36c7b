//! How many watch at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seats for viewers. Each session, and each player that pays outside of one, has one while it is
/// connected; a session that lost its connection may keep it for a while.
///
/// ```
/// use streampay_media::whep::Seats;
///
/// let seats = Seats::new(1);
/// let mut seat = seats.take().expect("free");
/// assert!(seats.take().is_none() && seats.turns_away());
/// seat.set_away(true);
/// assert!(!seats.turns_away(), "who asks may be the one that is away");
/// # let _ = seat;
/// ```
#[derive(Clone, Debug)]
pub struct Seats {
    counts: Arc<Mutex<Counts>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Counts {
    taken: usize,
    away: usize,
}

/// One of the seats. Dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    away: bool,
}

/// As many as come.
impl Default for Seats {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Seats {
    /// So many, all of them free.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            counts: Arc::default(),
            most,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them; none where all are taken.
    #[must_use]
    pub fn take(&self) -> Option<Seat> {
        let mut counts = self.lock();
        if counts.taken >= self.most {
            return None;
        }
        counts.taken = counts.taken.saturating_add(1);
        drop(counts);
        Some(Seat {
            seats: self.clone(),
            away: false,
        })
    }

    /// Whether an offer is refused unseen: all seats are taken, and by viewers that are here, so
    /// that it cannot come from one that has a seat.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        let counts = self.lock();
        counts.taken >= self.most && counts.away == 0
    }
}

impl Seat {
    /// Says whether the viewer that has it lost its connection.
    pub fn set_away(&mut self, away: bool) {
        if core::mem::replace(&mut self.away, away) == away {
            return;
        }
        let mut counts = self.seats.lock();
        counts.away = if away {
            counts.away.saturating_add(1)
        } else {
            counts.away.saturating_sub(1)
        };
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.set_away(false);
        let mut counts = self.seats.lock();
        counts.taken = counts.taken.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_come_back_also_from_who_is_away() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().unwrap(), seats.take());
        let mut second = second.unwrap();
        assert!(seats.take().is_none() && seats.turns_away());
        second.set_away(true);
        second.set_away(true);
        assert!(seats.take().is_none() && !seats.turns_away());
        drop(second);
        let third = seats.take().unwrap();
        assert!(seats.turns_away());
        drop((first, third));
        let counts = seats.lock();
        assert_eq!((counts.taken, counts.away), (0, 0));
    }
}
