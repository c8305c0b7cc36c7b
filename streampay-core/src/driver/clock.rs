use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::session::Entropy;
use crate::units::{Mono, Now, Unix};

/// Both times, from this machine's clocks. The monotonic one is tokio's, so that tests can hold
/// it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// So much from now on, of which there is a day at least.
fn soon(after: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(after).unwrap_or(now)
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// What the core is told.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono: self.mono(),
            unix: Unix(unix.as_secs()),
        }
    }

    /// The instant of a monotonic time that the core named.
    #[must_use]
    pub fn instant(&self, at: Mono) -> Instant {
        // A moment too far away to be an instant is as good as a day away: it is asked for again.
        let day = Duration::from_secs(86_400);
        let later = Duration::from_millis(at.0);
        self.start.checked_add(later).unwrap_or_else(|| soon(day))
    }

    /// The instant at which the wall clock will say `at`, if nobody sets it.
    pub(super) fn instant_of(&self, at: Unix) -> Instant {
        let left = at.0.saturating_sub(self.now().unix.0);
        // A moment too far away to be an instant is as good as a day away: it is asked for again.
        let day = Duration::from_secs(86_400);
        soon(Duration::from_secs(left).min(day))
    }

    /// Waits until the wall clock says `at`, or until `instant`: neither a clock that was set nor a
    /// computer that slept makes it late by more than a minute.
    pub(super) async fn sleep_until(&self, at: Unix, instant: Instant) {
        let minute = Duration::from_secs(60);
        while self.now().unix < at && Instant::now() < instant {
            tokio::time::sleep_until(instant.min(soon(minute))).await;
        }
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// 32 bytes from the operating system's generator.
///
/// # Errors
/// Where the operating system has none to give.
pub fn entropy() -> std::io::Result<Entropy> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(Entropy(bytes))
}
