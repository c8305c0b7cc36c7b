//! What one mint is asked at most, and patience with one that says "too many".

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use streampay_core::backend::BackendError;
use tokio::time::Instant;

tokio::task_local! {
    /// Set while an effect runs, where the mint answered 429.
    static BUSY: core::cell::Cell<bool>;
}

/// Effects a minute and mint. A mint limits requests by address (nutshell: 60 a minute, 20 of them
/// swaps), and an effect is one to five requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBudget {
    /// Effects in the long run.
    pub per_minute: u32,
    /// Effects at once, after a while without any.
    pub burst: u32,
}

impl CallBudget {
    const fn third(self) -> Self {
        Self {
            per_minute: self.per_minute.div_ceil(3),
            burst: self.burst.div_ceil(3),
        }
    }
}

/// Names a bucket beside a mint's own: no address has a space in it.
const STRANGERS: &str = "strangers";
/// How long a mint that said 429 is left alone at first, and at most; doubled in between.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// How far the budgets of all mints are used up.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    mints: Mutex<BTreeMap<String, Meter>>,
}

#[derive(Clone, Copy, Debug)]
struct Meter {
    /// When the bucket, were it to fill up from now, would be full.
    full_at: Instant,
    busy_until: Option<Instant>,
    backoff: Duration,
}

impl Pacer {
    /// How long to wait before the next effect at `mint`; it is counted at once. An error where
    /// that would be longer than `most`: nothing is counted then.
    fn admit(
        &self,
        mint: &str,
        budget: Option<CallBudget>,
        now: Instant,
        most: Duration,
    ) -> Result<Duration, BackendError> {
        let mut mints = self.mints.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = mints.entry(mint.to_owned()).or_insert(Meter {
            full_at: now,
            busy_until: None,
            backoff: FIRST,
        });
        if meter.busy_until.is_some_and(|until| now < until) {
            return Err(BackendError::Transient);
        }
        let Some(budget) = budget else {
            return Ok(Duration::ZERO);
        };
        let minute = Duration::from_secs(60);
        let each = minute
            .checked_div(budget.per_minute.max(1))
            .unwrap_or(minute);
        let bucket = each.saturating_mul(budget.burst.max(1));
        let full_at = meter.full_at.max(now) + each;
        let wait = full_at.duration_since(now).saturating_sub(bucket);
        if wait > most {
            return Err(BackendError::Transient);
        }
        meter.full_at = full_at;
        Ok(wait)
    }

    fn ended(&self, mint: &str, now: Instant, busy: bool) {
        let mut mints = self.mints.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(meter) = mints.get_mut(mint) else {
            return;
        };
        if busy {
            meter.busy_until = Some(now + meter.backoff);
            meter.backoff = meter.backoff.saturating_mul(2).min(LONGEST);
        } else {
            (meter.busy_until, meter.backoff) = (None, FIRST);
        }
    }

    /// The same for somebody who has paid nothing: within a third of the budget too.
    pub(crate) async fn pace_stranger<T>(
        &self,
        mint: &str,
        budget: Option<CallBudget>,
        most: Duration,
        work: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let share = budget.map(CallBudget::third);
        let wait = self.admit(&format!("{mint} {STRANGERS}"), share, Instant::now(), most)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let left = most.saturating_sub(wait);
        self.pace(mint, budget, left, work).await
    }

    /// Runs an effect at `mint` within its budget.
    pub(crate) async fn pace<T>(
        &self,
        mint: &str,
        budget: Option<CallBudget>,
        most: Duration,
        work: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let wait = self.admit(mint, budget, Instant::now(), most)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let run = async {
            let end = work.await;
            (end, BUSY.with(core::cell::Cell::get))
        };
        let (end, busy) = BUSY.scope(core::cell::Cell::new(false), run).await;
        self.ended(mint, Instant::now(), busy);
        end
    }
}

/// The mint answered 429 to a call of the effect that runs here.
pub(crate) fn note_busy() {
    let _ = BUSY.try_with(|busy| busy.set(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINT: &str = "https://mint.example";
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn budget_allows_a_burst_then_its_rate() {
        let pacer = Pacer::default();
        let budget = Some(CallBudget {
            per_minute: 60,
            burst: 3,
        });
        let admit = |mint, now, most| pacer.admit(mint, budget, now, most);
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| admit(MINT, now, 10 * S)).collect();
        let zero = Ok(Duration::ZERO);
        assert_eq!(waits, [zero, zero, zero, Ok(S), Ok(2 * S)]);
        assert_eq!(admit("https://other.example", now, S), zero);
        assert_eq!(admit(MINT, now, S), Err(BackendError::Transient));
        // What was refused is not counted.
        assert_eq!(admit(MINT, now + 2 * S, 10 * S), Ok(S));
        assert_eq!(admit(MINT, now + 60 * S, 10 * S), zero);
    }

    #[test]
    fn mint_that_says_too_many_is_left_alone_for_longer_each_time() {
        let pacer = Pacer::default();
        let mut now = Instant::now();
        let zero = Ok(Duration::ZERO);
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(pacer.admit(MINT, None, now, S), zero);
            pacer.ended(MINT, now, true);
            let wait = Duration::from_secs(wait);
            let early = pacer.admit(MINT, None, now + wait - S, S);
            assert_eq!(early, Err(BackendError::Transient));
            now += wait;
        }
        assert_eq!(pacer.admit(MINT, None, now, S), zero);
        pacer.ended(MINT, now, false);
        pacer.ended(MINT, now, true);
        assert_eq!(pacer.admit(MINT, None, now + 5 * S, S), zero);
    }

    #[tokio::test]
    async fn strangers_use_a_third_and_leave_the_rest() {
        let pacer = Pacer::default();
        let budget = Some(CallBudget {
            per_minute: 20,
            burst: 20,
        });
        let none = Duration::ZERO;
        let mut asked = 0;
        for _ in 0..50 {
            let work = async { Ok(()) };
            asked += u32::from(pacer.pace_stranger(MINT, budget, none, work).await.is_ok());
        }
        assert_eq!(asked, 7);
        for left in (0..13).rev() {
            let own = pacer.pace(MINT, budget, none, async { Ok(()) }).await;
            assert_eq!(own, Ok(()), "{left}");
        }
        let own = pacer.pace(MINT, budget, none, async { Ok(()) }).await;
        assert_eq!(own, Err(BackendError::Transient));
    }

    #[tokio::test]
    async fn busy_answer_is_seen_through_the_effect() {
        let pacer = Pacer::default();
        let busy = async {
            note_busy();
            Err::<(), _>(BackendError::Transient)
        };
        assert_eq!(
            pacer.pace(MINT, None, S, busy).await,
            Err(BackendError::Transient)
        );
        let next = pacer.pace(MINT, None, S, async { Ok(()) }).await;
        assert_eq!(next, Err(BackendError::Transient), "not even asked");
    }
}
