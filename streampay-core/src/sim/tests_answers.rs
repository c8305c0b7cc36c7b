//! Answers of a backend, and receipts of a payee, at moments when they must change nothing, or
//! just so much.

use super::mint::Call;
use super::*;
use crate::backend::{Answer, BackendError, Consumed, Outcome, RefusalCode};
use crate::meter::{Grant, PauseReason};
use crate::session::{BackendEvent, CloseCode, Command, Event, Input, Misbehaviour, Receipt};
use crate::store::{ChangeSet, MemoryStore, Store};
use crate::units::{Msat, PurseId, PurseKey, Seq};
use crate::wire::{Ack, Message, Purse, Tick, decode, encode};
use bytes::Bytes;

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;
const FIRST: PurseId = PurseId(0);

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn count(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> usize {
    pair.events(of).iter().filter(|event| wanted(event)).count()
}

fn misbehaved(pair: &Pair, of: Direction) -> Option<Misbehaviour> {
    pair.events(of).iter().find_map(|event| match event {
        Event::Misbehaved { how } => Some(*how),
        _ => None,
    })
}

fn closed(pair: &Pair, of: Direction) -> Option<CloseCode> {
    pair.events(of).iter().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

fn paused(pair: &Pair, of: Direction, wanted: PauseReason) -> bool {
    let is_wanted =
        |event: &Event| matches!(event, Event::Paused { reason, .. } if *reason == wanted);
    count(pair, of, is_wanted) > 0
}

/// What the backend of this side says of its purse.
fn answer(pair: &mut Pair, to: Direction, purse: PurseId, outcome: Outcome) {
    let session = pair.payer.id.unwrap();
    let purse = PurseKey { session, purse };
    let answer = Answer::outcome(outcome);
    pair.input(to, Input::Backend(BackendEvent { purse, answer }));
}

/// Runs until this side waits for the mint with such a call.
pub(super) fn run_until_call(pair: &mut Pair, of: Direction, wanted: fn(Call) -> bool) -> PurseId {
    for _ in 0..3_000 {
        let calls = pair.calls.values().filter(|(side, ..)| *side == of);
        let mut calls = calls.map(|(.., effect)| effect);
        let is_wanted = |body: &Bytes| Call::from_bytes(body).is_some_and(wanted);
        if let Some(effect) = calls.find(|effect| is_wanted(&effect.body)) {
            return effect.purse.purse;
        }
        pair.run(5, &[]).unwrap();
    }
    panic!("no such call");
}

/// The payer's first tick arrived, and its ack never comes.
fn unacknowledged() -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Ack(_))) => vec![],
        _ => vec![bytes.clone()],
    });
    pair.run(500, &[]).unwrap();
    let payer = pair.payer().unwrap();
    assert_eq!((payer.paid(), payer.acknowledged()), (sat(2), Msat::ZERO));
    pair
}

/// Only what was refused can be back or gone; what is sent stays paid, whatever the backend says.
#[test]
fn payment_under_way_stays_paid_whatever_the_backend_says() {
    let rejected = BackendError::Rejected(RefusalCode::Other, Consumed::No);
    let empty = BackendError::Fatal(RefusalCode::PurseEmpty);
    for outcome in [
        Outcome::Reclaimed,
        Outcome::Outstanding,
        Outcome::Spent,
        Outcome::Credited,
        Outcome::Failed(BackendError::Transient),
        Outcome::Failed(BackendError::Unknown),
        Outcome::Failed(rejected),
        Outcome::Failed(empty),
    ] {
        let mut pair = unacknowledged();
        answer(&mut pair, PAYER, FIRST, outcome.clone());
        assert_eq!(pair.payer().unwrap().paid(), sat(2), "{outcome:?}");
        let moved = |event: &Event| {
            matches!(
                event,
                Event::TickReclaimed { .. } | Event::TickLost { .. } | Event::Closed { .. }
            )
        };
        assert_eq!(count(&pair, PAYER, moved), 0, "{outcome:?}");
        pair.tamper = None;
        pair.run(20_000, &[]).unwrap();
        assert!(pair.credited() > sat(10), "{outcome:?}");
        pair.settle().unwrap();
    }
}

#[test]
fn payment_that_was_not_made_is_not_paid_and_only_an_empty_purse_is_left_for_another() {
    for (error, ends) in [
        (BackendError::Fatal(RefusalCode::PurseEmpty), false),
        (BackendError::Fatal(RefusalCode::Other), true),
        (
            BackendError::Rejected(RefusalCode::Other, Consumed::No),
            true,
        ),
    ] {
        let mut pair = Pair::new(PairConfig::default());
        let making = |call| matches!(call, Call::Make { .. });
        let purse = run_until_call(&mut pair, PAYER, making);
        let paid = pair.payer().unwrap().paid();
        answer(&mut pair, PAYER, purse, Outcome::Failed(error));
        let left = pair.payer().unwrap().paid();
        assert_eq!(left, paid.saturating_minus(sat(2)), "{error:?}");
        pair.run(8_000, &[]).unwrap();
        let code = ends.then_some(CloseCode::BackendFailed);
        assert_eq!(closed(&pair, PAYER), code, "{error:?}");
        assert!(ends || pair.credited() > paid, "{error:?}");
        pair.settle().unwrap();
    }
}

#[test]
fn close_waits_for_a_payment_that_is_being_made() {
    let mut pair = Pair::new(PairConfig::default());
    run_until_call(&mut pair, PAYER, |call| matches!(call, Call::Make { .. }));
    let credited = pair.credited();
    // The payee says at once that all is over.
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    pair.run(25, &[]).unwrap();
    let home = |pair: &Pair| {
        let mut calls = pair.calls.values().map(|(.., effect)| &effect.body);
        calls.any(|body| matches!(Call::from_bytes(body), Some(Call::ReclaimAll)))
    };
    assert!(closed(&pair, PAYER).is_some() && !home(&pair));
    // Its answer leads to the release, and nothing else has to come for that.
    run_until_call(&mut pair, PAYER, |call| matches!(call, Call::ReclaimAll));
    pair.run(1_000, &[]).unwrap();
    assert!(pair.payer().unwrap().is_settled());
    assert_eq!(pair.credited(), credited);
    pair.settle().unwrap();
}

#[test]
fn payee_credits_nothing_whose_fate_is_unknown() {
    for error in [BackendError::Unknown, BackendError::Transient] {
        let mut pair = Pair::new(PairConfig::default());
        let checking = |call| matches!(call, Call::Redeem { .. });
        let purse = run_until_call(&mut pair, PAYEE, checking);
        answer(&mut pair, PAYEE, purse, Outcome::Failed(error));
        assert!(pair.payee().unwrap().credited().is_zero(), "{error:?}");
        assert!(paused(&pair, PAYEE, PauseReason::BackendAway), "{error:?}");
        pair.run(5_000, &[]).unwrap();
        assert!(pair.credited() >= sat(8), "{error:?}");
        pair.settle().unwrap();
    }
}

#[test]
fn backend_that_settles_nothing_is_left_to_recovery_and_says_why() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let error = BackendError::Transient;
    let unsettled =
        |event: &Event| matches!(event, Event::Unsettled { error: why, .. } if *why == error);
    // The mint is away for good: what is left at it cannot come home yet.
    pair.command(PAYER, Command::Close(CloseCode::Done));
    pair.run(45_000, &[(0, Fault::MintAway(120_000))]).unwrap();
    assert_eq!(count(&pair, PAYER, unsettled), 1);
    pair.settle().unwrap();
}

#[test]
fn close_is_held_up_by_a_payment_that_is_checked_for_five_seconds_alone() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let told = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (noted, credited) = (told.clone(), pair.credited());
    pair.run(2_000, &[(0, Fault::MintAway(60_000))]).unwrap();
    let start = pair.now.mono;
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    let now = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = now.clone();
    pair.tamper(move |_, bytes| {
        if let Ok(Some(Message::Closed(closed))) = decode(bytes) {
            let at = clock.load(std::sync::atomic::Ordering::Relaxed);
            let total = closed.evidence.map(|evidence| evidence.receipt.total);
            noted.lock().unwrap().get_or_insert((at, total));
        }
        vec![bytes.clone()]
    });
    for ms in 0..80 {
        now.store(ms * 100, std::sync::atomic::Ordering::Relaxed);
        pair.run(100, &[]).unwrap();
    }
    assert_eq!(pair.now.mono.since_ms(start), 8_000);
    let (at, total) = told.lock().unwrap().unwrap();
    assert!((4_900..=5_100).contains(&at), "told after {at} ms");
    assert_eq!(total, Some(credited));
    pair.tamper = None;
    pair.settle().unwrap();
}

fn tick(purse: u32, seq: u64, cumulative: u64) -> Bytes {
    encode(&Message::Tick(Tick {
        purse: PurseId(purse),
        seq: Seq(seq),
        cumulative: sat(cumulative),
        payload: Bytes::from_static(b"x"),
        tips: None,
    }))
}

fn part(purse: u32, method: u8, bytes: &'static [u8]) -> Bytes {
    encode(&Message::Purse(Purse {
        purse: PurseId(purse),
        part: 0,
        of: 1,
        method,
        bytes: Bytes::from_static(bytes),
    }))
}

#[test]
fn purse_that_is_being_checked_takes_no_tick_and_no_other_opening() {
    let asked = |call| matches!(call, Call::Accept { .. });
    let mut pair = Pair::new(PairConfig::default());
    let purse = run_until_call(&mut pair, PAYEE, asked);
    // The mint never answers, and no payment is being checked by then.
    let is_asked = |body: &Bytes| Call::from_bytes(body).is_some_and(asked);
    pair.calls.retain(|_, (.., effect)| !is_asked(&effect.body));
    pair.run(200, &[]).unwrap();
    pair.inject(PAYEE, &tick(purse.0, 1, 2));
    let refused = |event: &Event| matches!(event, Event::TickRefused { .. });
    assert_eq!(count(&pair, PAYEE, refused), 0);
    assert_eq!(misbehaved(&pair, PAYEE), None);
    pair.inject(PAYEE, &part(purse.0, 1, b"another"));
    assert_eq!(misbehaved(&pair, PAYEE), Some(Misbehaviour::PurseParts));
    pair.settle().unwrap();
}

#[test]
fn method_that_the_terms_do_not_list_opens_no_purse() {
    for method in [2, 3, 255] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(2_500, &[]).unwrap();
        pair.inject(PAYEE, &part(7, method, b"opening"));
        let how = Some(Misbehaviour::PurseParts);
        assert_eq!(misbehaved(&pair, PAYEE), how, "{method}");
        pair.settle().unwrap();
    }
}

#[test]
fn older_tick_that_comes_again_is_no_gap() {
    let ticks = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let noted = ticks.clone();
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(move |_, bytes| {
        if matches!(decode(bytes), Ok(Some(Message::Tick(_)))) {
            noted.lock().unwrap().push(bytes.clone());
        }
        vec![bytes.clone()]
    });
    pair.run(4_500, &[]).unwrap();
    let credited = pair.credited();
    let first = ticks.lock().unwrap()[0].clone();
    for _ in 0..3 {
        pair.inject(PAYEE, &first);
    }
    assert_eq!(
        (misbehaved(&pair, PAYEE), pair.credited()),
        (None, credited)
    );
    pair.settle().unwrap();
}

/// A receipt as only the payee can sign it.
fn acknowledge(pair: &mut Pair, seq: u64, cumulative: Msat) {
    let receipt = Receipt {
        purse: FIRST,
        seq: Seq(seq),
        cumulative,
        total: cumulative,
        ..Receipt::default()
    };
    let evidence = receipt.sign(pair.payer.id.unwrap(), &pair.payee_key);
    let grant = None;
    pair.inject(PAYER, &encode(&Message::Ack(Ack { evidence, grant })));
}

/// Two ticks acknowledged, the third written off: nothing is under way.
fn written_off() -> Pair {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(500, &[]).unwrap();
    let session = pair.payer.id.unwrap();
    let purse = FIRST;
    pair.mint.steal(PurseKey { session, purse }, Seq(3));
    pair.run(8_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.command(PAYER, Command::WriteOff);
    let payer = pair.payer().unwrap();
    assert_eq!((payer.paid(), payer.acknowledged()), (sat(6), sat(4)));
    assert_eq!(payer.written_off(), sat(2));
    pair
}

#[test]
fn written_off_payment_that_is_acknowledged_after_all_is_not_lost() {
    for (cumulative, lost, how) in [
        (6_000, 0, None),
        // Part of a payment, and more than was ever paid.
        (5_000, 2_000, Some(Misbehaviour::OverAcknowledged)),
        (8_000, 2_000, Some(Misbehaviour::OverAcknowledged)),
    ] {
        let mut pair = written_off();
        acknowledge(&mut pair, 3, Msat::new(cumulative).unwrap());
        let payer = pair.payer().unwrap();
        assert_eq!(payer.written_off().msat(), lost, "{cumulative}");
        assert_eq!(misbehaved(&pair, PAYER), how, "{cumulative}");
    }
}

#[test]
fn written_off_payment_may_be_acknowledged_while_the_next_is_under_way() {
    for (cumulative, lost, how) in [
        (6_000, 0, None),
        (8_000, 2_000, Some(Misbehaviour::OverAcknowledged)),
    ] {
        let mut pair = written_off();
        pair.tamper(|_, bytes| match decode(bytes) {
            Ok(Some(Message::Ack(_) | Message::Nack(_))) => vec![],
            _ => vec![bytes.clone()],
        });
        pair.command(PAYER, Command::Resume);
        pair.run(500, &[]).unwrap();
        assert_eq!(pair.payer().unwrap().paid(), sat(8));
        acknowledge(&mut pair, 3, Msat::new(cumulative).unwrap());
        let payer = pair.payer().unwrap();
        assert_eq!(payer.written_off().msat(), lost, "{cumulative}");
        assert_eq!(payer.paid(), sat(8), "{cumulative}");
        assert_eq!(misbehaved(&pair, PAYER), how, "{cumulative}");
    }
}

#[test]
fn older_receipt_on_request_takes_no_newer_ones_place() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let known = pair.payer().unwrap().receipt();
    pair.tamper(|_, _| vec![]);
    pair.command(PAYER, Command::RequestReceipt);
    acknowledge(&mut pair, 1, sat(2));
    let told = |event: &Event| matches!(event, Event::Receipt(_));
    assert_eq!(count(&pair, PAYER, told), 0);
    assert!(known.is_some() && pair.payer().unwrap().receipt() == known);
    pair.tamper = None;
    pair.run(1_000, &[]).unwrap();
    pair.settle().unwrap();
}

#[test]
fn tip_of_all_that_is_left_is_given_and_one_more_is_not() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    pair.tip(sat(1_000_000));
    let most = pair.events(PAYER).iter().find_map(|event| match event {
        Event::TipRefused { most, .. } => Some(*most),
        _ => None,
    });
    let most = most.unwrap();
    let refused = |event: &Event| matches!(event, Event::TipRefused { .. });
    pair.tip(most.plus(Msat::new(1).unwrap()).unwrap());
    assert_eq!(count(&pair, PAYER, refused), 2);
    pair.tip(most);
    assert_eq!(count(&pair, PAYER, refused), 2);
    assert_eq!(pair.payer().unwrap().tips_wanted(), most);
}

#[test]
fn media_that_was_on_its_way_when_the_link_was_lost_opens_no_gate() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let mut reading = pair.payee().unwrap().reading();
    pair.take_link_down(5_000);
    assert!(matches!(pair.payee.grant, Grant::Paused(_)));
    reading.media_ms += 10_000;
    pair.input(PAYEE, Input::Usage(reading));
    assert!(matches!(pair.payee.grant, Grant::Paused(_)));
}

#[test]
fn why_no_purse_opens_is_said_when_the_session_ends() {
    for (code, wanted) in [
        (RefusalCode::InsufficientFunds, CloseCode::InsufficientFunds),
        (RefusalCode::OverBudget, CloseCode::BudgetSpent),
        (RefusalCode::Other, CloseCode::BackendFailed),
    ] {
        let mut pair = Pair::new(PairConfig::default());
        for purse in [FIRST, PurseId(1)] {
            let opening = |call| matches!(call, Call::Issue { .. });
            assert_eq!(run_until_call(&mut pair, PAYER, opening), purse);
            let failed = Outcome::Failed(BackendError::Fatal(code));
            pair.calls.clear();
            answer(&mut pair, PAYER, purse, failed);
        }
        pair.run(2_000, &[]).unwrap();
        assert_eq!(closed(&pair, PAYER), Some(wanted), "{code:?}");
    }
}

#[test]
fn payment_that_is_never_checked_is_left_to_recovery_and_says_why() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    pair.run(2_000, &[(0, Fault::MintAway(120_000))]).unwrap();
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    pair.run(50_000, &[]).unwrap();
    let unsettled = |event: &Event| matches!(event, Event::Unsettled { .. });
    assert!(count(&pair, PAYEE, unsettled) > 0);
    pair.settle().unwrap();
}

/// The payment was credited after the backup was made, and the payer shows the receipt for it.
#[test]
fn backup_with_a_payment_that_is_being_checked_is_brought_forward_once() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(2_500, &[]).unwrap();
    run_until_call(&mut pair, PAYEE, |call| matches!(call, Call::Redeem { .. }));
    let backup = copy(&pair.payee.store);
    pair.run(3_000, &[]).unwrap();
    let credited = pair.credited();
    pair.payee.store = backup;
    pair.payee.die();
    pair.payee_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    pair.run(1_500, &[(0, Fault::MintAway(1_200))]).unwrap();
    assert!(pair.payee().unwrap().credited() >= credited);
    // What it delivered since the last receipt is the price of an old backup.
    let known = pair.payee.reading.media_ms;
    pair.delivered.media_ms = pair.delivered.media_ms.min(known);
    pair.payee_stands_in = false;
    pair.run(5_000, &[]).unwrap();
    assert!(pair.credited() > credited);
    pair.settle().unwrap();
}

/// So long no call of the payee's ends. True where a tick came meanwhile.
fn lose_calls(pair: &mut Pair, ms: u64) -> bool {
    let came = std::sync::Arc::new(core::sync::atomic::AtomicBool::new(false));
    let comes = std::sync::Arc::clone(&came);
    pair.tamper(move |_, bytes| {
        let tick = matches!(decode(bytes), Ok(Some(Message::Tick(_))));
        comes.fetch_or(tick, core::sync::atomic::Ordering::Relaxed);
        vec![bytes.clone()]
    });
    for _ in 0..ms / 5 {
        pair.run(5, &[]).unwrap();
        pair.calls.retain(|_, (side, ..)| *side == PAYER);
    }
    pair.tamper = None;
    came.load(core::sync::atomic::Ordering::Relaxed)
}

/// A payee on an old backup asks its backend again for a payment that the receipt of its payer decided, and the next tick
/// is there before the answer is.
#[test]
fn late_answer_for_a_payment_that_was_let_go_of_decides_no_other() {
    let rejected = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    for (late, restarts) in [
        (Outcome::Credited, false),
        (Outcome::Credited, true),
        (Outcome::Failed(rejected), false),
        (
            Outcome::Failed(BackendError::Fatal(RefusalCode::Other)),
            true,
        ),
    ] {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(2_500, &[]).unwrap();
        let redeems = |call| matches!(call, Call::Redeem { .. });
        let purse = run_until_call(&mut pair, PAYEE, redeems);
        let backup = copy(&pair.payee.store);
        pair.run(2_000, &[]).unwrap();
        pair.payee.store = backup;
        pair.payee.die();
        pair.payee_back = Some(pair.now.mono.after_ms(300));
        pair.take_link_down(500);
        lose_calls(&mut pair, 700);
        let known = pair.payee.reading.media_ms;
        pair.delivered.media_ms = pair.delivered.media_ms.min(known);
        pair.payee_stands_in = false;
        let before = pair.payee().unwrap().credited();
        assert_eq!(before, pair.credited(), "{late:?}");
        let came = lose_calls(&mut pair, 2_000);
        assert!(came, "{late:?}: no tick came before the answer");
        if restarts {
            pair.kill_payee(100);
            lose_calls(&mut pair, 2_000);
        }
        answer(&mut pair, PAYEE, purse, late.clone());
        assert_eq!(pair.payee().unwrap().credited(), before, "{late:?}");
        let refused = |event: &Event| matches!(event, Event::TickRefused { .. });
        assert_eq!(count(&pair, PAYEE, refused), 0, "{late:?}");
        assert_eq!(misbehaved(&pair, PAYEE), None, "{late:?}");
        pair.run(10_000, &[]).unwrap();
        assert!(pair.credited() > before, "{late:?}");
        pair.settle().unwrap();
    }
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let (mut copy, mut all) = (MemoryStore::new(), ChangeSet::new());
    for (key, value) in store.scan(&[]).unwrap() {
        all.put(key, value);
    }
    copy.append(&[all]).unwrap();
    copy
}

#[test]
fn payment_that_cannot_be_shown_again_is_lost_and_nothing_is_paid_in_its_place() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Tick(mut tick))) if tick.seq == Seq(2) => {
            tick.payload = Bytes::from_static(b"kept");
            vec![encode(&Message::Tick(tick))]
        }
        _ => vec![bytes.clone()],
    });
    let reclaims = |call| matches!(call, Call::Reclaim { .. });
    let purse = run_until_call(&mut pair, PAYER, reclaims);
    answer(&mut pair, PAYER, purse, Outcome::Outstanding);
    let making = |call| matches!(call, Call::Make { seq: Seq(3), .. });
    assert_eq!(run_until_call(&mut pair, PAYER, making), purse);
    let empty = BackendError::Fatal(RefusalCode::PurseEmpty);
    answer(&mut pair, PAYER, purse, Outcome::Failed(empty));
    let lost = |event: &Event| matches!(event, Event::TickLost { seq: Seq(2), .. });
    assert_eq!(count(&pair, PAYER, lost), 1);
    pair.run(8_000, &[]).unwrap();
    assert_eq!(pair.payer().unwrap().paid(), sat(4));
    assert_eq!(pair.credited(), sat(2));
    pair.settle().unwrap();
}
