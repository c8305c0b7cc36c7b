//! Openings of strangers: they may name any output, and cost nobody anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bitcoin::{OutPoint, Script};
use streampay_core::driver::{Clock, StoreWriter};
use streampay_core::store::MemoryStore;

use super::*;
use crate::chain::{ChainError, ChainSource, ChainView, Seen, Watch};
use crate::machine::candidates::CANDIDATES_MAX;
use crate::runner::{Funded, FundingOrder, FundingWallet, Runner};
use crate::script::{FundingOutput, OutputType};
use crate::tx::Contract;
use crate::wire::Opening;

impl Rig {
    /// An opening that is right in all that needs no chain: whatever output it names.
    fn claim(&self, purse: PurseKey, outpoint: OutPoint, value: u64) -> Request {
        let params = ChannelParams::decode(&self.offer().params).unwrap();
        let keys = NodeKeys::new(&Seed([9; 32]), Network::Regtest).unwrap();
        let payer = keys.payer(purse).unwrap().public();
        let payee = params.payee.channel_key(&payer, purse).unwrap();
        let expiry = self.chain.tip() + 400;
        let output = FundingOutput::new(OutputType::Taproot, payer, payee, expiry).unwrap();
        let value = Amount::from_sat(value);
        let contract = Contract::new(
            Network::Regtest,
            output,
            outpoint,
            value,
            params.reserve,
            home(9),
        );
        Request::Accept {
            offer: self.offer(),
            opening: codec::encode(&Opening::new(purse, &contract.unwrap())).into(),
        }
    }

    fn show(&mut self, purse: PurseKey, outpoint: OutPoint, value: u64) -> Option<Outcome> {
        let claim = self.claim(purse, outpoint, value);
        self.payee.request(purse, claim)
    }

    fn funding(&self) -> OutPoint {
        self.payer.machine.report()[0].outpoint.unwrap()
    }
}

/// Purses around the real one, of its session and of others.
fn around(purse: PurseKey) -> [PurseKey; 4] {
    let other = |session: u8| PurseKey {
        session: SessionId([session; 32]),
        ..purse
    };
    let next = |number| PurseKey {
        purse: PurseId(number),
        ..purse
    };
    let PurseId(number) = purse.purse;
    [next(number - 1), next(number + 1), other(1), other(250)]
}

/// A false opening with a small value on a channel's own output: the close was then thought to pay out
/// more than it spends, and was never broadcast.
#[test]
fn false_opening_on_a_channels_output_keeps_nobody_from_closing_it() {
    for before in [true, false] {
        let mut rig = Rig::new();
        rig.purse = key(5);
        let opened = rig.opened();
        let funding = rig.funding();
        let lie = |rig: &mut Rig| {
            for purse in around(rig.purse) {
                let shown = rig.show(purse, funding, 2_000);
                assert_eq!(shown, refusal(RefusalCode::WrongLock), "{purse:?}");
            }
        };
        if before {
            lie(&mut rig);
        }
        rig.accept(&opened);
        (1..=40).for_each(|seq| rig.tick(seq));
        if !before {
            lie(&mut rig);
        }
        let watched = rig.payee.machine.watched();
        assert_eq!(watched.len(), 1, "once, and as it is: {watched:?}");
        assert!(watched[0].since <= rig.chain.tip());
        let (settled, refunded) = rig.close();
        assert!(settled.sat_floor() + 500 > rig.reserve() + 40 * STEP);
        assert_eq!(
            refunded.sat_floor(),
            rig.value() - rig.reserve() - 40 * STEP
        );
    }
}

#[test]
fn false_opening_on_a_coin_of_the_fee_wallet_does_not_disable_it() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.wallet_fee_max = Amount::from_sat(200_000);
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let opened = rig.opened();
    rig.accept(&opened);
    (1..=160).for_each(|seq| rig.tick(seq));
    let value = Amount::from_sat(400_000);
    let script = rig.payee.machine.fee_script();
    let outpoint = rig.chain.pay(&script, value).unwrap();
    let since = rig.chain.tip();
    let coin = WalletCoin {
        outpoint,
        value,
        since,
    };
    let action = rig.payee.machine.add_fee_coins(&[coin]).unwrap();
    rig.payee.act(action);
    rig.mine(1);
    for purse in around(key(7)) {
        let shown = rig.show(purse, outpoint, 2_000);
        assert_eq!(shown, refusal(RefusalCode::WrongLock));
    }
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(300));
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    let close = rig.payee.broadcast.last().unwrap();
    assert_eq!(close.input.len(), 2, "the coin helps");
}

#[test]
fn what_is_refused_is_forgotten_and_was_never_written() {
    let mut rig = Rig::ready();
    let somewhere = rig.chain.pay(&home(8), Amount::from_sat(60_000)).unwrap();
    rig.chain.mine(1);
    for number in 10..20 {
        let shown = rig.show(key(number), somewhere, 60_000);
        assert_eq!(shown, refusal(RefusalCode::WrongLock));
        assert!(rig.payee.records(key(number)).is_empty());
    }
    assert_eq!(rig.payee.machine.report().len(), 1);
    assert_eq!(rig.payee.machine.watched().len(), 1);
    // One that was closed before it was accepted too.
    let nowhere = OutPoint::new(somewhere.txid, 77);
    assert_eq!(rig.show(key(20), nowhere, 60_000), LATER);
    let settled = rig.payee.request(
        key(20),
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    let nothing = Some(Outcome::Settled {
        settled: Msat::ZERO,
    });
    assert_eq!(settled, nothing);
    assert_eq!(rig.payee.machine.report().len(), 1);
}

#[test]
fn openings_that_are_never_funded_are_bounded_and_keep_nobody_out() {
    let mut rig = Rig::new();
    let opened = rig.opened();
    let nowhere = rig.chain.pay(&home(8), Amount::from_sat(60_000)).unwrap();
    for number in 10..300 {
        let vout = number;
        let outpoint = OutPoint { vout, ..nowhere };
        assert_eq!(rig.show(key(number), outpoint, 60_000), LATER);
    }
    let known = rig.payee.machine.report().len();
    assert_eq!(known, CANDIDATES_MAX);
    assert!(rig.payee.machine.watched().is_empty(), "no view has them");
    assert!(rig.payee.snapshot().is_empty(), "no disk has them");
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    rig.tick(1);
    assert!(rig.close().0 > Msat::ZERO);
}

#[test]
fn output_index_beyond_what_nodes_read_is_malformed() {
    let mut rig = Rig::ready();
    let funding = rig.funding();
    for (vout, code) in [
        (0x7fff_ffff, None),
        (0x8000_0000, Some(RefusalCode::Malformed)),
        (u32::MAX, Some(RefusalCode::Malformed)),
    ] {
        let outpoint = OutPoint { vout, ..funding };
        let shown = rig.show(key(3), outpoint, 60_000);
        assert_eq!(shown, code.map_or(LATER, refusal), "{vout}");
    }
}

/// What a view leaves out is not known to be unspent: no tick. And not to be spent: it is closed.
#[test]
fn channel_that_a_view_leaves_out_takes_no_tick_and_is_closed_in_time() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let payload = rig.payload(2);
    let view = |rig: &Rig| ChainView {
        outputs: Vec::new(),
        ..rig.chain.look(&[]).unwrap()
    };
    let left_out = view(&rig);
    for node in [&mut rig.payer, &mut rig.payee] {
        assert!(node.machine.chain(node.now, &left_out).is_empty());
    }
    // Both look anew, and then go on.
    assert_eq!(rig.receive(2, payload.clone()), Some(Outcome::Credited));
    rig.tick(3);
    rig.chain.set_away(true);
    for node in [&mut rig.payer, &mut rig.payee] {
        assert!(node.machine.chain(node.now, &left_out).is_empty());
    }
    let seq = 4;
    assert_eq!(rig.pay(seq), LATER);
    rig.chain.set_away(false);
    let margin = rig.expiry() - rig.chain.tip() - 36;
    rig.chain.mine(margin);
    let late = view(&rig);
    let actions = rig.payee.machine.chain(rig.payee.now, &late);
    let closes = |action: &Action| matches!(action, Action::Broadcast(_));
    assert!(actions.iter().any(closes), "{actions:?}");
}

/// Counts views, each of which takes a while.
struct Counted(SimChain, Arc<[AtomicU32; 2]>);

#[async_trait]
impl ChainSource for Counted {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.1[0].fetch_add(1, Ordering::SeqCst);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.0.view(watches).await
    }

    async fn output(&self, watch: &Watch) -> Result<(u32, Option<Seen>), ChainError> {
        self.1[1].fetch_add(1, Ordering::SeqCst);
        self.0.output(watch).await
    }

    async fn find(&self, _: &Script, _: Amount, _: u32) -> Result<Vec<OutPoint>, ChainError> {
        Ok(Vec::new())
    }

    async fn coins(&self, _: &Script, _: u32) -> Result<Vec<WalletCoin>, ChainError> {
        Ok(Vec::new())
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<(), ChainError> {
        self.0.broadcast(tx).await
    }
}

struct Nobody;

#[async_trait]
impl FundingWallet for Nobody {
    async fn fund(&self, _: &FundingOrder) -> Funded {
        Funded::Declined
    }
}

#[tokio::test]
async fn whoever_asks_while_the_chain_is_looked_at_shares_the_next_look() {
    let mut rig = Rig::ready();
    let counts: Arc<[AtomicU32; 2]> = Arc::default();
    let source = Counted(rig.chain.clone(), counts.clone());
    let store = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let machine = rig.payee.machine.clone();
    let runner = Runner::new(machine.clone(), source, Nobody, store, Clock::start());
    let runner = Arc::new(runner);
    let one = || {
        let runner = runner.clone();
        tokio::spawn(async move { runner.sync().await.is_ok() })
    };
    let all: Vec<_> = (0..40).map(|_| one()).collect();
    for each in all {
        assert!(each.await.unwrap());
    }
    let count = |at: usize| counts[at].load(Ordering::SeqCst);
    assert!((1..=2).contains(&count(0)), "{}", count(0));
    let before = count(0);
    runner.sync().await.unwrap();
    assert_eq!(count(0), before + 1, "what is asked later is looked at");

    // A stranger's opening has the watch look at nothing.
    let nowhere = OutPoint::new(rig.funding().txid, 7);
    let purse = key(9);
    let claim = rig.claim(purse, nowhere, 60_000);
    let answer = rig
        .payee
        .machine
        .request(rig.payee.now, purse, RequestId(1), claim);
    let effect = answer.effects.into_iter().next().unwrap();
    let late = effect.clone();
    let result = streampay_core::driver::EffectRunner::run(&*runner, effect).await;
    let answer = rig.payee.machine.effect_done(rig.payee.now, result);
    assert_eq!(answer.outcome, LATER);
    assert_eq!((count(0), count(1)), (before + 1, 1));

    // Nor does it where it has made room meanwhile.
    rig.payee.machine.forget(purse);
    let result = streampay_core::driver::EffectRunner::run(&*runner, late).await;
    assert!(result.result.is_ok());
    assert_eq!((count(0), count(1)), (before + 1, 1));
}
