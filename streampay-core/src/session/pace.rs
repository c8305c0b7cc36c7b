//! When to say something again.

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
