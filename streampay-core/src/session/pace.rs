//! When to say something again, and how often something may come.

use crate::units::Mono;

/// How long to wait before each repetition, in milliseconds: 2, 4, 8 s, and 8 s ever after.
/// Spec: session 9.1.
const STEPS_MS: [u64; 3] = [2_000, 4_000, 8_000];

/// A growing pause between repetitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    next: Mono,
    repeated: u8,
}

impl Backoff {
    /// Said for the first time at `now`.
    pub(super) fn start(now: Mono) -> Self {
        Self {
            next: now.after_ms(STEPS_MS[0]),
            repeated: 0,
        }
    }

    /// True when it is time to say it again; counts that repetition.
    pub(super) fn due(&mut self, now: Mono) -> bool {
        if now < self.next {
            return false;
        }
        self.repeated = self.repeated.saturating_add(1);
        let step = STEPS_MS.get(usize::from(self.repeated)).or(STEPS_MS.last());
        self.next = now.after_ms(step.copied().unwrap_or_default());
        true
    }

    /// When it will be time.
    pub(super) const fn at(&self) -> Mono {
        self.next
    }

    /// True where every step was waited for in vain.
    pub(super) fn is_overdue(&self) -> bool {
        usize::from(self.repeated) >= STEPS_MS.len()
    }
}

/// How often something may come: one in so many milliseconds on average, and a burst.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// When all that came is forgotten.
    free_at: Mono,
}

impl Pace {
    /// True where one more may come, and counts it.
    pub(crate) fn take(&mut self, now: Mono, every_ms: u64, burst: u64) -> bool {
        let ahead = self.free_at.since_ms(now);
        let most = every_ms.saturating_mul(burst.saturating_sub(1));
        let fits = ahead <= most;
        if fits {
            self.free_at = self.free_at.max(now).after_ms(every_ms);
        }
        fits
    }

    /// True where nothing that came counts any more.
    pub(crate) fn is_free(self, now: Mono) -> bool {
        self.free_at <= now
    }
}
