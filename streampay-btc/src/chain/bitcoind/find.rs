//! Outputs by their script, in blocks and among what waits for one: the node has no index of
//! either, so each block and each transaction is read once.

mod searches;
mod waiting;

use std::collections::HashSet;

use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use serde_json::{Value, json};

use self::searches::{Key, Search, Searches};
use self::waiting::Waiting;
use super::rpc::btc;
use super::{BitcoinCore, SCAN_MAX};
use crate::chain::ChainError;

/// The most waiting transactions that one call reads; the others are left to the next.
const WAITING_MAX: usize = 1_024;
/// The longest list of them, 67 bytes each: of the smallest transactions that fill a mempool of the usual
/// 300 MB, with room.
const MEMPOOL_MAX: usize = 128 * 1024 * 1024;
/// Blocks until a pruned node that did not say what is unspent is asked again: it reads all that is.
const SCAN_AGAIN: u32 = 6;

/// All searches, and what waits for a block, read once for all of them.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    searches: Searches,
    waiting: Waiting,
}

impl Search {
    /// What was found, with what waits, where so many transactions that wait are `left` to be read. Where
    /// nothing was found, nothing can be said before all are: least of all that nobody paid.
    fn outputs(
        &self,
        waiting: Vec<Found>,
        left: Result<usize, ChainError>,
    ) -> Result<Vec<Found>, ChainError> {
        let mut all = self.found.clone();
        let is_new = |of: &Found| self.found.iter().all(|known| known.outpoint != of.outpoint);
        all.extend(waiting.into_iter().filter(is_new));
        match left {
            Ok(1..) if all.is_empty() => {
                let left = left.unwrap_or_default();
                let what = format!("{left} of the transactions that wait are left");
                Err(ChainError::Reading(what))
            }
            Err(error) if self.found.is_empty() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "what waits for a block is not searched");
                Ok(all)
            }
            Ok(_) => Ok(all),
        }
    }
}

/// An output to a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) outpoint: OutPoint,
    pub(super) value: Amount,
    /// The block with it; none while it waits for one.
    pub(super) height: Option<u32>,
}

impl BitcoinCore {
    /// Outputs to `script` of exactly `value`, in blocks from `since` on first.
    pub(super) async fn search(
        &self,
        script: ScriptBuf,
        value: Amount,
        since: u32,
    ) -> Result<Vec<Found>, ChainError> {
        let mut outputs = self.outputs.lock().await;
        let key = (script.clone(), Some(value));
        self.read_blocks(&mut outputs.searches, &key, since).await?;
        let left = self.read_waiting(&mut outputs.waiting).await;
        let waiting = outputs.waiting.paying(&script, value);
        outputs.searches.begun(&key).outputs(waiting, left)
    }

    /// Outputs to `script` of whatever value, in blocks from `since` on; and whether these are all that are
    /// unspent: blocks may be missing.
    pub(super) async fn in_blocks(
        &self,
        script: ScriptBuf,
        since: u32,
    ) -> Result<(Vec<Found>, bool), ChainError> {
        let mut outputs = self.outputs.lock().await;
        let key = (script, None);
        self.read_blocks(&mut outputs.searches, &key, since).await?;
        let search = outputs.searches.begun(&key);
        Ok((search.found.clone(), search.missing.is_none()))
    }

    /// Reads blocks for one search, and each for all others that stand at it.
    async fn read_blocks(
        &self,
        searches: &mut Searches,
        key: &Key,
        since: u32,
    ) -> Result<(), ChainError> {
        let (tip, hash) = self.tip().await?;
        searches.see(hash);
        let search = searches.begun(key);
        // A block that was read is no more: what it held may be anywhere.
        if let Some((height, hash)) = search.upto
            && (height > tip || self.hash_at(height).await? != hash)
        {
            search.begin_anew();
        }
        // What was spent counts too where a funding is looked for.
        let again = |tried: u32| tip >= tried.saturating_add(SCAN_AGAIN);
        let begins = search.upto.is_none() || search.missing.is_some_and(again);
        if begins && key.1.is_none() {
            self.begin_pruned(search, &key.0, since, tip).await?;
        }
        let next = |(height, _): (u32, _)| height.saturating_add(1);
        let first = search.upto.map_or(since, next);
        let last = tip.min(first.saturating_add(SCAN_MAX));
        for height in first..=last {
            let hash = self.hash_at(height).await?;
            let block = self.block(hash).await?;
            searches.take(key, (height, hash), &block);
        }
        if last < tip {
            return Err(ChainError::Away("still reading blocks".into()));
        }
        Ok(())
    }

    /// Where the node has pruned blocks from `since` on: what is unspent it knows all the same. Where it
    /// does not say so in time, the search goes through the blocks that it has, and is not whole.
    async fn begin_pruned(
        &self,
        search: &mut Search,
        script: &ScriptBuf,
        since: u32,
        tip: u32,
    ) -> Result<(), ChainError> {
        let kept = self.kept_from().await?;
        if since >= kept {
            return Ok(());
        }
        match self.scan_unspent(script).await {
            Ok((at, unspent)) => {
                let fits = |of: &Found| of.height >= Some(since);
                search.found = unspent.into_iter().filter(fits).collect();
                search.bound();
                (search.upto, search.missing) = (Some(at), None);
            }
            Err(error) => {
                tracing::warn!(%error, kept, "the node has pruned blocks: what they pay is not found");
                search.missing = Some(tip);
                if search.upto.is_none() {
                    let before = kept.saturating_sub(1);
                    search.upto = Some((before, self.hash_at(before).await?));
                }
            }
        }
        Ok(())
    }

    /// All that is unspent to a script, and the block as of which it is.
    async fn scan_unspent(
        &self,
        script: &ScriptBuf,
    ) -> Result<((u32, BlockHash), Vec<Found>), ChainError> {
        let script = format!("raw({})", script.to_hex_string());
        let all = self.rpc("scantxoutset", json!(["start", [script]])).await?;
        let height = |of: &Value| u32::try_from(of.get("height")?.as_u64()?).ok();
        let text = |of: &Value, name: &str| Some(of.get(name)?.as_str()?.to_owned());
        let found = |of: &Value| {
            let vout = u32::try_from(of.get("vout")?.as_u64()?).ok()?;
            Some(Found {
                outpoint: OutPoint::new(text(of, "txid")?.parse().ok()?, vout),
                value: btc(of.get("amount")?)?,
                height: Some(height(of)?),
            })
        };
        let read = || {
            let at = (height(&all)?, text(&all, "bestblock")?.parse().ok()?);
            let unspent = all.get("unspents")?.as_array()?.iter();
            Some((at, unspent.map(found).collect::<Option<_>>()?))
        };
        read().ok_or_else(|| ChainError::Nonsense("scantxoutset".into()))
    }

    /// How many are left to be read.
    async fn read_waiting(&self, waiting: &mut Waiting) -> Result<usize, ChainError> {
        let all = self.rpc_up_to(MEMPOOL_MAX, "getrawmempool", json!([]));
        let all = all.await?;
        let all = all.as_array().into_iter().flatten();
        let all = all.filter_map(|txid| txid.as_str()?.parse().ok());
        let all: HashSet<Txid> = all.collect();
        waiting.retain(&all);
        let is_new = |txid: &Txid| !waiting.has(txid);
        let new: Vec<Txid> = all.into_iter().filter(is_new).collect();
        let left = new.len().saturating_sub(WAITING_MAX);
        for txid in new.into_iter().take(WAITING_MAX) {
            // Gone since: replaced, or in the next block.
            if let Some(tx) = self.raw(txid).await? {
                waiting.take(&tx);
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
