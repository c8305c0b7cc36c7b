//! A chain source that can be cut off for good, while others still reach the chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use streampay_btc::bitcoin::{Amount, OutPoint, Script, Transaction};
use streampay_btc::chain::{ChainError, ChainSource, ChainView, Watch};
use streampay_btc::machine::WalletCoin;
use streampay_btc::sim::SimChain;

/// The chain as the streamer reaches it.
pub(crate) struct Line {
    pub(crate) chain: SimChain,
    pub(crate) cut_off: Arc<AtomicBool>,
}

impl Line {
    fn chain(&self) -> Result<&SimChain, ChainError> {
        match self.cut_off.load(Ordering::SeqCst) {
            true => Err(ChainError::Away("cut off".into())),
            false => Ok(&self.chain),
        }
    }
}

#[async_trait]
impl ChainSource for Line {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.chain()?.view(watches).await
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        self.chain()?.find(script, value, since).await
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        self.chain()?.coins(script, since).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        self.chain()?.broadcast(tx).await
    }
}
