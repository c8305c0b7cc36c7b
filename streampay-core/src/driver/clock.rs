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
        self.start
            .checked_add(later)
            .unwrap_or_else(|| Instant::now() + day)
    }

    /// Waits until the wall clock says `at`. It looks once a minute, so that a clock that was set,
    /// or a computer that slept, delays nobody for long.
    pub(super) async fn sleep_until(&self, at: Unix) {
        loop {
            let left = at.0.saturating_sub(self.now().unix.0);
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(left.min(60))).await;
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
