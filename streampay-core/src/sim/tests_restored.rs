//! What a payer tells its backend of receipts, after a restart and late.

use alloc::vec::Vec;

use super::side::Session;
use super::*;
use crate::backend::Request;
use crate::session::{CloseCode, Command, Input, Output, PayerSession};
use crate::store::{Store, session_prefix};
use crate::units::{Msat, Seq};
use crate::wire::{Message, decode};

const PAYER: Direction = Direction::ToPayer;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn requests(payer: &mut PayerSession) -> Vec<Request> {
    let outputs = core::iter::from_fn(|| payer.poll_output());
    let asked = outputs.filter_map(|output| match output {
        Output::Backend { request, .. } => Some(request),
        _ => None,
    });
    asked.collect()
}

/// What the payer asks first when its process begins anew, now.
fn asked_after_a_restart(pair: &Pair) -> Vec<Request> {
    let id = pair.payer.id.unwrap();
    let records = pair.payer.store.scan(&session_prefix(id)).unwrap();
    let side::Config::Payer(config) = &pair.payer.config else {
        panic!("a payer");
    };
    let (identity, policy) = (config.identity.clone(), config.policy.clone());
    let restored = PayerSession::restore(identity, policy, pair.now, id, &records);
    requests(&mut restored.unwrap())
}

/// The receipt was asked for before anything was paid: all its numbers are zero, and purse 0 is only
/// being opened.
#[test]
fn receipt_of_nothing_is_not_told_to_a_backend_that_opens_its_purse() {
    let mut pair = Pair::new(PairConfig {
        preview: sat(1),
        ..PairConfig::default()
    });
    pair.run(200, &[(0, Fault::MintAway(60_000))]).unwrap();
    pair.command(PAYER, Command::RequestReceipt);
    pair.run(200, &[]).unwrap();
    let kept = pair.payer().unwrap().receipt().unwrap();
    assert_eq!((kept.receipt.total, kept.receipt.seq), (Msat::ZERO, Seq(0)));
    let asked = asked_after_a_restart(&pair);
    assert!(matches!(asked[..], [Request::Open { .. }]), "{asked:?}");
    // Nor where it is called off.
    pair.tamper(|_, _| vec![]);
    pair.command(PAYER, Command::Close(CloseCode::Done));
    let asked = asked_after_a_restart(&pair);
    assert!(matches!(asked[..], [Request::Release]), "{asked:?}");
}

#[test]
fn last_ack_is_told_again_before_anything_else_is_asked() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let last = pair.payer().unwrap().receipt().unwrap().receipt;
    let (seq, cumulative) = (last.seq, last.cumulative);
    let asked = asked_after_a_restart(&pair);
    assert_eq!(asked.first(), Some(&Request::Acked { seq, cumulative }));
    // Also of a purse that comes home.
    pair.tamper(|_, _| vec![]);
    pair.command(PAYER, Command::Close(CloseCode::Done));
    pair.run(7_000, &[(0, Fault::MintAway(60_000))]).unwrap();
    let asked = asked_after_a_restart(&pair);
    assert_eq!(
        asked,
        [Request::Acked { seq, cumulative }, Request::Release]
    );
    // But not of one that is home.
    pair.run(120_000, &[]).unwrap();
    assert_eq!(asked_after_a_restart(&pair), []);
}

/// The connection comes back while the purse comes home: its backend hears what the payee has.
#[test]
fn ack_that_comes_while_the_purse_comes_home_is_told() {
    let mut pair = Pair::new(PairConfig::default());
    let acks = alloc::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = alloc::sync::Arc::clone(&acks);
    pair.tamper(move |_, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(_))) => {
            kept.lock().unwrap().push(bytes.clone());
            vec![]
        }
        Ok(Some(Message::Closed(_))) => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(1_000, &[]).unwrap();
    pair.command(PAYER, Command::Close(CloseCode::Done));
    pair.run(7_000, &[(0, Fault::MintAway(60_000))]).unwrap();
    assert_eq!(pair.payer().unwrap().acknowledged(), Msat::ZERO);
    let ack = acks.lock().unwrap()[0].clone();
    let now = pair.now;
    let Some(Session::Payer(payer)) = pair.payer.session.as_mut() else {
        panic!("the payer lives");
    };
    payer.handle(now, Input::Received(ack)).unwrap();
    let asked = requests(payer);
    let told = |asked: &[Request]| matches!(asked, [Request::Acked { seq: Seq(1), .. }]);
    assert!(told(&asked), "{asked:?}");
}
