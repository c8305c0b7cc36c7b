//! A session that closes before its channel is funded: nobody is asked for money any more, and what
//! is paid to an address that was shown comes home.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Script, Transaction};
use streampay_core::backend::{Answer, BackendError, EffectResult, Outcome, RefusalCode, Request};
use streampay_core::driver::{Clock, StoreWriter};
use streampay_core::store::MemoryStore;
use streampay_core::units::{Msat, RequestId, Seq};

use super::{PAYER, Rig};
use crate::chain::{ChainError, ChainSource};
use crate::machine::payer::FORGOTTEN;
use crate::machine::*;
use crate::runner::{Funded, FundingOrder, FundingWallet, Runner};
use crate::sim::{SimChain, home};

const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));
const NOTHING: Option<Outcome> = Some(Outcome::Released {
    refunded: Msat::ZERO,
});

fn release(rig: &mut Rig) -> Option<Outcome> {
    rig.payer.request(rig.purse, Request::Release)
}

/// The user was shown an address, has not paid, and ends the session.
fn shown_and_closed() -> Rig {
    let mut rig = Rig::new();
    rig.payer.pays = false;
    assert_eq!(rig.open(), TRANSIENT);
    assert_eq!(release(&mut rig), TRANSIENT);
    assert_eq!(rig.open(), Some(Outcome::Failed(OUT_OF_ORDER)), "not again");
    rig
}

/// Pays to the address that was shown.
fn pay(rig: &Rig) -> u64 {
    let kit = rig.payer.machine.rescue_kit(rig.purse).unwrap();
    let script = kit.address.unwrap().script_pubkey();
    rig.chain.pay(&script, kit.value).unwrap();
    kit.value.to_sat()
}

/// Until the refund is buried.
fn come_home(rig: &mut Rig) -> u64 {
    let left = rig.payer.machine.report()[0].expiry - rig.chain.tip();
    rig.payer.mine_and_look(left + FINAL_DEPTH);
    rig.chain.balance(&home(PAYER)).to_sat()
}

#[test]
fn release_before_an_address_was_shown_ends_at_once() {
    let mut rig = Rig::new();
    rig.chain.set_away(true);
    assert_eq!(rig.open(), TRANSIENT);
    assert_eq!(release(&mut rig), NOTHING);
    rig.chain.set_away(false);
    assert_eq!(rig.open(), Some(Outcome::Failed(OUT_OF_ORDER)));
    assert!(rig.chain.waiting().is_empty());
    rig.payer.machine.forget(rig.purse);
    assert!(rig.payer.machine.report().is_empty());
}

#[test]
fn payment_to_an_address_of_a_closed_session_is_found_and_refunded() {
    for (restarts, confirmed) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = shown_and_closed();
        rig.payer.machine.forget(rig.purse);
        if restarts {
            rig.payer.restart(&[rig.purse]);
        }
        rig.payer.mine_and_look(3);
        let value = pay(&rig);
        if confirmed {
            rig.chain.mine(1);
        }
        rig.payer.look().unwrap();
        assert!(rig.payer.machine.report()[0].outpoint.is_some());
        assert_eq!(release(&mut rig), TRANSIENT, "not home yet");
        let home = come_home(&mut rig);
        assert!(home + 500 > value, "{home} of {value}");
        let refunded = Msat::from_sat(home).unwrap();
        assert_eq!(release(&mut rig), Some(Outcome::Released { refunded }));
    }
}

#[test]
fn release_itself_finds_the_payment() {
    let mut rig = shown_and_closed();
    pay(&rig);
    assert_eq!(release(&mut rig), TRANSIENT);
    assert!(rig.payer.machine.report()[0].outpoint.is_some());
}

#[test]
fn address_that_nobody_paid_is_let_go_long_after_its_expiry() {
    let mut rig = shown_and_closed();
    let left = rig.payer.machine.report()[0].expiry - rig.chain.tip();
    rig.payer.mine_and_look(left + FORGOTTEN - 1);
    assert_eq!(release(&mut rig), TRANSIENT);
    rig.payer.mine_and_look(1);
    assert_eq!(release(&mut rig), NOTHING);
    rig.payer.restart(&[rig.purse]);
    assert_eq!(release(&mut rig), NOTHING);
    let report = rig.payer.machine.report();
    assert_eq!(report[0].state, ChannelState::Settled);
    rig.payer.machine.forget(rig.purse);
    assert!(rig.payer.machine.report().is_empty());
}

/// The machine's effects, run one by one until the wallet is asked.
fn asked(rig: &mut Rig) -> Effect {
    let request = Request::Open {
        offer: rig.offer(),
        capacity: Msat::from_sat(100_000).unwrap(),
        budget: Msat::from_sat(100_000).unwrap(),
    };
    let (now, purse) = (rig.payer.now, rig.purse);
    let machine = &mut rig.payer.machine;
    let mut answer = machine.request(now, purse, RequestId(90), request);
    loop {
        let effect = answer.effects.pop().unwrap();
        if matches!(
            codec::decode(&effect.body, usize::MAX),
            Ok(Job::Fund { .. })
        ) {
            return effect;
        }
        let result = rig.payer.run(&effect);
        answer = rig.payer.machine.effect_done(now, result);
    }
}

fn ends(rig: &mut Rig, result: EffectResult) -> Option<Outcome> {
    let now = rig.payer.now;
    let machine = &mut rig.payer.machine;
    let released = machine.request(now, rig.purse, RequestId(91), Request::Release);
    assert_eq!((&released.outcome, released.effects.len()), (&None, 0));
    // An ack that is told again leaves it waiting.
    let acked = Request::Acked {
        seq: Seq(1),
        cumulative: streampay_core::units::Msat::ZERO,
    };
    let acked = machine.request(now, rig.purse, RequestId(92), acked);
    assert_eq!((&acked.outcome, acked.effects.len()), (&None, 0));
    let answer: Answer = rig.payer.machine.effect_done(now, result);
    rig.payer.follow(rig.purse, answer)
}

#[test]
fn ack_of_a_channel_that_is_not_known_ends_nothing() {
    let mut rig = Rig::new();
    let acked = Request::Acked {
        seq: Seq(1),
        cumulative: streampay_core::units::Msat::ZERO,
    };
    assert_eq!(rig.payer.request(rig.purse, acked), None);
}

#[test]
fn release_while_the_wallet_is_asked_waits_for_what_it_does() {
    let mut rig = Rig::new();
    let effect = asked(&mut rig);
    let paid = rig.payer.run(&effect);
    assert_eq!(ends(&mut rig, paid), TRANSIENT);
    assert!(come_home(&mut rig) > 0);

    let mut rig = Rig::new();
    let effect = asked(&mut rig);
    let declined = EffectResult {
        purse: rig.purse,
        id: effect.id,
        result: Err(BackendError::Fatal(RefusalCode::InsufficientFunds)),
    };
    assert_eq!(ends(&mut rig, declined), TRANSIENT, "no failure for good");
}

/// A source that shows everything but cannot search.
struct NoSearch(SimChain);

#[async_trait]
impl ChainSource for NoSearch {
    async fn view(&self, watches: &[Watch]) -> Result<ChainView, ChainError> {
        self.0.view(watches).await
    }

    async fn find(&self, _: &Script, _: Amount, _: u32) -> Result<Vec<OutPoint>, ChainError> {
        Err(ChainError::Nonsense("no search here".into()))
    }

    async fn coins(&self, script: &Script, since: u32) -> Result<Vec<WalletCoin>, ChainError> {
        self.0.coins(script, since).await
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
async fn search_that_fails_for_a_closed_session_stops_no_other_channel() {
    let mut rig = shown_and_closed();
    rig.purse = super::key(1);
    rig.payer.pays = true;
    rig.opened();
    let source = NoSearch(rig.chain.clone());
    let store = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let machine = rig.payer.machine.clone();
    let runner = Runner::new(machine.clone(), source, Nobody, store, Clock::start());
    let expiry = machine.report().last().unwrap().expiry;
    rig.chain.mine(expiry - rig.chain.tip());
    runner.sync().await.unwrap();
    let funding = machine.report().last().unwrap().outpoint.unwrap();
    assert!(rig.chain.spender(funding).is_some(), "it is refunded");
}
