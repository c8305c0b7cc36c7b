//! Outputs by their script, in blocks and among what waits for one: the node has no index of
//! either, so each block and each transaction is read once.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;

use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, ScriptBuf, Transaction, Txid};
use serde_json::{Value, json};

use super::rpc::btc;
use super::{BitcoinCore, SCAN_MAX};
use crate::chain::ChainError;

/// The most scripts that are searched for at a time; then the one that was asked for longest ago begins anew.
const SEARCHES_MAX: usize = 16 * 1024;
/// The most waiting transactions that one call reads; the others are left to the next.
const WAITING_MAX: usize = 1_024;
/// The longest list of them, 67 bytes each: of the smallest transactions that fill a mempool of the usual
/// 300 MB, with room.
const MEMPOOL_MAX: usize = 128 * 1024 * 1024;
/// Blocks until a pruned node that did not say what is unspent is asked again: it reads all that is.
const SCAN_AGAIN: u32 = 6;

/// All searches, and what waits for a block, read once for all of them.
#[derive(Debug, Default)]
pub(super) struct Searches {
    blocks: HashMap<Key, Search>,
    waiting: Waiting,
    /// How often one was asked for.
    asked: u64,
}

/// A script and value; without one it is for all outputs to the script.
type Key = (ScriptBuf, Option<Amount>);

/// What is known of one script from blocks.
#[derive(Debug, Default)]
struct Search {
    /// The last block that was read.
    upto: Option<(u32, BlockHash)>,
    found: Vec<Found>,
    /// The node has pruned blocks that were to be read, and did not say what is unspent when it was asked at
    /// this height.
    missing: Option<u32>,
    /// When it was asked for last.
    asked: u64,
}

/// The outputs of waiting transactions that were read.
#[derive(Debug, Default)]
struct Waiting {
    read: HashMap<Txid, Vec<Output>>,
    /// With a key that nobody knows: no two scripts of anybody's are the same by it.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Output {
    script: u64,
    value: Amount,
    vout: u32,
}

impl Waiting {
    fn script(&self, script: &Script) -> u64 {
        self.hasher.hash_one(script.as_bytes())
    }

    fn take(&mut self, tx: &Transaction) {
        let outputs = (0_u32..).zip(&tx.output);
        let outputs = outputs.map(|(vout, output)| Output {
            script: self.script(&output.script_pubkey),
            value: output.value,
            vout,
        });
        self.read.insert(tx.compute_txid(), outputs.collect());
    }

    fn to(&self, script: &Script, value: Amount) -> Vec<Found> {
        let script = self.script(script);
        let all = self.read.iter().flat_map(|(txid, outputs)| {
            let fits = |of: &&Output| of.script == script && of.value == value;
            let found = |of: &Output| Found {
                outpoint: OutPoint::new(*txid, of.vout),
                value: of.value,
                height: None,
            };
            outputs.iter().filter(fits).map(found)
        });
        all.collect()
    }
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
        let mut searches = self.searches.lock().await;
        let key = (script.clone(), Some(value));
        self.read_blocks(&mut searches, &key, since).await?;
        let left = self.read_waiting(&mut searches.waiting).await;
        let waiting = searches.waiting.to(&script, value);
        searches.begun(&key).outputs(waiting, left)
    }

    /// Outputs to `script` of whatever value, in blocks from `since` on; and whether these are all that are
    /// unspent: blocks may be missing.
    pub(super) async fn in_blocks(
        &self,
        script: ScriptBuf,
        since: u32,
    ) -> Result<(Vec<Found>, bool), ChainError> {
        let mut searches = self.searches.lock().await;
        let key = (script, None);
        self.read_blocks(&mut searches, &key, since).await?;
        let search = searches.begun(&key);
        Ok((search.found.clone(), search.missing.is_none()))
    }

    /// Reads blocks for one search, and each for all others that stand at it.
    async fn read_blocks(
        &self,
        searches: &mut Searches,
        key: &Key,
        since: u32,
    ) -> Result<(), ChainError> {
        let (tip, _) = self.tip().await?;
        let search = searches.begun(key);
        // A block that was read is no more: what it held may be anywhere.
        if let Some((height, hash)) = search.upto
            && (height > tip || self.hash_at(height).await? != hash)
        {
            *search = Search::default();
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
            let before = height.checked_sub(1);
            let before = before.map(|before| (before, block.header.prev_blockhash));
            for (of, search) in &mut searches.blocks {
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
        waiting.read.retain(|txid, _| all.contains(txid));
        let is_new = |txid: &Txid| !waiting.read.contains_key(txid);
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

impl Searches {
    fn begun(&mut self, key: &Key) -> &mut Search {
        if self.blocks.len() >= SEARCHES_MAX && !self.blocks.contains_key(key) {
            let all = self.blocks.iter();
            let oldest = all
                .min_by_key(|(_, of)| of.asked)
                .map(|(key, _)| key.clone());
            oldest.map(|key| self.blocks.remove(&key));
        }
        self.asked = self.asked.saturating_add(1);
        let search = self.blocks.entry(key.clone()).or_default();
        search.asked = self.asked;
        search
    }
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

    /// With as many as there may be, all others go on, each from where it is.
    #[test]
    fn search_that_was_asked_for_longest_ago_makes_room_and_no_other() {
        let key = |number: usize| (ScriptBuf::from_bytes(number.to_be_bytes().into()), None);
        let mut searches = Searches::default();
        let known = |searches: &mut Searches, number| searches.begun(&key(number)).upto.is_some();
        for number in 0..SEARCHES_MAX {
            searches.begun(&key(number)).upto = Some((7, BlockHash::all_zeros()));
        }
        assert!(known(&mut searches, 0));
        assert!(!known(&mut searches, SEARCHES_MAX));
        assert_eq!(searches.blocks.len(), SEARCHES_MAX);
        assert!((2..SEARCHES_MAX).all(|number| known(&mut searches, number)));
        assert!(known(&mut searches, 0));
        assert!(!known(&mut searches, 1), "made room");
    }

    /// A full mempool is read in parts: what is not read yet may be the payment.
    #[test]
    fn that_nobody_paid_is_said_once_all_that_waits_is_read() {
        let mut search = Search::default();
        let reading = |done| matches!(done, Err(ChainError::Reading(_)));
        assert!(reading(search.outputs(vec![], Ok(1))));
        assert!(search.outputs(vec![], Ok(0)).unwrap().is_empty());
        let waiting = vec![found(1, None)];
        assert_eq!(search.outputs(waiting.clone(), Ok(9)).unwrap().len(), 1);
        search.found.push(found(1, Some(7)));
        assert_eq!(search.outputs(waiting, Ok(9)).unwrap().len(), 1, "the same");
    }
}
