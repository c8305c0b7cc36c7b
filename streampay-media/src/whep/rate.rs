//! How often strangers may ask.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::limits::{Full, group};

/// A budget of requests for each household: an IPv4 address or an IPv6 network of 64 bits. All of
/// a minute's may come at once; they come back evenly over the next one.
///
/// ```
/// use streampay_media::whep::{Full, Rate};
///
/// let rate = Rate::per_minute(2);
/// let home = "192.0.2.1".parse()?;
/// assert_eq!((rate.admit(home), rate.admit(home)), (Ok(()), Ok(())));
/// assert_eq!(rate.admit(home), Err(Full::Address));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rate {
    /// How long one request takes to come back.
    each: Duration,
    /// When each household's budget is whole again.
    whole_at: Arc<Mutex<HashMap<IpAddr, Instant>>>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Rate {
    /// Households that are remembered. Those whose budget is whole are forgotten first.
    const HOUSEHOLDS_MAX: usize = 10_000;

    /// So many a minute for each household, at least one.
    #[must_use]
    pub fn per_minute(requests: u32) -> Self {
        Self {
            each: MINUTE / requests.max(1),
            whole_at: Arc::default(),
        }
    }

    /// Takes one from the budget of the caller at `address`.
    ///
    /// # Errors
    /// [`Full::Address`] where it is used up; [`Full::All`] where more households ask than can be
    /// told apart.
    pub fn admit(&self, address: IpAddr) -> Result<(), Full> {
        let (address, now) = (group(address), Instant::now());
        let mut households = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if households.len() >= Self::HOUSEHOLDS_MAX && !households.contains_key(&address) {
            households.retain(|_, whole_at| *whole_at > now);
            if households.len() >= Self::HOUSEHOLDS_MAX {
                return Err(Full::All);
            }
        }
        let whole_at = households.entry(address).or_insert(now);
        let after = (*whole_at).max(now) + self.each;
        if after.duration_since(now) > MINUTE {
            return Err(Full::Address);
        }
        *whole_at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_budget_comes_back_evenly_and_each_household_has_its_own() {
        let rate = Rate::per_minute(6);
        let ip = |text: &str| text.parse().unwrap();
        let mut taken = 0;
        while rate.admit(ip("2001:db8::1")).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 6);
        assert_eq!(rate.admit(ip("2001:db8::2")), Err(Full::Address));
        assert_eq!(rate.admit(ip("192.0.2.1")), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(rate.admit(ip("2001:db8::1")), Ok(()));
        assert_eq!(rate.admit(ip("2001:db8::1")), Err(Full::Address));
        tokio::time::advance(MINUTE * 60).await;
        taken = 0;
        while rate.admit(ip("2001:db8::1")).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 6, "no more than a minute's");
    }

    #[tokio::test(start_paused = true)]
    async fn households_are_forgotten_when_their_budget_is_whole() {
        let rate = Rate::per_minute(60);
        let most = u32::try_from(Rate::HOUSEHOLDS_MAX).unwrap();
        let ip = |at: u32| IpAddr::V4(at.into());
        for at in 0..most {
            assert_eq!(rate.admit(ip(at)), Ok(()));
        }
        assert_eq!(rate.admit(ip(most)), Err(Full::All));
        assert_eq!(
            rate.admit(ip(0)),
            Ok(()),
            "who is known is still told apart"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rate.admit(ip(most)), Ok(()));
        // That one, and the one that has asked twice.
        assert_eq!(rate.whole_at.lock().unwrap().len(), 2);
    }
}
