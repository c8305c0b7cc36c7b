//! One question to a mint for all who ask it at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use streampay_core::backend::BackendError;

/// What the time is, mint by mint.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<BTreeMap<String, Arc<Question>>>);

#[derive(Debug, Default)]
struct Question {
    /// How often it was answered.
    answered: AtomicU64,
    /// Held while it is asked.
    answer: tokio::sync::Mutex<Option<Result<u64, BackendError>>>,
}

impl Times {
    /// The answer to `asked`, or to the same question of somebody else that ends while this one waits.
    pub(super) async fn ask(
        &self,
        mint: &str,
        asked: impl Future<Output = Result<u64, BackendError>>,
    ) -> Result<u64, BackendError> {
        let question = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(mint.to_owned()).or_default().clone()
        };
        let before = question.answered.load(Ordering::SeqCst);
        let mut answer = question.answer.lock().await;
        if question.answered.load(Ordering::SeqCst) != before
            && let Some(known) = *answer
        {
            return known;
        }
        let end = asked.await;
        *answer = Some(end);
        question.answered.fetch_add(1, Ordering::SeqCst);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_at_once_share_an_answer() {
        let (times, asked) = (Times::default(), AtomicU64::new(0));
        let ask = |mint: &'static str| {
            times.ask(mint, async {
                tokio::task::yield_now().await;
                Ok(asked.fetch_add(1, Ordering::SeqCst))
            })
        };
        let (one, two, three, other) = tokio::join!(ask("a"), ask("a"), ask("a"), ask("b"));
        assert_eq!((one, two), (three, three));
        assert_ne!(one, other);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // Later it is asked again.
        assert_eq!(ask("a").await, Ok(2));
    }
}
