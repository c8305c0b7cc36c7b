//! What strangers may see for nothing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use streampay_core::units::Msat;
use tokio::time::Instant;

use super::limits::group;

/// Budgets of free previews for a day: for each household, an IPv4 address or an IPv6 network of 64 bits,
/// and for all of them. A restart forgets what was given. Spec: pricing 7.2.
///
/// ```
/// use streampay_core::units::Msat;
/// use streampay_media::whep::Previews;
///
/// let sat = |sat| Msat::from_sat(sat);
/// let previews = Previews::new(sat(3)?, sat(4)?);
/// let home = "192.0.2.1".parse()?;
/// let mut first = previews.take(home, sat(2)?);
/// assert_eq!(first.given(), sat(2)?);
/// assert_eq!(previews.take(home, sat(2)?).given(), sat(1)?);
/// first.used(sat(1)?);
/// drop(first);
/// assert_eq!(previews.take(home, sat(9)?).given(), sat(2)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Previews {
    given: Arc<Mutex<Given>>,
    per_household: Msat,
    in_all: Msat,
}

#[derive(Debug)]
struct Given {
    households: HashMap<IpAddr, Msat>,
    all: Msat,
    /// When this day began.
    since: Instant,
    /// Which day it is: what comes back from an earlier one is not counted any more.
    day: u64,
}

/// What one session may show for nothing. Dropped, it gives back what was not [used](Self::used).
#[derive(Debug)]
pub struct Preview {
    previews: Previews,
    address: IpAddr,
    day: u64,
    given: Msat,
    used: Msat,
}

const DAY: Duration = Duration::from_secs(86_400);
/// Households that are remembered; while there are so many, others get nothing.
const HOUSEHOLDS_MAX: usize = 10_000;

impl Previews {
    /// Nobody has used any of it.
    #[must_use]
    pub fn new(per_household: Msat, in_all: Msat) -> Self {
        let given = Given {
            households: HashMap::new(),
            all: Msat::ZERO,
            since: Instant::now(),
            day: 0,
        };
        Self {
            given: Arc::new(Mutex::new(given)),
            per_household,
            in_all,
        }
    }

    /// As much of `wanted` as both budgets have, for a caller at `address`.
    #[must_use]
    pub fn take(&self, address: IpAddr, wanted: Msat) -> Preview {
        let address = group(address);
        let mut given = self.lock();
        if given.since.elapsed() >= DAY {
            given.households.clear();
            given.all = Msat::ZERO;
            given.since = Instant::now();
            given.day = given.day.wrapping_add(1);
        }
        let known = given.households.get(&address).copied();
        let here = known.unwrap_or_default();
        let left = self.per_household.saturating_minus(here);
        let left = left.min(self.in_all.saturating_minus(given.all));
        let full = known.is_none() && given.households.len() >= HOUSEHOLDS_MAX;
        let share = if full { Msat::ZERO } else { wanted.min(left) };
        if !share.is_zero() {
            given.all = given.all.saturating_plus(share);
            given
                .households
                .insert(address, here.saturating_plus(share));
        }
        let day = given.day;
        drop(given);
        Preview {
            previews: self.clone(),
            address,
            day,
            given: share,
            used: Msat::ZERO,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Preview {
    /// What may be seen.
    #[must_use]
    pub const fn given(&self) -> Msat {
        self.given
    }

    /// What was seen and not paid for, as
    /// [`PayeeSession::preview_used`](streampay_core::session::PayeeSession::preview_used) says.
    pub fn used(&mut self, used: Msat) {
        self.used = used.min(self.given);
    }
}

impl Drop for Preview {
    fn drop(&mut self) {
        let back = self.given.saturating_minus(self.used);
        let mut given = self.previews.lock();
        if back.is_zero() || given.day != self.day {
            return;
        }
        given.all = given.all.saturating_minus(back);
        if let Some(here) = given.households.get_mut(&self.address) {
            *here = here.saturating_minus(back);
            if here.is_zero() {
                given.households.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "2001:db8::1";

    fn previews() -> Previews {
        Previews::new(sat(10), sat(25))
    }

    fn sat(sat: u64) -> Msat {
        Msat::from_sat(sat).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Over and over, also at once, and with other addresses of the same network.
    #[tokio::test(start_paused = true)]
    async fn freeloaders_get_their_households_budget_and_all_of_them_the_one_for_all() {
        let previews = previews();
        let seen_by = |addresses: [&str; 2]| {
            let mut seen = Msat::ZERO;
            for at in 0..20 {
                let both =
                    [0, 1].map(|of: usize| previews.take(ip(addresses[(of + at) % 2]), sat(4)));
                for mut of in both {
                    of.used(of.given());
                    seen = seen.saturating_plus(of.given());
                }
            }
            seen
        };
        assert_eq!(seen_by([HOME, "2001:db8::ffff"]), sat(10));
        assert_eq!(seen_by(["192.0.2.1", "192.0.2.1"]), sat(10));
        assert_eq!(seen_by(["192.0.2.2", "192.0.2.3"]), sat(5));
        assert_eq!(previews.take(ip("192.0.2.4"), sat(1)).given(), Msat::ZERO);
        tokio::time::advance(DAY).await;
        assert_eq!(seen_by([HOME, HOME]), sat(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_paid_for_comes_back_but_not_into_another_day() {
        let previews = previews();
        let mut paid = previews.take(ip(HOME), sat(10));
        paid.used(sat(10));
        paid.used(sat(3));
        drop(paid);
        assert_eq!(previews.lock().all, sat(3));
        let late = previews.take(ip(HOME), sat(7));
        tokio::time::advance(DAY).await;
        let next = previews.take(ip(HOME), sat(10));
        assert_eq!((late.given(), next.given()), (sat(7), sat(10)));
        drop(late);
        assert_eq!(previews.take(ip(HOME), sat(1)).given(), Msat::ZERO);
        drop(next);
        let given = previews.lock();
        assert!(given.households.is_empty() && given.all.is_zero());
    }
}
