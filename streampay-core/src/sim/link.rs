//! A link in virtual time: what is sent arrives later, never, twice, or in another order.

use alloc::collections::BTreeMap;

use bytes::Bytes;

use super::Rng;
use crate::units::Mono;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the payer.
    ToPayee,
    /// From the payee.
    ToPayer,
}

/// What the link does to the next messages, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// So many are lost.
    pub lose: u8,
    /// So many come twice, the second time up to 2 s later.
    pub repeat: u8,
    /// So many come up to 3 s late, and so are overtaken.
    pub delay: u8,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct SimLink {
    in_flight: BTreeMap<(Mono, u64), (Direction, Bytes)>,
    sent: u64,
    pub(super) weather: Weather,
}

/// One way, in milliseconds, in fair weather.
const DELAY_MS: u64 = 20;

impl SimLink {
    pub(super) fn send(&mut self, now: Mono, rng: &mut Rng, to: Direction, bytes: &Bytes) {
        let fair = now.after_ms(DELAY_MS);
        if take_one(&mut self.weather.lose) {
            return;
        }
        if take_one(&mut self.weather.repeat) {
            self.put(fair.after_ms(rng.next() % 2_000), to, bytes);
        }
        let late = take_one(&mut self.weather.delay);
        self.put(
            if late {
                fair.after_ms(rng.next() % 3_000)
            } else {
                fair
            },
            to,
            bytes,
        );
    }

    pub(super) fn next_at(&self) -> Option<Mono> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn arrive(&mut self, now: Mono) -> Option<(Direction, Bytes)> {
        let first = self
            .in_flight
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    pub(super) fn drop_all(&mut self) {
        self.in_flight.clear();
    }

    fn put(&mut self, at: Mono, to: Direction, bytes: &Bytes) {
        self.sent = self.sent.saturating_add(1);
        self.in_flight.insert((at, self.sent), (to, bytes.clone()));
    }
}

fn take_one(count: &mut u8) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}
