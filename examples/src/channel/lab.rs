//! A chain to play on: simulated in the process, or a node of one's own in regtest. Blocks come
//! when somebody waits for them, and coins are anybody's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use streampay_btc::bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use streampay_btc::bitcoin::opcodes::all::OP_PUSHNUM_1;
use streampay_btc::bitcoin::script::Builder;
use streampay_btc::bitcoin::transaction::Version;
use streampay_btc::bitcoin::{
    Address, Amount, Block, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Witness, absolute::LockTime,
};
use streampay_btc::chain::{BitcoinCore, ChainError, ChainSource};
use streampay_btc::runner::{Funded, FundingOrder, FundingWallet};
use streampay_btc::sim::SimChain;
use streampay_core::units::PurseKey;
use tokio::sync::Mutex;

use super::source;
use crate::error::AppError;
use crate::secret::whole_address;

/// What a funding costs on a node, in satoshi.
const FUNDING_FEE: Amount = Amount::from_sat(1_000);
/// A block's own reward can be spent in the block after so many.
const MATURITY: u32 = 100;

/// The chain of a demo.
#[derive(Clone)]
pub(super) enum Lab {
    /// In this process.
    Sim(SimChain),
    /// Of a node.
    Node(Arc<Regtest>),
}

impl Lab {
    /// One that needs nothing.
    pub(super) fn sim() -> Self {
        Self::Sim(SimChain::new())
    }

    /// The node at `url`, with coins that this process may spend.
    ///
    /// # Errors
    /// [`AppError`]: it cannot be reached, is not in regtest, or gives no coins any more.
    pub(super) async fn node(url: &str) -> Result<Self, AppError> {
        let url = whole_address(url)?;
        let core = source::node(&url, Network::Regtest)?;
        let core = core.ok_or(AppError::Usage(
            "say how to get in: http://127.0.0.1:18443/?cookie=FILE, or env:NAME or file:PATH where \
             http://user:password@127.0.0.1:18443 is",
        ))?;
        Ok(Self::Node(Arc::new(Regtest::open(core).await?)))
    }

    pub(super) fn source(&self) -> Arc<dyn ChainSource> {
        match self {
            Self::Sim(chain) => Arc::new(chain.clone()),
            Self::Node(node) => node.core.clone(),
        }
    }

    pub(super) fn wallet(&self) -> Arc<dyn FundingWallet> {
        match self {
            Self::Sim(chain) => Arc::new(SimWallet(chain.clone())),
            Self::Node(node) => node.clone(),
        }
    }

    /// One more block.
    pub(super) async fn mine(&self) -> Result<(), ChainError> {
        match self {
            Self::Sim(chain) => chain.mine(1),
            Self::Node(node) => drop(node.mine(1).await?),
        }
        Ok(())
    }
}

/// Pays by the simulated chain's faucet.
struct SimWallet(SimChain);

#[async_trait]
impl FundingWallet for SimWallet {
    async fn fund(&self, order: &FundingOrder) -> Funded {
        match self.0.pay(&order.script, order.value) {
            Ok(outpoint) => Funded::Paid {
                outpoint,
                fee: self.fee_of(outpoint).unwrap_or_default(),
            },
            Err(_) => Funded::Declined,
        }
    }
}

impl SimWallet {
    fn fee_of(&self, outpoint: OutPoint) -> Option<Amount> {
        let (tx, _) = self.0.transaction(outpoint.txid)?;
        let mut spent = tx.input.iter().map(|input| {
            let coin = input.previous_output;
            let (tx, _) = self.0.transaction(coin.txid)?;
            let vout = usize::try_from(coin.vout).ok()?;
            tx.output.get(vout).map(|output| output.value)
        });
        let spent = spent.try_fold(Amount::ZERO, |sum, value| sum.checked_add(value?))?;
        let mut paid = tx.output.iter().map(|output| output.value);
        let paid = paid.try_fold(Amount::ZERO, Amount::checked_add)?;
        spent.checked_sub(paid)
    }
}

/// A node in regtest whose blocks pay to a script that anybody can spend from: it needs no wallet.
pub(super) struct Regtest {
    core: Arc<BitcoinCore>,
    purse: Mutex<Coins>,
}

#[derive(Default)]
struct Coins {
    unspent: Vec<(OutPoint, Amount)>,
    paid: BTreeMap<PurseKey, OutPoint>,
}

impl Regtest {
    async fn open(core: BitcoinCore) -> Result<Self, AppError> {
        let core = Arc::new(core);
        core.view(&[]).await?;
        let node = Self {
            core,
            purse: Mutex::default(),
        };
        let coins = node.mine(1).await?;
        node.mine(MATURITY).await?;
        node.purse.lock().await.unspent = coins;
        Ok(node)
    }

    async fn mine(&self, blocks: u32) -> Result<Vec<(OutPoint, Amount)>, ChainError> {
        let to = Address::p2wsh(&anyone(), Network::Regtest).to_string();
        let hashes = self.core.rpc("generatetoaddress", json!([blocks, to]));
        let hashes = hashes.await?;
        let Some(hash) = hashes.get(0).filter(|_| blocks == 1) else {
            return Ok(Vec::new());
        };
        let nonsense = || ChainError::Nonsense("a block".to_owned());
        let block = self.core.rpc("getblock", json!([hash, 0])).await?;
        let block: Block = block
            .as_str()
            .and_then(|hex| deserialize_hex(hex).ok())
            .ok_or_else(nonsense)?;
        let reward = block.txdata.first().ok_or_else(nonsense)?;
        let value = reward.output.first().ok_or_else(nonsense)?.value;
        Ok(vec![(OutPoint::new(reward.compute_txid(), 0), value)])
    }

    async fn pay(&self, order: &FundingOrder) -> Result<Funded, ChainError> {
        let mut coins = self.purse.lock().await;
        if let Some(outpoint) = coins.paid.get(&order.purse) {
            return Ok(Funded::Paid {
                outpoint: *outpoint,
                fee: FUNDING_FEE,
            });
        }
        let needs = order.value.checked_add(FUNDING_FEE);
        let fits = |(_, value): &(OutPoint, Amount)| needs.is_some_and(|needs| *value >= needs);
        let Some(at) = coins.unspent.iter().position(fits) else {
            return Ok(Funded::Declined);
        };
        let (coin, value) = coins.unspent.swap_remove(at);
        let rest = needs.and_then(|needs| value.checked_sub(needs));
        let tx = funding(coin, order, rest.unwrap_or_default());
        let params = json!([serialize_hex(&tx)]);
        self.core.rpc("sendrawtransaction", params).await?;
        let txid = tx.compute_txid();
        coins
            .unspent
            .push((OutPoint::new(txid, 1), rest.unwrap_or_default()));
        coins.paid.insert(order.purse, OutPoint::new(txid, 0));
        Ok(Funded::Paid {
            outpoint: OutPoint::new(txid, 0),
            fee: FUNDING_FEE,
        })
    }
}

#[async_trait]
impl FundingWallet for Regtest {
    async fn fund(&self, order: &FundingOrder) -> Funded {
        let paid = self.pay(order).await;
        paid.unwrap_or(Funded::Declined)
    }
}

/// A script that anyone can satisfy.
fn anyone() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

fn funding(coin: OutPoint, order: &FundingOrder, rest: Amount) -> Transaction {
    Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[anyone().to_bytes()]),
        }],
        output: vec![
            TxOut {
                value: order.value,
                script_pubkey: order.script.clone(),
            },
            TxOut {
                value: rest,
                script_pubkey: anyone().to_p2wsh(),
            },
        ],
    }
}
