//! Outputs by their script, in blocks and among what waits for one: the node has no index of
//! either, so each block and each transaction is read once.

use std::collections::{HashMap, HashSet};

use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use serde_json::{Value, json};

use super::rpc::btc;
use super::{BitcoinCore, SCAN_MAX};
use crate::chain::ChainError;

/// The most scripts that are searched for at a time; with more all begin anew.
const SEARCHES_MAX: usize = 256;
/// The most waiting transactions that one call reads; the others are left to the next.
const WAITING_MAX: usize = 1_024;
/// The longest list of them, 67 bytes each: of the smallest transactions that fill a mempool of the usual
/// 300 MB, with room.
const MEMPOOL_MAX: usize = 128 * 1024 * 1024;

/// All searches, by script and value; without one they are for all outputs to the script.
pub(super) type Searches = HashMap<Key, Search>;
type Key = (ScriptBuf, Option<Amount>);

/// What is known of one script.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The last block that was read.
    upto: Option<(u32, BlockHash)>,
    found: Vec<Found>,
    /// Waiting transactions that were read.
    read: HashSet<Txid>,
    waiting: Vec<Found>,
}

impl Search {
    /// What the next block holds.
    fn take(&mut self, (script, value): &Key, at: (u32, BlockHash), block: &Block) {
        let found = block.txdata.iter();
        let found = found.flat_map(|tx| outputs_to(tx, script, *value));
        self.found.extend(found.map(|of| Found {
            height: Some(at.0),
            ..of
        }));
        self.upto = Some(at);
    }

    /// What was found, where so many transactions that wait are `left` to be read. Where nothing was
    /// found, nothing can be said before all are: least of all that nobody paid.
    fn outputs(&self, left: Result<usize, ChainError>) -> Result<Vec<Found>, ChainError> {
        let mut all = self.found.clone();
        let is_new = |of: &&Found| all.iter().all(|known| known.outpoint != of.outpoint);
        let waiting: Vec<Found> = self.waiting.iter().filter(is_new).copied().collect();
        all.extend(waiting);
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
        let mut searches = self.searches.lock().await;
        let value = Some(value);
        let key = (script.clone(), value);
        self.read_blocks(&mut searches, &key, since).await?;
        let search = begun(&mut searches, &key);
        let pays = |tx: &Transaction| outputs_to(tx, &script, value);
        let left = self.read_waiting(search, pays).await;
        search.outputs(left)
    }

    /// Outputs to `script` of whatever value, in blocks from `since` on.
    pub(super) async fn in_blocks(
        &self,
        script: ScriptBuf,
        since: u32,
    ) -> Result<Vec<Found>, ChainError> {
        let mut searches = self.searches.lock().await;
        let key = (script, None);
        self.read_blocks(&mut searches, &key, since).await?;
        Ok(begun(&mut searches, &key).found.clone())
    }

    /// Reads blocks for one search, and each for all others that stand at it.
    async fn read_blocks(
        &self,
        searches: &mut Searches,
        key: &Key,
        since: u32,
    ) -> Result<(), ChainError> {
        let (tip, _) = self.tip().await?;
        let search = begun(searches, key);
        // A block that was read is no more: what it held may be anywhere.
        if let Some((height, hash)) = search.upto
            && (height > tip || self.hash_at(height).await? != hash)
        {
            *search = Search::default();
        }
        // What was spent counts too where a funding is looked for.
        if search.upto.is_none() && key.1.is_none() {
            self.begin_pruned(search, &key.0, since).await?;
        }
        let next = |(height, _): (u32, _)| height.saturating_add(1);
        let first = search.upto.map_or(since, next);
        let last = tip.min(first.saturating_add(SCAN_MAX));
        for height in first..=last {
            let hash = self.hash_at(height).await?;
            let block = self.block(hash).await?;
            let before = height.checked_sub(1);
            let before = before.map(|before| (before, block.header.prev_blockhash));
            for (of, search) in searches.iter_mut() {
                if of == key || before.is_some() && search.upto == before {
                    search.take(of, (height, hash), &block);
                }
            }
        }
        if last < tip {
            return Err(ChainError::Away("still reading blocks".into()));
        }
        Ok(())
    }

    /// Where the node has pruned blocks from `since` on: what is unspent it knows all the same. Where it
    /// does not say so in time, the search begins with the blocks that it has.
    async fn begin_pruned(
        &self,
        search: &mut Search,
        script: &ScriptBuf,
        since: u32,
    ) -> Result<(), ChainError> {
        let kept = self.kept_from().await?;
        if since >= kept {
            return Ok(());
        }
        match self.scan_unspent(script).await {
            Ok((at, unspent)) => {
                let fits = |of: &Found| of.height >= Some(since);
                search.found = unspent.into_iter().filter(fits).collect();
                search.upto = Some(at);
            }
            Err(error) => {
                tracing::warn!(%error, kept, "the node has pruned blocks: what they pay is not found");
                let before = kept.saturating_sub(1);
                search.upto = Some((before, self.hash_at(before).await?));
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
    async fn read_waiting(
        &self,
        search: &mut Search,
        pays: impl Fn(&Transaction) -> Vec<Found>,
    ) -> Result<usize, ChainError> {
        let all = self.rpc_up_to(MEMPOOL_MAX, "getrawmempool", json!([]));
        let all = all.await?;
        let all = all.as_array().into_iter().flatten();
        let all = all.filter_map(|txid| txid.as_str()?.parse().ok());
        let all: HashSet<Txid> = all.collect();
        search.read.retain(|txid| all.contains(txid));
        search.waiting.retain(|of| all.contains(&of.outpoint.txid));
        let new: Vec<Txid> = all.difference(&search.read).copied().collect();
        let left = new.len().saturating_sub(WAITING_MAX);
        for txid in new.into_iter().take(WAITING_MAX) {
            // Gone since: replaced, or in the next block.
            if let Some(tx) = self.raw(txid).await? {
                search.waiting.extend(pays(&tx));
                search.read.insert(txid);
            }
        }
        Ok(left)
    }
}

fn begun<'a>(searches: &'a mut Searches, key: &Key) -> &'a mut Search {
    if searches.len() >= SEARCHES_MAX && !searches.contains_key(key) {
        searches.clear();
    }
    searches.entry(key.clone()).or_default()
}

fn outputs_to(tx: &Transaction, script: &ScriptBuf, value: Option<Amount>) -> Vec<Found> {
    let fits = |output: &bitcoin::TxOut| value.is_none_or(|value| output.value == value);
    let pays = |output: &bitcoin::TxOut| fits(output) && output.script_pubkey == *script;
    let paying = (0_u32..).zip(&tx.output).filter(|(_, output)| pays(output));
    let of = |(vout, output): (u32, &bitcoin::TxOut)| Found {
        outpoint: OutPoint::new(tx.compute_txid(), vout),
        value: output.value,
        height: None,
    };
    paying.map(of).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn found(byte: u8, height: Option<u32>) -> Found {
        Found {
            outpoint: OutPoint::new(Txid::from_byte_array([byte; 32]), 0),
            value: Amount::from_sat(1),
            height,
        }
    }

    /// As many as there may be go on, each from where it is.
    #[test]
    fn search_that_is_known_begins_nothing_anew() {
        let key = |number: u8| (ScriptBuf::from_bytes(vec![number]), None);
        let mut searches = Searches::new();
        for number in 0..=u8::MAX {
            begun(&mut searches, &key(number)).upto = Some((7, BlockHash::all_zeros()));
        }
        assert_eq!(searches.len(), SEARCHES_MAX);
        assert!(begun(&mut searches, &key(3)).upto.is_some());
        assert_eq!(searches.len(), SEARCHES_MAX);
        begun(&mut searches, &(ScriptBuf::new(), None));
        assert_eq!(searches.len(), 1, "all begin anew");
    }

    /// A full mempool is read in parts: what is not read yet may be the payment.
    #[test]
    fn that_nobody_paid_is_said_once_all_that_waits_is_read() {
        let mut search = Search::default();
        let reading = |done| matches!(done, Err(ChainError::Reading(_)));
        assert!(reading(search.outputs(Ok(1))));
        assert!(search.outputs(Ok(0)).unwrap().is_empty());
        search.waiting.push(found(1, None));
        assert_eq!(search.outputs(Ok(9)).unwrap().len(), 1);
        search.found.push(found(1, Some(7)));
        assert_eq!(search.outputs(Ok(9)).unwrap().len(), 1, "the same");
    }
}
