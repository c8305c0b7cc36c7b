//! Thousands of transactions that wait and are nobody's here: what a look costs must not grow with them.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Script, Transaction};
use streampay_btc::chain::{ChainError, ChainSource, ChainView, Watch};
use streampay_btc::machine::{ChannelMachine, WalletCoin};
use streampay_btc::runner::{Funded, FundingOrder, FundingWallet, Runner};
use streampay_btc::sim::{SimNode, conforms, home, sim_config};
use streampay_core::backend::{Outcome, PurseOffer, Request};
use streampay_core::driver::{Clock, StoreWriter};
use streampay_core::store::MemoryStore;
use streampay_core::units::{Msat, PurseId, PurseKey, Seq, SessionId, XOnlyKey};

use super::core::{Lab, Pruned};

/// Of others.
const CROWD: u32 = 3_000;
/// The most transactions that one call of the adapter reads. Source: `chain/bitcoind/find.rs`.
const READ_MAX: usize = 1_024;
const VALUE: Amount = Amount::from_sat(50_000);

impl Lab {
    fn crowd(&self, count: u32) {
        for _ in 0..count {
            self.chain.pay(&home(99), VALUE).unwrap();
        }
    }

    /// Calls since this was asked last: in all, and those that read a transaction.
    fn counted(&self) -> (usize, usize) {
        let calls = core::mem::take(&mut *self.calls.lock().unwrap());
        let read = calls.get("getrawtransaction").copied().unwrap_or(0);
        (calls.values().sum(), read)
    }
}

#[tokio::test]
async fn bitcoin_core_by_its_rpc_conforms() {
    assert_eq!(conforms(&Lab::new().await).await, Ok(()));
}

#[tokio::test]
async fn a_payment_is_found_in_a_crowd_by_a_bounded_number_of_calls() {
    let lab = Lab::new().await;
    let (script, since) = (home(1), lab.chain.tip());
    let find = || async {
        match lab.source.find(&script, VALUE, since).await {
            // Asked again: there is more to read.
            Err(ChainError::Reading(_)) => Vec::new(),
            found => found.unwrap(),
        }
    };
    lab.crowd(CROWD);
    let paid = lab.chain.pay(&script, VALUE).unwrap();
    let (mut found, mut rounds, mut all) = (Vec::new(), 0, 0);
    while found.is_empty() {
        found = find().await;
        let (calls, read) = lab.counted();
        assert!(read <= READ_MAX && calls <= read + 8, "{calls} {read}");
        (rounds, all) = (rounds + 1, all + read);
    }
    assert_eq!(found, [paid]);
    let crowd = usize::try_from(CROWD).unwrap();
    assert!(
        rounds <= crowd / READ_MAX + 1 && all <= crowd + 1,
        "{rounds} {all}"
    );
    // The rest is read once, and then only what is new.
    while lab.counted().1 > 0 || rounds < 8 {
        find().await;
        rounds += 1;
    }
    lab.crowd(3);
    assert_eq!(find().await, [paid]);
    assert_eq!(lab.counted().1, 3);
    lab.chain.mine(1);
    assert_eq!(find().await, [paid]);
    assert_eq!(lab.counted().1, 0, "a block is read at once");
}

/// What waits is read once for all searches, however many there are.
#[tokio::test]
async fn many_payments_are_looked_for_together() {
    let lab = Lab::new().await;
    let since = lab.chain.tip();
    let values = (0..260).map(|over| VALUE + Amount::from_sat(over));
    let scripts: Vec<_> = values.map(|value| (home(3), value)).collect();
    lab.crowd(20);
    for (script, value) in &scripts {
        let found = lab.source.find(script, *value, since).await;
        assert_eq!(found, Ok(vec![]), "{value}");
    }
    let (_, read) = lab.counted();
    assert_eq!(read, 20);
    let paid = scripts
        .iter()
        .map(|(script, value)| lab.chain.pay(script, *value).unwrap());
    let paid: Vec<_> = paid.collect();
    for ((script, value), paid) in scripts.iter().zip(&paid) {
        let found = lab.source.find(script, *value, since).await;
        assert_eq!(found, Ok(vec![*paid]), "{value}");
    }
    assert_eq!(lab.counted().1, scripts.len());
    // Each went on where it was: the block is read once more for all of them, and no older one.
    let blocks = || lab.calls.lock().unwrap().get("getblock").copied();
    for (script, value) in &scripts {
        let found = lab.source.find(script, *value, since).await;
        assert_eq!(found.map(|found| found.len()), Ok(1), "{value}");
    }
    assert_eq!(blocks(), None, "none is new");
}

/// A pruned node that does not say what is unspent: what may be in blocks that it has not is not held to be
/// home.
#[tokio::test]
async fn what_may_be_in_pruned_blocks_is_looked_for_until_it_is_known() {
    let lab = Arc::new(Lab::new().await);
    let mut payer = SimNode::new(&lab.chain, sim_config(1), 1);
    let payee = SimNode::new(&lab.chain, sim_config(2), 2);
    let open = Request::Open {
        offer: PurseOffer {
            params: payee.machine.params(payee.now).unwrap().encode(),
            tick: sat(500),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        },
        capacity: sat(100_000),
        budget: sat(100_000),
    };
    payer.request(purse(), open);
    let address = payer.machine.rescue_kit(purse()).unwrap().address.unwrap();
    let early = lab.chain.pay(&address.script_pubkey(), VALUE).unwrap();
    lab.chain.mine(100);
    let late = lab.chain.pay(&address.script_pubkey(), VALUE).unwrap();
    lab.chain.mine(1);
    *lab.pruned.lock().unwrap() = Pruned {
        kept: lab.chain.tip() - 9,
        scans: false,
    };
    let store = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let machine = payer.machine.clone();
    let runner = Runner::new(machine, Source(lab.clone()), Nobody, store, Clock::start());
    let known = || {
        let report = payer.machine.report().remove(0).besides.into_iter();
        report.map(|of| of.outpoint).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        runner.sync().await.unwrap();
        assert_eq!(known(), [late], "in a block that it has");
        assert_eq!(payer.machine.besides().len(), 1, "there may be more");
    }
    let asked = lab.calls.lock().unwrap()["scantxoutset"];
    assert_eq!(asked, 1, "it reads all that is unspent");
    lab.pruned.lock().unwrap().scans = true;
    lab.chain.mine(6);
    runner.sync().await.unwrap();
    assert_eq!(known(), [late, early]);
    assert!(payer.machine.besides().is_empty());
}

/// One node for the runner and for whoever counts.
struct Source(Arc<Lab>);

#[async_trait]
impl ChainSource for Source {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.0.source.view(watches).await
    }

    async fn find(
        &self,
        script: &Script,
        value: Amount,
        since: u32,
    ) -> Result<Vec<OutPoint>, ChainError> {
        self.0.source.find(script, value, since).await
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        self.0.source.coins(script, since).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        self.0.source.broadcast(tx).await
    }
}

struct Nobody;

#[async_trait]
impl FundingWallet for Nobody {
    async fn fund(&self, _: &FundingOrder) -> Funded {
        Funded::Declined
    }
}

const fn purse() -> PurseKey {
    PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(0),
    }
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// A payee with a channel that was paid from, over the node.
fn payee(lab: &Lab) -> SimNode {
    let mut payer = SimNode::new(&lab.chain, sim_config(1), 1);
    let mut payee = SimNode::new(&lab.chain, sim_config(2), 2);
    let offer = PurseOffer {
        params: payee.machine.params(payee.now).unwrap().encode(),
        tick: sat(500),
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    };
    let open = Request::Open {
        offer: offer.clone(),
        capacity: sat(100_000),
        budget: sat(100_000),
    };
    payer.request(purse(), open.clone());
    lab.chain.mine(1);
    let Some(Outcome::Opened(opened)) = payer.request(purse(), open) else {
        panic!("not opened");
    };
    let opening = opened.opening;
    payee.request(purse(), Request::Accept { offer, opening });
    let pay = Request::Pay {
        seq: Seq(1),
        amount: sat(500),
        cumulative: sat(500),
    };
    let Some(Outcome::Paid { payload }) = payer.request(purse(), pay) else {
        panic!("not paid");
    };
    let receive = Request::Receive {
        seq: Seq(1),
        amount: sat(500),
        cumulative: sat(500),
        payload,
    };
    assert_eq!(payee.request(purse(), receive), Some(Outcome::Credited));
    payee
}

#[tokio::test]
async fn the_watch_asks_a_node_with_a_crowd_no_more_than_one_without() {
    let lab = Arc::new(Lab::new().await);
    let payee = payee(&lab);
    let store = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let machine: ChannelMachine = payee.machine.clone();
    let runner = Runner::new(machine, Source(lab.clone()), Nobody, store, Clock::start());
    // The first look at an output asks for its block.
    runner.sync().await.unwrap();
    lab.counted();
    let mut looks = Vec::new();
    for crowd in [0, CROWD] {
        lab.crowd(crowd);
        runner.sync().await.unwrap();
        looks.push(lab.counted());
    }
    assert_eq!(looks[0], looks[1]);
    assert!(looks[0].0 < 20, "{looks:?}");
    // Neither does the look at a stranger's output.
    let watch = Watch {
        outpoint: OutPoint::new(lab.chain.waiting()[0].compute_txid(), 0),
        script: home(99),
        since: 0,
    };
    let (_, seen) = lab.source.output(&watch).await.unwrap();
    assert!(seen.unwrap().parent.is_some());
    assert!(lab.counted().0 < 10);
    // A close among them all: what waits is still only what is asked about.
    lab.chain.mine(1);
    lab.crowd(CROWD);
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    let mut payee = payee;
    payee.request(purse(), settle);
    lab.counted();
    runner.sync().await.unwrap();
    let (calls, read) = lab.counted();
    assert!(calls < 20 && read <= 2, "{calls} {read}");
}
