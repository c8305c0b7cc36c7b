//! What is known of scripts from blocks: each block is read once for all that stand before it, and what nobody
//! asks for any more, as of channels that are settled, is let go.

use std::collections::{BTreeMap, HashMap};

use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf};

use super::Found;

/// The most scripts that are searched for at a time; then the one that was asked for longest ago begins anew.
pub(super) const SEARCHES_MAX: usize = 16 * 1024;
/// The most outputs that are kept of one, the largest: whoever knows an address can pay to it for ever.
pub(super) const FOUND_MAX: usize = 1_024;
/// What nobody asked for while the best block was another so many times is let go. What is looked for is asked
/// for at every block.
pub(super) const IDLE_TIPS: u64 = 12;

/// A script and value; without one it is for all outputs to the script.
pub(super) type Key = (ScriptBuf, Option<Amount>);
/// A block.
pub(super) type Place = (u32, BlockHash);

/// All searches.
#[derive(Debug, Default)]
pub(super) struct Searches {
    by_script: HashMap<ScriptBuf, BTreeMap<Option<Amount>, Search>>,
    /// The same, the one that was asked for longest ago first.
    in_order: BTreeMap<u64, Key>,
    /// How often one was asked for.
    asked: u64,
    /// The best block, and how often it was another.
    tip: Option<BlockHash>,
    tips: u64,
}

/// What is known of one script from blocks.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The last block that was read.
    pub(super) upto: Option<Place>,
    pub(super) found: Vec<Found>,
    /// The node has pruned blocks that were to be read, and did not say what is unspent when it was asked at
    /// this height.
    pub(super) missing: Option<u32>,
    /// When it was asked for last: its number, and that of the best block.
    asked: (u64, u64),
}

impl Search {
    fn add(&mut self, found: Found) {
        self.found.push(found);
        self.bound();
    }

    /// Keeps the largest, of the same value the oldest.
    pub(super) fn bound(&mut self) {
        while self.found.len() > FOUND_MAX {
            let all = self.found.iter().enumerate().rev();
            let smallest = all.min_by_key(|(_, of)| of.value);
            let Some(at) = smallest.map(|(at, _)| at) else {
                return;
            };
            self.found.remove(at);
        }
    }

    /// All that is known of its blocks is forgotten.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            asked: self.asked,
            ..Self::default()
        };
    }
}

impl Searches {
    /// The best block is this one: lets go what nobody asks for any more.
    pub(super) fn see(&mut self, tip: BlockHash) {
        if self.tip == Some(tip) {
            return;
        }
        self.tip = Some(tip);
        self.tips = self.tips.saturating_add(1);
        while let Some((_, key)) = self.in_order.first_key_value() {
            let asked = self.search(key).map_or(0, |search| search.asked.1);
            if asked.saturating_add(IDLE_TIPS) >= self.tips {
                return;
            }
            self.let_go_oldest();
        }
    }

    /// The search of that key, which is asked for now.
    pub(super) fn begun(&mut self, key: &Key) -> &mut Search {
        let known = self.search(key).map(|search| search.asked.0);
        match known {
            Some(before) => drop(self.in_order.remove(&before)),
            None if self.len() >= SEARCHES_MAX => self.let_go_oldest(),
            None => {}
        }
        self.asked = self.asked.saturating_add(1);
        self.in_order.insert(self.asked, key.clone());
        let of_script = self.by_script.entry(key.0.clone()).or_default();
        let search = of_script.entry(key.1).or_default();
        search.asked = (self.asked, self.tips);
        search
    }

    /// Reads a block for the search of that key, and for all others that stand at the one before.
    pub(super) fn take(&mut self, key: &Key, at: Place, block: &Block) {
        let before = at.0.checked_sub(1);
        let before = before.map(|height| (height, block.header.prev_blockhash));
        let reads = |script: &ScriptBuf, value: &Option<Amount>, search: &Search| {
            let asked = *script == key.0 && *value == key.1;
            asked || before.is_some() && search.upto == before
        };
        for tx in &block.txdata {
            for (vout, output) in (0_u32..).zip(&tx.output) {
                let script = &output.script_pubkey;
                let Some(of_script) = self.by_script.get_mut(script) else {
                    continue;
                };
                for (value, search) in of_script {
                    let pays = value.is_none_or(|value| value == output.value);
                    if pays && reads(script, value, search) {
                        search.add(Found {
                            outpoint: OutPoint::new(tx.compute_txid(), vout),
                            value: output.value,
                            height: Some(at.0),
                        });
                    }
                }
            }
        }
        for (script, of_script) in &mut self.by_script {
            for (value, search) in of_script {
                if reads(script, value, search) {
                    search.upto = Some(at);
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    fn search(&self, key: &Key) -> Option<&Search> {
        self.by_script.get(&key.0)?.get(&key.1)
    }

    fn let_go_oldest(&mut self) {
        let Some((_, (script, value))) = self.in_order.pop_first() else {
            return;
        };
        if let Some(of_script) = self.by_script.get_mut(&script) {
            of_script.remove(&value);
            if of_script.is_empty() {
                self.by_script.remove(&script);
            }
        }
    }
}
