//! Ends with several purses: one whose mint is away, or that cannot come home, holds up no other.

use super::mint::Call;
use super::*;
use crate::backend::{Answer, BackendError, Outcome, RefusalCode};
use crate::session::{BackendEvent, CloseCode, Command, Event, Input, PayerSession};
use crate::units::{Msat, PurseId, PurseKey};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;
/// Never, for a test.
const FOR_GOOD: u64 = 100_000_000;

fn answer(pair: &mut Pair, to: Direction, purse: PurseId, outcome: Outcome) {
    let session = pair.payer.id.unwrap();
    let purse = PurseKey { session, purse };
    let answer = Answer::outcome(outcome);
    pair.input(to, Input::Backend(BackendEvent { purse, answer }));
}

fn calls(pair: &Pair, of: Direction, wanted: fn(Call) -> bool) -> Vec<PurseId> {
    let calls = pair.calls.values().filter(|(side, ..)| *side == of);
    let calls = calls.map(|(.., effect)| effect);
    let wanted = calls.filter(|effect| Call::from_bytes(&effect.body).is_some_and(wanted));
    wanted.map(|effect| effect.purse.purse).collect()
}

fn told(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> bool {
    pair.events(of).iter().any(wanted)
}

/// A purse of the method that needs no mint for a tick, with what was paid from it still out; then one
/// of the other method, with a payment that is being checked.
fn one_is_checked() -> (Pair, PurseId) {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(21_000, &[(0, Fault::FirstMethodAway(20_000))])
        .unwrap();
    let checks = |call| matches!(call, Call::Redeem { .. });
    for _ in 0..20_000 {
        let checked = calls(&pair, PAYEE, checks);
        let method = |id: PurseId| {
            let purses = pair.payer().unwrap().purses();
            purses
                .iter()
                .any(|(purse, name)| *purse == id && name == FakeBackend::METHOD)
        };
        if let Some(id) = checked.into_iter().find(|id| method(*id)) {
            return (pair, id);
        }
        pair.run(5, &[]).unwrap();
    }
    panic!("nothing is checked");
}

/// A redemption that the mint never answers, for whatever life of the process.
fn settles_the_rest(restarts: bool) {
    let (mut pair, checked) = one_is_checked();
    pair.strike(Fault::FirstMethodAway(FOR_GOOD));
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    if restarts {
        pair.kill_payee(300);
    }
    pair.run(12_000, &[]).unwrap();
    let settled = pair.payee.machines.iter().flat_map(|of| &of.settled);
    let settled: Vec<PurseId> = settled.map(|(purse, _)| purse.purse).collect();
    assert!(settled.iter().any(|id| *id != checked), "{settled:?}");
    assert!(!settled.contains(&checked), "{settled:?}");
    // That one is settled when its mint is back.
    pair.settle().unwrap();
}

#[test]
fn mint_that_never_answers_holds_up_no_purse_but_its_own() {
    settles_the_rest(false);
}

#[test]
fn mint_that_never_answers_holds_up_no_purse_but_its_own_after_a_restart() {
    settles_the_rest(true);
}

/// While a payment of the other method is checked; what comes of that is settled by the same process.
#[test]
fn purse_that_cannot_be_settled_keeps_none_unsettled_whose_payment_was_checked() {
    let (mut pair, checked) = one_is_checked();
    pair.strike(Fault::FirstMethodAway(8_000));
    for machine in &mut pair.payee.machines {
        machine.fails_to_settle = true;
    }
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    pair.run(6_000, &[]).unwrap();
    let of_other =
        |event: &Event| matches!(event, Event::Unsettled { purse, .. } if *purse != checked);
    assert!(told(&pair, PAYEE, of_other));
    for machine in &mut pair.payee.machines {
        machine.fails_to_settle = false;
    }
    pair.run(10_000, &[]).unwrap();
    let mut settled = pair.payee.machines.iter().flat_map(|of| &of.settled);
    assert!(settled.any(|(purse, _)| purse.purse == checked));
}

/// Both of the payer's purses are asked to come home, and no mint answers.
fn both_come_home() -> (Pair, PurseId, PurseId) {
    let (mut pair, _) = one_is_checked();
    pair.run(500, &[]).unwrap();
    pair.strike(Fault::MintAway(20_000));
    pair.command(PAYER, Command::Close(CloseCode::Done));
    for _ in 0..2_000 {
        let asked = calls(&pair, PAYER, |call| matches!(call, Call::ReclaimAll));
        if let [one, other, ..] = asked[..] {
            return (pair, one, other);
        }
        pair.run(5, &[]).unwrap();
    }
    let purses = pair.payer().unwrap().purses();
    panic!("they are not asked: {purses:?}");
}

#[test]
fn purse_that_cannot_come_home_keeps_no_other_away() {
    let (mut pair, one, other) = both_come_home();
    let error = BackendError::Fatal(RefusalCode::Other);
    let before = pair.mint.payer;
    answer(&mut pair, PAYER, one, Outcome::Failed(error));
    let of_one = |event: &Event| matches!(event, Event::Unsettled { purse, .. } if *purse == one);
    assert!(told(&pair, PAYER, of_one));
    assert!(pair.payer().is_some_and(|payer| !payer.is_settled()));
    assert!(!pair.payer.is_ended(), "{other:?} is on its way");
    pair.settle().unwrap();
    assert!(pair.mint.payer > before);
}

fn unsettled(pair: &Pair, of: Direction) -> Vec<PurseId> {
    let told = pair.events(of).iter().filter_map(|event| match event {
        Event::Unsettled { purse, .. } => Some(*purse),
        _ => None,
    });
    told.collect()
}

/// When the last of five rounds of asking is due, after the first answer that the mint is away.
const LAST_ROUND_MS: u64 = 30_000;

/// One fails for good just before the last round: the user hears of each once.
#[test]
fn purses_that_stay_out_are_named_and_not_the_one_that_failed_before() {
    let (mut pair, one, other) = both_come_home();
    let still_out = |pair: &Pair| {
        let out = pair.payer().unwrap().purses_out().into_iter();
        out.map(|(purse, _)| purse).filter(|purse| *purse != one)
    };
    let rest: Vec<PurseId> = still_out(&pair).collect();
    pair.strike(Fault::MintAway(FOR_GOOD));
    let (away, fatal) = (
        BackendError::Transient,
        BackendError::Fatal(RefusalCode::Other),
    );
    answer(&mut pair, PAYER, other, Outcome::Failed(away));
    pair.run(LAST_ROUND_MS - 500, &[]).unwrap();
    assert_eq!(unsettled(&pair, PAYER), []);
    answer(&mut pair, PAYER, one, Outcome::Failed(fatal));
    assert_eq!(unsettled(&pair, PAYER), [one]);
    pair.run(600, &[]).unwrap();
    assert_eq!(unsettled(&pair, PAYER), [&[one], &rest[..]].concat());
    pair.settle().unwrap();
}

/// Its backend brought it home after all, while another was on its way.
#[test]
fn purse_that_failed_and_came_home_later_lets_the_session_settle() {
    let (mut pair, one, _) = both_come_home();
    let fatal = BackendError::Fatal(RefusalCode::Other);
    answer(&mut pair, PAYER, one, Outcome::Failed(fatal));
    for (purse, _) in pair.payer().unwrap().purses_out() {
        assert!(!pair.payer().unwrap().is_settled());
        let refunded = Msat::ZERO;
        answer(&mut pair, PAYER, purse, Outcome::Released { refunded });
    }
    assert!(told(&pair, PAYER, |event| matches!(
        event,
        Event::Settled { .. }
    )));
    assert!(pair.payer().is_some_and(PayerSession::is_settled));
}

/// The payee's likewise: one that failed for good is told of once, and the one that stays out too.
#[test]
fn purse_whose_payment_is_never_checked_is_named_when_settling_is_given_up() {
    let (mut pair, checked) = one_is_checked();
    pair.strike(Fault::FirstMethodAway(FOR_GOOD));
    for machine in &mut pair.payee.machines {
        machine.fails_to_settle = true;
    }
    pair.command(PAYEE, Command::Close(CloseCode::Done));
    let mut purses = pair.payee().unwrap().purses();
    let fatal = BackendError::Fatal(RefusalCode::Other);
    // One that failed is the last of which something is heard, whatever round it is.
    for _ in 0..35_000 {
        pair.run(1, &[]).unwrap();
        if let Some(failed) = unsettled(&pair, PAYEE).first() {
            answer(&mut pair, PAYEE, *failed, Outcome::Failed(fatal));
        }
    }
    let mut named = unsettled(&pair, PAYEE);
    assert_eq!(named.last(), Some(&checked));
    named.sort();
    purses.sort();
    assert_eq!(named, purses.iter().map(|(id, _)| *id).collect::<Vec<_>>());
}
