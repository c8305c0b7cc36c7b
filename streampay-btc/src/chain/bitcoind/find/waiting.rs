//! The outputs of transactions that wait for a block, by their script.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;

use bitcoin::{Amount, OutPoint, Script, Transaction, Txid};

use super::Found;

/// What was read of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The scripts that each pays to, in order.
    read: HashMap<Txid, Vec<u64>>,
    to: BTreeMap<(u64, Txid, u32), Amount>,
    /// With a key that nobody knows: no two scripts of anybody's are the same by it.
    hasher: RandomState,
}

impl Waiting {
    pub(super) fn has(&self, txid: &Txid) -> bool {
        self.read.contains_key(txid)
    }

    pub(super) fn take(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        let mut scripts = Vec::with_capacity(tx.output.len());
        for (vout, output) in (0_u32..).zip(&tx.output) {
            let script = self.script(&output.script_pubkey);
            self.to.insert((script, txid, vout), output.value);
            scripts.push(script);
        }
        self.read.insert(txid, scripts);
    }

    /// Forgets all that wait no more.
    pub(super) fn retain(&mut self, all: &HashSet<Txid>) {
        let to = &mut self.to;
        self.read.retain(|txid, scripts| {
            let stays = all.contains(txid);
            if !stays {
                for (vout, script) in (0_u32..).zip(scripts) {
                    to.remove(&(*script, *txid, vout));
                }
            }
            stays
        });
    }

    pub(super) fn paying(&self, script: &Script, value: Amount) -> Vec<Found> {
        let script = self.script(script);
        let all = self.to.range((script, least(), 0)..);
        let own = all.take_while(|((of, ..), _)| *of == script);
        let fits = own.filter(|(_, of)| **of == value);
        let found = fits.map(|((_, txid, vout), value)| Found {
            outpoint: OutPoint::new(*txid, *vout),
            value: *value,
            height: None,
        });
        found.collect()
    }

    fn script(&self, script: &Script) -> u64 {
        self.hasher.hash_one(script.as_bytes())
    }
}

fn least() -> Txid {
    use bitcoin::hashes::Hash as _;
    Txid::all_zeros()
}
