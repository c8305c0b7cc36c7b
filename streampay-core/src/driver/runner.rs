use async_trait::async_trait;

use crate::backend::{Effect, EffectResult};

/// Makes a method's network calls. Each must end within a bounded time: where no answer came, as
/// [`Unknown`](crate::backend::BackendError::Unknown) if the call may have had an effect, else as
/// [`Transient`](crate::backend::BackendError::Transient).
#[async_trait]
pub trait EffectRunner: Send + Sync + 'static {
    /// Runs `effect`. It may have run before, also before a crash; running it again must be
    /// harmless.
    async fn run(&self, effect: Effect) -> EffectResult;
}
