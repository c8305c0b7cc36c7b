//! What a payer tells its backend of receipts, after a restart and late; and backups that are too old to
//! go on with.

use alloc::vec::Vec;

use super::mint::Call;
use super::side::Session;
use super::tests_answers::run_until_call;
use super::*;
use crate::backend::Request;
use crate::meter::Schedule;
use crate::session::{CloseCode, Command, Event, Input, Output, PayerSession, Receipt};
use crate::store::{ChangeSet, MemoryStore, Store, session_prefix};
use crate::units::{Msat, PurseId, Seq};
use crate::wire::{Hello, Message, decode, encode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

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

fn copy(store: &MemoryStore) -> MemoryStore {
    let (mut copy, mut all) = (MemoryStore::new(), ChangeSet::new());
    for (key, value) in store.scan(&[]).unwrap() {
        all.put(key, value);
    }
    copy.append(&[all]).unwrap();
    copy
}

/// One side comes back with a backup since which two purses were paid from. With the newest receipt of before.
fn restored_across_two_purses(side: Direction, backup_ms: u64, died_ms: u64) -> (Pair, Receipt) {
    let mut pair = Pair::new(PairConfig {
        max_purse: sat(10),
        ..PairConfig::default()
    });
    pair.run(backup_ms, &[]).unwrap();
    let of = |pair: &mut Pair, side| match side {
        PAYER => copy(&pair.payer.store),
        _ => copy(&pair.payee.store),
    };
    let old = of(&mut pair, side);
    pair.run(died_ms - backup_ms, &[]).unwrap();
    let newest = pair.payer().unwrap().receipt().unwrap().receipt;
    assert!(newest.purse > PurseId(0) && newest.total > newest.cumulative);
    let back = Some(pair.now.mono.after_ms(300));
    if side == PAYER {
        pair.payer.store = old;
        pair.payer.die();
        (pair.payer_back, pair.acked) = (back, Msat::ZERO);
    } else {
        pair.payee.store = old;
        pair.payee.die();
        pair.payee_back = back;
    }
    pair.take_link_down(500);
    pair.run(10_000, &[]).unwrap();
    (pair, newest)
}

/// What the payee's backends were told to settle of a purse last.
fn settled(pair: &Pair, of: u32) -> Option<Msat> {
    let settled = pair.payee.machines.iter().flat_map(|of| &of.settled);
    let of_purse = settled.filter(|(key, _)| key.purse == PurseId(of));
    of_purse.map(|(_, cumulative)| *cumulative).next_back()
}

/// Its backends give nothing back of what can be told from the receipt.
#[test]
fn payee_that_no_receipt_brings_forward_settles_what_the_receipt_tells() {
    // Purses hold five payments of 2. The backup, the death, the receipt's purse; what is settled of 0 to 2.
    let cases = [
        // Both known: one by the receipt, one by the rest of the total.
        (3_000, 6_000, 1, [Some(10), Some(2), None]),
        // The receipt's is not known.
        (1_000, 8_000, 1, [Some(10), None, None]),
        // One was full already.
        (7_200, 11_000, 2, [Some(10), Some(10), Some(2)]),
        // Two that are not known: the total says more than the one can hold.
        (1_000, 11_000, 2, [Some(10), None, None]),
    ];
    for (backup_ms, died_ms, of, wanted) in cases {
        let (pair, newest) = restored_across_two_purses(PAYEE, backup_ms, died_ms);
        assert_eq!(newest.purse, PurseId(of), "{backup_ms} {died_ms}");
        let told = [0, 1, 2].map(|of| settled(&pair, of));
        assert_eq!(
            told,
            wanted.map(|sum| sum.map(sat)),
            "{backup_ms} {died_ms}"
        );
    }
}

/// Neither goes on as if it knew, and neither says that the other cheats.
#[test]
fn backup_that_no_receipt_brings_forward_ends_the_session_without_blame() {
    for side in [PAYER, PAYEE] {
        // Purse 1 is known already, or not yet.
        for backup_ms in [7_500, 1_000] {
            let (pair, _) = restored_across_two_purses(side, backup_ms, 14_000);
            for of in [PAYER, PAYEE] {
                let told = pair.events(of);
                let blames = |event: &Event| matches!(event, Event::Misbehaved { .. });
                let blamed = told.iter().find(|event| blames(event));
                assert_eq!(blamed, None, "{side:?} {backup_ms} {of:?}");
                let ends = |event: &Event| matches!(event, Event::Closed { code, .. } if *code == CloseCode::OutOfDate);
                let codes = told
                    .iter()
                    .filter(|event| matches!(event, Event::Closed { .. }));
                let codes: Vec<_> = codes.collect();
                assert!(
                    told.iter().any(ends),
                    "{side:?} {backup_ms} {of:?}: {codes:?}"
                );
            }
        }
    }
}

/// In its backup a tip is under way, which came back since; then media was paid. It is none any more, and is given anew.
#[test]
fn tip_that_came_back_since_the_backup_is_given_anew() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    let (key, session) = (pair.payee_key.clone(), pair.payer.id.unwrap());
    let tips = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let said = std::sync::Arc::clone(&tips);
    pair.tamper(move |to, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(tick))) if to == PAYEE => {
            said.lock().unwrap().push((tick.seq, tick.tips));
            vec![]
        }
        Ok(Some(Message::Ready(mut ready))) => {
            let mut receipt = ready.evidence.unwrap().receipt;
            receipt.seq = Seq(receipt.seq.0 + 2);
            receipt.cumulative = receipt.cumulative.saturating_plus(sat(2));
            receipt.total = receipt.total.saturating_plus(sat(2));
            ready.evidence = Some(receipt.sign(session, &key));
            vec![encode(&Message::Ready(ready))]
        }
        _ => vec![bytes.clone()],
    });
    pair.tip(sat(2));
    pair.run(100, &[]).unwrap();
    let (given, _) = tips.lock().unwrap()[0];
    pair.payer.die();
    pair.payer_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    for _ in 0..300 {
        // The judge objects: the payee says so alone.
        let _ = pair.run(5, &[]);
    }
    let anew = (Seq(given.0 + 2), Some(sat(2)));
    assert_eq!(tips.lock().unwrap().last(), Some(&anew));
}

/// A number that none of the payments that the purse can hold had: after it no tick could follow.
#[test]
fn receipt_by_a_number_that_no_payment_had_is_not_taken_after_a_restart() {
    for more in [u64::MAX / 2, 1_000] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(3_500, &[]).unwrap();
        let (key, session) = (pair.payee_key.clone(), pair.payer.id.unwrap());
        pair.tamper(move |_, bytes| match decode(bytes) {
            Ok(Some(Message::Ready(mut ready))) => {
                let evidence = ready.evidence.unwrap();
                let mut receipt = evidence.receipt;
                receipt.seq = Seq(receipt.seq.0 + more);
                receipt.cumulative = receipt.cumulative.saturating_plus(sat(2));
                receipt.total = receipt.total.saturating_plus(sat(2));
                ready.evidence = Some(receipt.sign(session, &key));
                vec![encode(&Message::Ready(ready))]
            }
            _ => vec![bytes.clone()],
        });
        pair.payer.die();
        pair.payer_back = Some(pair.now.mono.after_ms(300));
        pair.take_link_down(500);
        let before = pair.acked;
        // The judge objects where the payer counts what nobody credited.
        pair.run(2_000, &[]).unwrap();
        assert_eq!(pair.payer().unwrap().acknowledged(), before, "{more}");
        let out = |event: &Event| {
            matches!(
                event,
                Event::Closed {
                    code: CloseCode::OutOfDate,
                    ..
                }
            )
        };
        assert!(pair.events(PAYER).iter().any(out), "{more}");
        let blamed = |event: &Event| matches!(event, Event::Misbehaved { .. });
        assert!(!pair.events(PAYER).iter().any(blamed), "{more}");
        pair.tamper = None;
        pair.settle().unwrap();
    }
}

/// The user has paused, and no purse was ever begun. What the payee offered before it lost its first record is of
/// terms that nobody has any more.
#[test]
fn payee_that_lost_its_first_record_begins_its_offers_anew() {
    let mut pair = Pair::new(PairConfig {
        max_purse: sat(1),
        ..PairConfig::default()
    });
    pair.command(PAYER, Command::Pause);
    pair.run(1_000, &[(500, Fault::OfferTariff(50))]).unwrap();
    let agreed = |pair: &Pair| {
        let agreed = |event: &&Event| matches!(event, Event::TermsAgreed { .. });
        pair.events(PAYER).iter().filter(agreed).count()
    };
    assert_eq!(agreed(&pair), 1);
    pair.payee.store = MemoryStore::new();
    pair.payee.die();
    pair.payee_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    pair.run(1_000, &[]).unwrap();
    let payer = pair.payer().unwrap();
    assert_eq!(payer.state_name(), "Live");
    let terms = payer.terms().unwrap().clone();
    assert_eq!(payer.schedule(), Schedule::new(terms.tariff));
    pair.run(500, &[(0, Fault::OfferTariff(50))]).unwrap();
    assert_eq!(agreed(&pair), 2);
}

/// It knows no purse, and its last word is lost with the connection. Its payer hears it on the next one.
#[test]
fn payee_that_no_receipt_brings_forward_is_there_to_say_so_again() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(75, &[]).unwrap();
    let old = copy(&pair.payee.store);
    pair.run(5_000, &[]).unwrap();
    pair.payee.store = old;
    pair.payee.die();
    pair.payee_back = Some(pair.now.mono.after_ms(300));
    pair.tamper(|to, bytes| match decode(bytes) {
        Ok(Some(Message::Closed(_))) if to == PAYER => vec![],
        _ => vec![bytes.clone()],
    });
    pair.take_link_down(500);
    pair.run(1_500, &[]).unwrap();
    let id = pair.payer.id.unwrap();
    let kept = pair.payee.store.scan(&session_prefix(id)).unwrap();
    assert_eq!(kept.len(), 2);
    let out = |pair: &Pair, of| {
        let code = CloseCode::OutOfDate;
        let ends =
            |event: &&Event| matches!(event, Event::Closed { code: found, .. } if *found == code);
        pair.events(of).iter().filter(ends).count()
    };
    assert_eq!((out(&pair, PAYEE), out(&pair, PAYER)), (1, 0));
}

/// Its backup knows of no tip. What was given since is not taken off the next.
#[test]
fn tip_after_an_old_backup_was_brought_forward_is_given() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_000, &[]).unwrap();
    let old = copy(&pair.payer.store);
    pair.tip(sat(4));
    pair.run(2_000, &[]).unwrap();
    assert_eq!(pair.payee().unwrap().tips(), sat(4));
    pair.payer.store = old;
    pair.payer.die();
    (pair.payer_back, pair.acked) = (Some(pair.now.mono.after_ms(300)), Msat::ZERO);
    pair.take_link_down(500);
    pair.run(3_000, &[]).unwrap();
    pair.tip(sat(2));
    pair.run(3_000, &[]).unwrap();
    assert_eq!(pair.payee().unwrap().tips(), sat(6));
}

/// In its backup a purse is still being checked, from which it was paid since. Its backend knows nothing of that purse.
#[test]
fn payee_whose_backup_has_the_purse_as_being_checked_ends_out_of_date() {
    let mut pair = Pair::new(PairConfig::default());
    let purse = run_until_call(&mut pair, PAYEE, |call| matches!(call, Call::Accept { .. }));
    let (known, more) = (pair.payee().unwrap().credited(), pair.config.tick);
    let receipt = Receipt {
        purse,
        seq: Seq(1),
        cumulative: more,
        total: known.saturating_plus(more),
        ..Receipt::default()
    };
    let evidence = Some(receipt.sign(pair.payer.id.unwrap(), &pair.payee_key));
    pair.tamper(move |_, bytes| match decode(bytes) {
        Ok(Some(Message::Hello(hello))) => {
            vec![encode(&Message::Hello(Hello { evidence, ..hello }))]
        }
        _ => vec![bytes.clone()],
    });
    pair.kill_payee(300);
    pair.run(3_000, &[]).unwrap();
    let code = CloseCode::OutOfDate;
    let ends =
        |event: &&Event| matches!(event, Event::Closed { code: found, .. } if *found == code);
    assert_eq!(pair.events(PAYEE).iter().filter(ends).count(), 1);
}
