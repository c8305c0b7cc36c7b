//! The same over a real bitcoind in regtest, where `BITCOIND_EXE` names one:
//! `BITCOIND_EXE="$(streampay-btc/regtest/build-bitcoind)" cargo test -p streampay-btc`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::Builder;
use bitcoin::{
    Address, Amount, Block, FeeRate, Network, OutPoint, Script, ScriptBuf, Sequence, Transaction,
    TxIn, TxOut, Witness, transaction::Version,
};
use bytes::Bytes;
use serde_json::{Value, json};
use streampay_btc::chain::{BitcoinCore, ChainError, ChainSource, ChainView, RpcAuth, Watch};
use streampay_btc::keys::Seed;
use streampay_btc::machine::{
    ChannelConfig, ChannelMachine, ChannelReport, ChannelState, WalletCoin, WatchEvent,
};
use streampay_btc::policy::PayeePolicy;
use streampay_btc::runner::{Funded, FundingOrder, FundingWallet, Runner};
use streampay_btc::sim::{ChainLab, conforms, home, sim_config};
use streampay_core::backend::{
    Answer, BackendError, BackendMachine as _, Outcome, PurseOffer, Request,
};
use streampay_core::driver::{Clock, EffectRunner as _, StoreWriter};
use streampay_core::store::{MemoryStore, purse_prefix};
use streampay_core::units::{Msat, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};
use tokio::sync::Mutex;

use self::two::{STEP, Two, key, sat};

mod besides;
mod channels;
mod forgotten;
mod mutual;
mod pruned;
mod restarts;
mod sizes;
mod trouble;
mod two;
mod wallet;
mod wsh;

struct Node {
    core: BitcoinCore,
    /// Coins that nobody has spent.
    coins: Mutex<Vec<(OutPoint, Amount)>>,
    process: Child,
    _home: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn anyone() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

fn address() -> String {
    Address::p2wsh(&anyone(), Network::Regtest).to_string()
}

/// An input that spends what anyone can.
fn spend(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[anyone().to_bytes()]),
    }
}

/// None, and a word about it, where there is no bitcoind to test against.
async fn node() -> Option<Arc<Node>> {
    node_with(&[]).await
}

/// The same, started with these options too.
async fn node_with(options: &[&str]) -> Option<Arc<Node>> {
    let Some(exe) = std::env::var_os("BITCOIND_EXE") else {
        static SAID: Once = Once::new();
        // Not by a macro: what those say is kept from whoever runs the tests.
        SAID.call_once(|| {
            let line = "skipped: all tests on a real bitcoind, for BITCOIND_EXE names none";
            let _ = writeln!(std::io::stderr(), "{line}");
        });
        return None;
    };
    let home = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let process = Command::new(exe)
        .arg(format!("-datadir={}", home.path().display()))
        .arg(format!("-rpcport={port}"))
        .args(["-regtest", "-server", "-listen=0", "-minrelaytxfee=0.00001"])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let auth = RpcAuth::Cookie(home.path().join("regtest/.cookie"));
    let fallback = FeeRate::from_sat_per_vb_u32(2);
    let url = format!("http://127.0.0.1:{port}");
    let node = Node {
        core: BitcoinCore::new(&url, auth, Network::Regtest, fallback),
        coins: Mutex::new(Vec::new()),
        process,
        _home: home,
    };
    for _ in 0..300 {
        if node.core.view(&[]).await.is_ok() {
            node.mine_new(200).await;
            return Some(Arc::new(node));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("bitcoind does not start");
}

impl Node {
    async fn rpc(&self, method: &str, params: Value) -> Value {
        self.core.rpc(method, params).await.unwrap()
    }

    async fn mine_new(&self, blocks: u32) {
        let hashes = self
            .rpc("generatetoaddress", json!([blocks, address()]))
            .await;
        for hash in hashes.as_array().unwrap() {
            let hex = self.rpc("getblock", json!([hash, 0])).await;
            let block: Block = deserialize_hex(hex.as_str().unwrap()).unwrap();
            let coinbase = &block.txdata[0];
            let value = coinbase.output[0].value;
            let outpoint = OutPoint::new(coinbase.compute_txid(), 0);
            self.coins.lock().await.push((outpoint, value));
        }
    }

    /// Pays, at a fee that is taken.
    async fn fund(&self, script: &Script, value: Amount) -> OutPoint {
        let tx = self.payment(script, value, Amount::from_sat(1_000)).await;
        self.rpc("sendrawtransaction", json!([serialize_hex(&tx)]))
            .await;
        OutPoint::new(tx.compute_txid(), 0)
    }

    /// Takes the oldest coin; what is left of it goes to somebody.
    async fn payment(&self, script: &Script, value: Amount, fee: Amount) -> Transaction {
        let (previous_output, total) = self.coins.lock().await.remove(0);
        Transaction {
            version: Version(3),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![spend(previous_output)],
            output: vec![
                TxOut {
                    value,
                    script_pubkey: script.to_owned(),
                },
                TxOut {
                    value: total - value - fee,
                    script_pubkey: home(77),
                },
            ],
        }
    }
}

#[async_trait]
impl ChainLab for Node {
    fn source(&self) -> &dyn ChainSource {
        &self.core
    }

    async fn pay(&self, script: &Script, value: Amount) -> OutPoint {
        self.fund(script, value).await
    }

    async fn pay_after(&self, script: &Script, value: Amount) -> OutPoint {
        let fee = Amount::from_sat(1_000);
        let first = self.fund(&anyone().to_p2wsh(), value + fee).await;
        let tx = Transaction {
            version: Version(3),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![spend(first)],
            output: vec![TxOut {
                value,
                script_pubkey: script.to_owned(),
            }],
        };
        self.rpc("sendrawtransaction", json!([serialize_hex(&tx)]))
            .await;
        OutPoint::new(tx.compute_txid(), 0)
    }

    async fn unpaid(&self, script: &Script, value: Amount) -> Transaction {
        self.payment(script, value, Amount::ZERO).await
    }

    async fn mine(&self, blocks: u32) {
        self.mine_new(blocks).await;
    }

    async fn reorganise(&self, depth: u32) {
        let tip = self.core.view(&[]).await.unwrap().tip;
        let first = self.rpc("getblockhash", json!([tip + 1 - depth])).await;
        self.rpc("invalidateblock", json!([first])).await;
        for _ in 0..=depth {
            self.rpc("generateblock", json!([address(), []])).await;
        }
    }
}

#[tokio::test]
async fn bitcoind_conforms() {
    let Some(node) = node().await else { return };
    assert_eq!(conforms(&*node).await, Ok(()));
}

/// The node as a chain source and as a wallet. Where it is not 0, the second number is what
/// everything costs, in sat/vB, whatever the node estimates. While the third is true the wallet is a
/// user who was shown an address.
#[derive(Clone)]
struct Shared(Arc<Node>, Arc<AtomicU32>, Arc<AtomicBool>);

#[async_trait]
impl ChainSource for Shared {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        let mut view = self.0.core.view(watches).await?;
        let spike = self.1.load(Ordering::SeqCst);
        if spike > 0 {
            view.fees.targets = vec![(1, FeeRate::from_sat_per_vb_u32(spike))];
        }
        Ok(view)
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        self.0.core.find(script, value, since).await
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        self.0.core.coins(script, since).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        // What is broadcast is what the node's own test takes; but a funding that the node forgot is
        // offered to it again, and may pay too little by itself.
        let tested = self
            .0
            .rpc("testmempoolaccept", json!([[serialize_hex(tx)], 0]))
            .await;
        let allowed = tested.pointer("/0/allowed").and_then(Value::as_bool);
        let why = tested.pointer("/0/reject-reason").and_then(Value::as_str);
        let is_funding = tx.input.iter().all(|input| input.witness.len() <= 2);
        let too_little = is_funding && why == Some("min relay fee not met");
        assert!(allowed == Some(true) || too_little, "{tested}");
        self.0.core.broadcast(tx).await
    }

    /// Not tested before: `testmempoolaccept` judges each by itself, and a funding that pays nothing can pass
    /// only with its close.
    async fn broadcast_package(&self, package: &[Transaction]) -> Result<(), ChainError> {
        self.0.core.broadcast_package(package).await
    }
}

#[async_trait]
impl FundingWallet for Shared {
    async fn fund(&self, order: &FundingOrder) -> Funded {
        if self.2.load(Ordering::SeqCst) {
            return Funded::Asked;
        }
        Funded::Paid {
            outpoint: self.0.fund(&order.script, order.value).await,
            fee: Amount::from_sat(1_000),
        }
    }
}

struct Party {
    machine: ChannelMachine,
    runner: Runner<Shared, Shared>,
    clock: Clock,
    requests: u64,
    /// What its machine wants the other side's to be shown.
    notes: Vec<Bytes>,
    config: ChannelConfig,
    shared: Shared,
    store: StoreWriter,
    number: u8,
}

impl Party {
    fn new(node: &Arc<Node>, number: u8) -> Self {
        let mut config = sim_config(number);
        // The node learns its estimates from what is mined here: 6 to 7 sat/vB.
        config.payee.reserve = PayeePolicy::reserve_at(FeeRate::from_sat_per_vb_u32(10));
        Self::with(node, number, config)
    }

    fn with(node: &Arc<Node>, number: u8, config: ChannelConfig) -> Self {
        let store = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
        let shared = Shared(Arc::clone(node), Arc::default(), Arc::default());
        Self::over(config, shared, store, number)
    }

    fn over(config: ChannelConfig, shared: Shared, store: StoreWriter, number: u8) -> Self {
        let machine = ChannelMachine::new(config.clone(), &Seed([number; 32])).unwrap();
        let clock = Clock::start();
        let (chain, wallet) = (shared.clone(), shared.clone());
        let runner = Runner::new(machine.clone(), chain, wallet, store.clone(), clock);
        let runner = match config.payee.wallet_fee_max {
            Amount::ZERO => runner,
            _ => runner.with_fee_wallet(0),
        };
        Self {
            machine,
            runner,
            clock,
            requests: 0,
            notes: Vec::new(),
            config,
            shared,
            store,
            number,
        }
    }

    /// The process dies and comes back from its disk.
    async fn restart(&mut self, purses: &[PurseKey]) {
        let (config, shared, store) =
            (self.config.clone(), self.shared.clone(), self.store.clone());
        *self = Self::over(config, shared, store, self.number);
        for purse in purses {
            let prefix = purse_prefix(*purse);
            let records = self.store.scan(prefix.clone()).await.unwrap().into_iter();
            let cut = |(key, value): (Vec<u8>, Vec<u8>)| {
                (key.strip_prefix(prefix.as_slice()).unwrap().to_vec(), value)
            };
            let records = records.map(cut).collect();
            let answer = self.machine.restore(self.clock.now(), *purse, records);
            self.follow(*purse, answer).await;
        }
    }

    async fn ask(&mut self, purse: PurseKey, request: Request) -> Option<Outcome> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let answer = self.machine.request(self.clock.now(), purse, id, request);
        self.follow(purse, answer).await
    }

    /// The process dies when what it was asked is durable, before anything else is done, and comes
    /// back.
    async fn dies_at(&mut self, purse: PurseKey, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let answer = self.machine.request(self.clock.now(), purse, id, request);
        let delta = answer.delta.within_purse(purse);
        self.store.append(delta).await.unwrap();
        self.restart(&[purse]).await;
    }

    async fn follow(&mut self, purse: PurseKey, mut answer: Answer) -> Option<Outcome> {
        let (mut effects, mut outcome) = (VecDeque::new(), None);
        loop {
            let delta = core::mem::take(&mut answer.delta);
            self.store.append(delta.within_purse(purse)).await.unwrap();
            outcome = answer.outcome.take().or(outcome);
            self.notes.extend(answer.note.take());
            effects.extend(core::mem::take(&mut answer.effects));
            let Some(effect) = effects.pop_front() else {
                return outcome;
            };
            let result = self.runner.run(effect).await;
            answer = self.machine.effect_done(self.clock.now(), result);
        }
    }

    fn report(&self, purse: PurseKey) -> ChannelReport {
        let mut report = self.machine.report().into_iter();
        report.find(|report| report.purse == purse).unwrap()
    }
}
