//! Payments of which the payer hears only once its money is home, or never.

use alloc::boxed::Box;

use super::side::{Config, Session};
use super::*;
use crate::session::{CloseCode, Command, PayerSession};
use crate::store::{Store as _, session_prefix};
use crate::units::Msat;
use crate::wire::{Message, decode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// The payee has a payment of which the payer has not heard, or does not have it where it was not `shown`; then
/// the payer is alone, and settles.
fn settled_alone(shown: bool) -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    pair.tamper(move |to, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(_))) if !shown => vec![],
        Ok(Some(Message::Ack(_) | Message::Closed(_))) if to == PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(3_000, &[]).unwrap();
    pair.take_link_down(3_600_000);
    pair.command(PAYER, Command::Close(CloseCode::Done));
    pair.run(20_000, &[]).unwrap();
    assert!(pair.payer.is_settled() && pair.payer.is_ended());
    pair.tamper = None;
    pair
}

/// The payer's process begins anew, and only asks.
fn ask(pair: &mut Pair) {
    let id = pair.payer.id.unwrap();
    let records = pair.payer.store.scan(&session_prefix(id)).unwrap();
    let Config::Payer(config) = &pair.payer.config else {
        panic!("a payer");
    };
    let (identity, policy) = (config.identity.clone(), config.policy.clone());
    let restored = PayerSession::restore(identity, policy, pair.now, id, &records).unwrap();
    assert!(restored.is_ended(), "nothing is left to do");
    let asking = restored.asking_for_receipt();
    assert_eq!(asking.state_name(), "Releasing");
    pair.payer.session = Some(Session::Payer(Box::new(asking)));
    pair.take_link_down(100);
}

#[test]
fn who_settled_alone_hears_later_what_it_has_paid() {
    for payee_settles_too in [false, true] {
        let mut pair = settled_alone(true);
        let (paid, heard) = pair.payer.money();
        let credited = pair.payee.money().0;
        assert!(credited > heard && paid >= credited, "{heard} {credited}");
        if payee_settles_too {
            pair.command(PAYEE, Command::Close(CloseCode::Done));
            pair.run(20_000, &[]).unwrap();
            pair.kill_payee(50);
            pair.run(100, &[]).unwrap();
        }
        ask(&mut pair);
        pair.run(2_000, &[]).unwrap();
        let payer = pair.payer().unwrap();
        assert_eq!(payer.acknowledged(), credited, "{payee_settles_too}");
        assert!(payer.is_ended() && payer.is_settled());
        // It is durable: who begins anew once more has nothing to ask.
        let id = pair.payer.id.unwrap();
        let records = pair.payer.store.scan(&session_prefix(id)).unwrap();
        let ledger = crate::session::SessionLedger::read(id, &records).unwrap();
        assert_eq!(ledger.acknowledged(), credited);
    }
}

#[test]
fn who_asks_for_a_payment_that_the_payee_never_had_is_told_so_and_asks_no_more() {
    let mut pair = settled_alone(false);
    let (paid, heard) = pair.payer.money();
    assert!(paid > heard, "one is under way");
    ask(&mut pair);
    pair.run(15_000, &[]).unwrap();
    let payer = pair.payer().unwrap();
    assert_eq!((payer.acknowledged(), payer.is_ended()), (heard, true));
}

#[test]
fn who_asks_and_is_not_answered_asks_on_the_next_connection() {
    let mut pair = settled_alone(true);
    let credited = pair.payee.money().0;
    ask(&mut pair);
    pair.tamper(|to, bytes| match to {
        PAYER => vec![],
        PAYEE => vec![bytes.clone()],
    });
    pair.run(60_000, &[]).unwrap();
    assert!(!pair.payer.is_ended());
    assert!(pair.payer().unwrap().acknowledged() < credited);
    pair.tamper = None;
    pair.take_link_down(100);
    pair.run(15_000, &[]).unwrap();
    let payer = pair.payer().unwrap();
    assert_eq!((payer.acknowledged(), payer.is_ended()), (credited, true));
}

#[test]
fn session_without_a_payment_that_is_not_acknowledged_has_nothing_to_ask() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    pair.settle().unwrap();
    let payer = pair.payer().unwrap();
    assert_eq!(payer.unacknowledged(), Msat::ZERO);
    assert!(payer.acknowledged() >= sat(1));
    let id = pair.payer.id.unwrap();
    let records = pair.payer.store.scan(&session_prefix(id)).unwrap();
    let Config::Payer(config) = &pair.payer.config else {
        panic!("a payer");
    };
    let (identity, policy) = (config.identity.clone(), config.policy.clone());
    let restored = PayerSession::restore(identity, policy, pair.now, id, &records).unwrap();
    assert!(restored.asking_for_receipt().is_ended());
}
