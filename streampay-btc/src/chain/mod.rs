//! Where blocks come from: the chain as its source sees it, and a trait for sources.

#[cfg(feature = "bitcoind")]
mod bitcoind;
#[cfg(feature = "esplora")]
mod esplora;
#[cfg(any(feature = "bitcoind", feature = "esplora"))]
mod http;
mod view;

#[cfg(feature = "bitcoind")]
pub use bitcoind::{BitcoinCore, RpcAuth};
#[cfg(feature = "esplora")]
pub use esplora::Esplora;
pub use view::{ChainView, FeeTable, OutputState, Parent, Seen, Spend, Watch};

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Script, Transaction};

use crate::machine::WalletCoin;

/// How often a look is begun that blocks spoil, one after another.
#[cfg(any(feature = "bitcoind", feature = "esplora"))]
const LOOKS: usize = 3;
#[cfg(any(feature = "bitcoind", feature = "esplora"))]
const BLOCKS_CAME: &str = "blocks came while looking";

/// Why a chain source could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It does not answer, or not in time. Later, the same again.
    #[error("the chain source does not answer: {0}")]
    Away(String),
    /// It has not read everything yet, and goes on where it is asked again.
    #[error("the chain source has not read everything yet: {0}")]
    Reading(String),
    /// It answered something that cannot be.
    #[error("the chain source answers nonsense: {0}")]
    Nonsense(String),
    /// It has not kept all blocks that were to be read. In those that it has are these coins.
    #[error("the chain source has not kept all blocks that are to be read")]
    Pruned(Vec<WalletCoin>),
    /// It is on another chain.
    #[error("the chain source is on another network")]
    Network,
    /// The node does not take the transaction, for this reason in its own words.
    #[error("the transaction is refused: {0}")]
    Refused(String),
}

/// One's own view of the chain. Nobody else's word is taken for it: it must be a node that one
/// trusts.
#[async_trait]
pub trait ChainSource: Send + Sync + 'static {
    /// The chain now: height, fees, and the state of the outputs asked for. An output that cannot
    /// be looked at is left out, and said so in the log: it keeps nobody from the others.
    ///
    /// # Errors
    /// [`ChainError`]; nothing may be concluded then, least of all that an output is unspent.
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError>;

    /// One output, apart from all that is watched, and the height of the best block: for what a
    /// stranger names. None where it does not exist, or is spent for long.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn output(&self, watch: &Watch) -> Result<(u32, Option<Seen>), ChainError> {
        let view = self.view(core::slice::from_ref(watch)).await?;
        let mut outputs = view.outputs.into_iter();
        let state = outputs.find(|state| state.outpoint == watch.outpoint);
        let state = state.ok_or_else(|| ChainError::Away("an output was left out".into()))?;
        Ok((view.tip, state.seen))
    }

    /// Outputs to `script` of exactly `value` that are in a block from `since` on, or wait for
    /// one; the deepest first. That there is none may only be said where
    /// all of them were read.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Reading`] where there was no time to read all.
    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError>;

    /// Outputs to `script` of whatever value that are in a block from `since` on and that nothing
    /// spends, in a block or waiting for one.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Pruned`] with those that it knows of.
    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError>;

    /// Hands a transaction to the network. Once it is there, or in a block, the same again is no
    /// error.
    ///
    /// # Errors
    /// [`ChainError::Refused`] where the node does not take it.
    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError>;

    /// Hands transactions to the network that are judged together: parents first, the last spends
    /// outputs of all others and pays for them. A parent may pay less than what nodes relay. A
    /// source that knows no packages hands over one after the other; then such a parent is refused.
    /// Source: BIP 331, BIP 431.
    ///
    /// # Errors
    /// [`ChainError::Refused`] where the node does not take the last one, in its own words.
    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        one_by_one(self, package, "no packages here").await
    }
}

/// Each by itself, whatever becomes of those before the last: they may be in a block. `why` says
/// why they are not handed over together.
async fn one_by_one<C: ChainSource + ?Sized>(
    source: &C,
    package: &[Transaction],
    why: &str,
) -> Result<(), ChainError> {
    let mut refused = Vec::new();
    let mut last = Ok(());
    for tx in package {
        last = source.broadcast(tx).await;
        match &last {
            Ok(()) => {}
            Err(ChainError::Refused(own)) => refused.push(own.clone()),
            Err(error) => return Err(error.clone()),
        }
    }
    last.map_err(|_| ChainError::Refused(format!("{why}: {}", refused.join("; "))))
}

#[async_trait]
impl<C: ChainSource + ?Sized> ChainSource for Arc<C> {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        (**self).view(watches).await
    }

    async fn output(&self, watch: &Watch) -> Result<(u32, Option<Seen>), ChainError> {
        (**self).output(watch).await
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        (**self).find(script, value, since).await
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        (**self).coins(script, since).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        (**self).broadcast(tx).await
    }

    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        (**self).broadcast_package(package).await
    }
}
