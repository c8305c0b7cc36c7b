//! The fee wallet: coins of the payee's own that pay for a close what its channels may not. It has
//! one key, of the node's seed, and no change: what is left of a coin goes to the payout. It holds no
//! secret of anybody's money but its own, and never touches what a payer gets. Spec: bitcoin 5.4.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use minicbor::{Decode, Encode};
use streampay_core::backend::RestoredPurse;
use streampay_core::store::{ChangeSet, Key};

use super::FINAL_DEPTH;
use crate::chain::{ChainView, Seen, Watch};
use crate::keys::{ChannelSecret, KeyError, NodeKeys, Seed, secp};
use crate::machine::payee::COINBASE_DEPTH;
use crate::machine::{Action, Chain, ChannelMachine, Inner, record};
use crate::tx::{CloseError, Contract, FeeCoin, sweep_tx};

/// The most coins that it knows at a time.
const COINS_MAX: usize = 64;
/// A coin's record among those of the node.
const COIN: u8 = b'c';

/// A coin for the fee wallet: an output to [`ChannelMachine::fee_script`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is worth. A coin that is worth something else on the chain is never used.
    pub value: Amount,
    /// No spend of it is in a block below this height.
    pub since: u32,
}

/// The fee wallet has as many coins as it can watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fee wallet holds at most 64 coins")]
pub struct TooManyCoins;

impl ChannelMachine {
    /// The most coins that the fee wallet knows at a time.
    pub const FEE_COINS_MAX: usize = COINS_MAX;

    /// The same machine with the key of its fee wallet from another seed: one that is kept apart
    /// from the node's own. Before anything is restored.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn with_fee_seed(self, seed: &Seed) -> Result<Self, KeyError> {
        let mut inner = self.lock();
        let keys = NodeKeys::new(seed, inner.config.network)?;
        inner.wallet = FeeWallet::new(&keys)?;
        drop(inner);
        Ok(self)
    }

    /// Where coins for the [fee wallet](Self::add_fee_coins) are paid to: P2TR of a key of the seed,
    /// without scripts. Source: BIP 86.
    #[must_use]
    pub fn fee_script(&self) -> ScriptBuf {
        self.lock().wallet.script().clone()
    }

    /// Gives the fee wallet coins that were paid to [`ChannelMachine::fee_script`]. They help to
    /// close channels that cannot pay for the feerate that is needed, up to
    /// [`PayeePolicy::wallet_fee_max`](crate::policy::PayeePolicy::wallet_fee_max) a close; what is
    /// left of a coin goes to the payout. The action makes them durable; a coin that it knows changes
    /// nothing. Spec: bitcoin 5.4.
    ///
    /// # Errors
    /// [`TooManyCoins`]; then it takes none.
    pub fn add_fee_coins(&self, coins: &[WalletCoin]) -> Result<Action, TooManyCoins> {
        self.lock().wallet.add(coins).map(Action::Persist)
    }

    /// The fee wallet's coins whose spend is not buried.
    #[must_use]
    pub fn fee_coins(&self) -> Vec<WalletCoin> {
        self.lock().wallet.coins()
    }

    /// What of the fee wallet could go into a close now: in a block, by the last view, and spent by
    /// nothing.
    #[must_use]
    pub fn fee_balance(&self) -> Amount {
        let inner = self.lock();
        let values = inner.free_coins().into_iter().map(|coin| coin.value);
        let sum = values.map(Amount::to_sat).fold(0, u64::saturating_add);
        Amount::from_sat(sum)
    }

    /// A transaction that empties the fee wallet: all that [`Self::fee_balance`] counts, less the
    /// fee, goes to the payout. Broadcast it.
    ///
    /// # Errors
    /// [`CloseError`]: there is nothing, or less than sending it costs.
    pub fn sweep_fee_wallet(&self, rate: FeeRate) -> Result<Transaction, CloseError> {
        let inner = self.lock();
        sweep_tx(&inner.free_coins(), &inner.config.payee.payout, rate)
    }
}

impl Inner {
    /// Lets coins go whose spend is buried, and says what to write. What a channel brought is known by
    /// the coins that went into its close, so they stay until it is booked.
    pub(super) fn forget_spent(&mut self, chain: &Chain) -> ChangeSet {
        if !chain.is_complete() {
            return ChangeSet::new();
        }
        let unbooked = self.channels.values().filter_map(|channel| {
            let open = !channel.is_over() && !channel.is_candidate();
            channel.contract().filter(|_| open).map(Contract::outpoint)
        });
        let unbooked: BTreeSet<OutPoint> = unbooked.collect();
        self.wallet.forget_spent(chain.tip, &unbooked)
    }

    fn free_coins(&self) -> Vec<FeeCoin<'_>> {
        let chain = self.chain.as_ref();
        let free = chain.map(|chain| self.wallet.usable(chain, None, &BTreeSet::new()));
        free.unwrap_or_default()
    }
}

/// On disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Coin {
    #[n(0)]
    value: u64,
    #[n(1)]
    since: u32,
}

pub(in crate::machine) struct FeeWallet {
    secret: ChannelSecret,
    script: ScriptBuf,
    coins: BTreeMap<OutPoint, (Coin, Option<Seen>)>,
}

impl FeeWallet {
    pub(in crate::machine) fn new(keys: &NodeKeys) -> Result<Self, KeyError> {
        let secret = keys.fee_wallet()?;
        let key = secret.public().x_only_public_key().0;
        Ok(Self {
            script: ScriptBuf::new_p2tr(secp(), key, None),
            secret,
            coins: BTreeMap::new(),
        })
    }

    pub(in crate::machine) const fn script(&self) -> &ScriptBuf {
        &self.script
    }

    pub(in crate::machine) fn coins(&self) -> Vec<WalletCoin> {
        let coin = |(outpoint, (coin, _)): (&OutPoint, &(Coin, Option<Seen>))| WalletCoin {
            outpoint: *outpoint,
            value: Amount::from_sat(coin.value),
            since: coin.since,
        };
        self.coins.iter().map(coin).collect()
    }

    /// Takes coins that it does not know, and says what to write.
    pub(in crate::machine) fn add(
        &mut self,
        coins: &[WalletCoin],
    ) -> Result<ChangeSet, TooManyCoins> {
        let mut delta = ChangeSet::new();
        let mut all = self.coins.clone();
        for new in coins {
            let coin = Coin {
                value: new.value.to_sat(),
                since: new.since,
            };
            if let Entry::Vacant(place) = all.entry(new.outpoint) {
                place.insert((coin, None));
                delta.put(record_key(new.outpoint), record::write(&coin));
            }
        }
        if all.len() > COINS_MAX {
            return Err(TooManyCoins);
        }
        self.coins = all;
        Ok(delta.within_node(ChannelMachine::METHOD))
    }

    /// What was written before; what cannot be read is left out.
    pub(in crate::machine) fn restore(&mut self, records: &RestoredPurse) {
        for (key, value) in records {
            let Some(outpoint) = outpoint_of(key) else {
                continue;
            };
            if let Ok(coin) = record::read(value) {
                self.coins.entry(outpoint).or_insert((coin, None));
            }
        }
    }

    pub(in crate::machine) fn watched(&self) -> impl Iterator<Item = Watch> {
        self.coins.iter().map(|(outpoint, (coin, _))| Watch {
            outpoint: *outpoint,
            script: self.script.clone(),
            since: coin.since,
        })
    }

    pub(super) fn look(&mut self, view: &ChainView) {
        // A coin that the view does not tell of is not used on an older one's word.
        self.coins.values_mut().for_each(|(_, seen)| *seen = None);
        for state in &view.outputs {
            if let Some((_, seen)) = self.coins.get_mut(&state.outpoint) {
                seen.clone_from(&state.seen);
            }
        }
    }

    /// Lets coins go whose spend is buried and takes none of these outputs, and says what to write.
    fn forget_spent(&mut self, tip: u32, unbooked: &BTreeSet<OutPoint>) -> ChangeSet {
        let mut delta = ChangeSet::new();
        self.coins.retain(|outpoint, (_, seen)| {
            let spend = seen.as_ref().and_then(|seen| seen.spend.as_ref());
            let over = spend.is_some_and(|spend| {
                let mut inputs = spend.tx.input.iter();
                spend.depth(tip) >= FINAL_DEPTH
                    && !inputs.any(|input| unbooked.contains(&input.previous_output))
            });
            if over {
                delta.remove(record_key(*outpoint));
            }
            !over
        });
        delta.within_node(ChannelMachine::METHOD)
    }

    /// Coins that can go into a close now, the largest first: confirmed, and spent by nothing but
    /// what the close replaces.
    pub(super) fn usable(
        &self,
        chain: &Chain,
        replaces: Option<Txid>,
        used: &BTreeSet<OutPoint>,
    ) -> Vec<FeeCoin<'_>> {
        let fits = |coin: &Coin, seen: &Seen| {
            let depth = if seen.coinbase { COINBASE_DEPTH } else { 1 };
            let output = TxOut {
                value: Amount::from_sat(coin.value),
                script_pubkey: self.script.clone(),
            };
            let free = seen.spend.as_ref().is_none_or(|spend| {
                spend.height.is_none() && replaces == Some(spend.tx.compute_txid())
            });
            seen.output == output && seen.depth(chain.tip) >= depth && free
        };
        let coins = self.coins.iter().filter(|(outpoint, (coin, seen))| {
            !used.contains(*outpoint) && seen.as_ref().is_some_and(|seen| fits(coin, seen))
        });
        let mut coins: Vec<_> = coins
            .map(|(outpoint, (coin, _))| FeeCoin {
                outpoint: *outpoint,
                value: Amount::from_sat(coin.value),
                secret: &self.secret,
            })
            .collect();
        coins.sort_by_key(|coin| core::cmp::Reverse(coin.value));
        coins
    }

    pub(in crate::machine) fn knows(&self, outpoint: OutPoint) -> bool {
        self.coins.contains_key(&outpoint)
    }

    pub(super) fn value_of(&self, outpoint: OutPoint) -> Option<Amount> {
        let (coin, _) = self.coins.get(&outpoint)?;
        Some(Amount::from_sat(coin.value))
    }
}

fn record_key(outpoint: OutPoint) -> Key {
    let mut key = vec![COIN];
    key.extend_from_slice(outpoint.txid.as_byte_array());
    key.extend_from_slice(&outpoint.vout.to_be_bytes());
    key
}

fn outpoint_of(key: &[u8]) -> Option<OutPoint> {
    let rest = key.strip_prefix(&[COIN])?;
    let (txid, vout) = rest.split_first_chunk::<32>()?;
    let vout = u32::from_be_bytes(vout.try_into().ok()?);
    Some(OutPoint::new(Txid::from_byte_array(*txid), vout))
}
