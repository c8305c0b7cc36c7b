//! The suite's cases, in the order in which a new method gets to them.

use bytes::Bytes;

use super::BackendWorld;
use super::process::Calls;
use super::table::Table;
use crate::backend::{BackendError, Outcome, Request};
use crate::units::Msat;

/// Boundaries at which a process dies, from each request on.
const CRASHES: u32 = 24;

pub(super) fn run_all<W: BackendWorld>(world: &mut impl FnMut() -> W) {
    name_fits(world());
    for payee_first in [true, false] {
        ticks_are_credited_and_the_rest_comes_home(world, payee_first);
    }
    budget_is_kept(world);
    same_tick_is_the_same_bytes_and_credited_once(world());
    forged_tick_is_refused_and_the_true_one_credited(world());
    garbage_opens_nothing(world());
    changed_opening_takes_no_more_than_is_paid(world());
    more_than_the_purse_holds_is_not_paid(world());
    reclaimed_tick_is_paid_again(world());
    tick_that_the_payee_has_is_not_taken_back(world());
    opening_that_is_called_off_comes_home(world());
    ack_of_an_unknown_purse_ends_nothing(world());
    ack_leaves_what_is_under_way(world);
    payee_that_never_comes_back_keeps_nothing(world());
    for calls in [Calls::Twice, Calls::Away, Calls::AnswerLost] {
        calls_that_go_wrong_lose_nothing(world(), calls);
    }
    for at in 0..CRASHES {
        crashes_lose_nothing(world(), at);
    }
}

/// It stands in signed terms and in keys of the store.
fn name_fits<W: BackendWorld>(world: W) {
    let table = Table::new(world, "the name");
    let name = table.payer.method();
    assert_eq!(name, table.payee.method(), "both sides say the same name");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!((1..=16).contains(&name.len()), "{name}: 1 to 16 bytes");
    assert!(name.bytes().all(fits), "{name}: letters, digits and -");
}

fn ticks_are_credited_and_the_rest_comes_home<W: BackendWorld>(
    world: &mut impl FnMut() -> W,
    payee_first: bool,
) {
    let holds = Table::opened(world(), "an opening").ticks;
    for ticks in [0, 1, holds / 2, holds] {
        let mut table = Table::opened(world(), "ticks and an end");
        for seq in 1..=ticks {
            table.tick(seq);
        }
        table.ends_after(ticks, payee_first);
    }
}

fn budget_is_kept<W: BackendWorld>(world: &mut impl FnMut() -> W) {
    let mut table = Table::new(world(), "a budget below a tick");
    let request = table.open_request(Msat::ZERO);
    let outcome = table.payer.ask(&mut table.world, &request);
    if !matches!(outcome, Some(Outcome::Failed(_))) {
        table.fail("Open", &outcome);
    }
    // A session releases also what never opened.
    match table.release() {
        Some(Msat::ZERO) => table.is_conserved(0),
        other => assert_eq!(other, Some(Msat::ZERO), "nothing was in it"),
    }
    let mut table = Table::new(world(), "a budget of four ticks");
    let budget = table.step.times(4).unwrap_or(Msat::MAX);
    let budget = budget.saturating_plus(table.world.fees_max());
    table.offered(budget);
}

fn same_tick_is_the_same_bytes_and_credited_once<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "the same tick again");
    let first = table.paid(1, 1);
    assert!(first == table.paid(1, 1), "other bytes for the same tick");
    table.payer.restart(&mut table.world);
    let again = table.paid(1, 1);
    assert!(
        first == again,
        "other bytes for the same tick after a restart"
    );
    for _ in 0..3 {
        table.credited(1, 1, &first);
    }
    table.payee.restart(&mut table.world);
    table.credited(1, 1, &first);
    let as_the_second = table.received(2, 2, &first);
    is_refused(&table, "the first tick as the second", &as_the_second);
    table.acked(1);
    table.ends_after(1, true);
}

fn forged_tick_is_refused_and_the_true_one_credited<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "a forged tick");
    let good = table.paid(1, 1);
    let mut flipped = good.to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let short = good.slice(good.len().min(1)..);
    for bad in [
        flipped.into(),
        short,
        Bytes::new(),
        Bytes::from_static(&[0xff; 97]),
    ] {
        let outcome = table.received(1, 1, &bad);
        is_refused(&table, "a forged tick", &outcome);
    }
    let outcome = table.received_as_two(&good);
    is_refused(&table, "one tick for two", &outcome);
    table.credited(1, 1, &good);
    table.acked(1);
    table.ends_after(1, true);
}

fn is_refused<W: BackendWorld>(table: &Table<W>, what: &str, outcome: &Option<Outcome>) {
    if !matches!(outcome, Some(Outcome::Failed(BackendError::Rejected(..)))) {
        table.fail(what, outcome);
    }
}

fn garbage_opens_nothing<W: BackendWorld>(world: W) {
    let mut table = Table::new(world, "a false opening");
    let opening = table.offered(table.budget()).opening;
    for bad in [Bytes::new(), Bytes::from_static(&[0xff; 64])] {
        let request = table.accept_request(bad);
        let outcome = table.payee.ask(&mut table.world, &request);
        if !matches!(outcome, Some(Outcome::Failed(_))) {
            table.fail("Accept", &outcome);
        }
    }
    // What was refused is no obstacle to what is good.
    let request = table.accept_request(opening);
    let outcome = table.payee.ask(&mut table.world, &request);
    if !matches!(outcome, Some(Outcome::Accepted { .. })) {
        table.fail("Accept", &outcome);
    }
    table.tick(1);
    table.ends_after(1, true);
}

/// It may be another opening that is good, of a method in which nothing is set aside for the payee: then a
/// tick is worth what it is worth.
fn changed_opening_takes_no_more_than_is_paid<W: BackendWorld>(world: W) {
    let mut table = Table::new(world, "a changed opening");
    let opening = table.offered(table.budget()).opening;
    let mut flipped = opening.to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let request = table.accept_request(flipped.into());
    let outcome = table.payee.ask(&mut table.world, &request);
    match outcome {
        Some(Outcome::Accepted { .. }) => {}
        // What was refused is no obstacle to what is good.
        Some(Outcome::Failed(_)) => {
            let request = table.accept_request(opening);
            let outcome = table.payee.ask(&mut table.world, &request);
            if !matches!(outcome, Some(Outcome::Accepted { .. })) {
                table.fail("Accept", &outcome);
            }
        }
        outcome => table.fail("Accept", &outcome),
    }
    table.tick(1);
    table.ends_after(1, true);
}

fn more_than_the_purse_holds_is_not_paid<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "an empty purse");
    let ticks = table.ticks;
    for seq in 1..=ticks {
        table.tick(seq);
    }
    let next = ticks.saturating_add(1);
    let request = table.pay_request(next, next);
    let outcome = table.payer.ask(&mut table.world, &request);
    if !matches!(outcome, Some(Outcome::Failed(BackendError::Fatal(_)))) {
        table.fail("Pay", &outcome);
    }
    table.ends_after(ticks, true);
}

fn reclaimed_tick_is_paid_again<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "a tick taken back");
    table.tick(1);
    let shown = table.paid(2, 2);
    let outcome = table.reclaim(2);
    let again = match outcome {
        Some(Outcome::Reclaimed) => false,
        Some(Outcome::Outstanding) => true,
        outcome => table.fail("Reclaim", &outcome),
    };
    let payload = table.paid(3, 2);
    // What is out pays the same sum: nothing more may leave.
    if again && payload != shown {
        table.fail("Pay", &None);
    }
    table.credited(3, 2, &payload);
    table.acked(3);
    table.ends_after(2, true);
}

/// The ack is lost, and its payer wants the tick back: whatever it is told, the payee has it.
fn tick_that_the_payee_has_is_not_taken_back<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "a tick whose ack is lost");
    let payload = table.paid(1, 1);
    table.credited(1, 1, &payload);
    table.settle();
    table.reclaim(1);
    table.show_notes();
    table.release();
    table.is_conserved(1);
}

/// Closed while the purse is being opened: nothing more leaves, what has left comes home.
fn opening_that_is_called_off_comes_home<W: BackendWorld>(world: W) {
    let mut table = Table::new(world, "an opening that is called off");
    let request = table.open_request(table.budget());
    let opening = table.payer.ask_and_hold(&mut table.world, request);
    let release = table.payer.ask_and_hold(&mut table.world, Request::Release);
    let answers = [opening, release];
    let mut released = None;
    for answer in answers {
        if let Some(Outcome::Released { refunded }) = &answer.outcome {
            released = Some(*refunded);
        }
        let answer = crate::backend::Answer {
            outcome: None,
            ..answer
        };
        match table.payer.go_on(&mut table.world, answer) {
            Some(Outcome::Released { refunded }) => released = Some(refunded),
            Some(Outcome::Opened(_)) => table.fail("Release", &None),
            _ => {}
        }
    }
    if released.is_none() {
        table.comes_home_in_time();
    }
    table.is_untouched();
}

/// A session may say what was acknowledged of a purse that is only being opened, or is long forgotten.
fn ack_of_an_unknown_purse_ends_nothing<W: BackendWorld>(world: W) {
    let mut table = Table::new(world, "an ack of a purse that is not known");
    for seq in [0, 1] {
        table.acked(seq);
    }
    let request = table.open_request(table.budget());
    let opening = table.payer.ask_and_hold(&mut table.world, request);
    table.acked(0);
    let outcome = opening.outcome.clone();
    let opened = outcome.or_else(|| table.payer.go_on(&mut table.world, opening));
    if !matches!(opened, Some(Outcome::Opened(_))) {
        table.fail("Open", &opened);
    }
    table.comes_home_in_time();
    table.is_untouched();
}

/// The ack comes with a connection that was late: the purse is coming home already.
fn ack_leaves_what_is_under_way<W: BackendWorld>(world: &mut impl FnMut() -> W) {
    let mut release = |acked: bool| {
        let mut table = Table::opened(world(), "an ack while a release is under way");
        let payload = table.paid(1, 1);
        table.credited(1, 1, &payload);
        table.settle();
        let release = table.payer.ask_and_hold(&mut table.world, Request::Release);
        if acked {
            table.acked(1);
        }
        let outcome = release.outcome.clone();
        let outcome = outcome.or_else(|| table.payer.go_on(&mut table.world, release));
        table.show_notes();
        table.release();
        table.is_conserved(1);
        outcome.as_ref().map(core::mem::discriminant)
    };
    assert_eq!(release(true), release(false), "Release ended otherwise");
}

fn payee_that_never_comes_back_keeps_nothing<W: BackendWorld>(world: W) {
    let mut table = Table::opened(world, "a payee that is gone");
    table.paid(1, 1);
    table.comes_home_in_time();
    table.is_untouched();
}

fn calls_that_go_wrong_lose_nothing<W: BackendWorld>(world: W, calls: Calls) {
    let case = match calls {
        Calls::Twice => "calls made twice",
        Calls::Away => "calls that reach nobody at first",
        Calls::AnswerLost => "answers that are lost",
        Calls::Sound => "sound calls",
    };
    let mut table = Table::new(world, case);
    table.set(calls, None);
    whole_purse(&mut table, |_| {});
}

fn crashes_lose_nothing<W: BackendWorld>(world: W, at: u32) {
    let mut table = Table::new(world, "a process that dies");
    whole_purse(&mut table, |table| table.set(Calls::Sound, Some(at)));
}

/// A purse with three ticks at most; `trouble` comes again before each request.
fn whole_purse<W: BackendWorld>(table: &mut Table<W>, trouble: impl Fn(&mut Table<W>)) {
    trouble(table);
    let opening = table.offered(table.budget()).opening;
    let request = table.accept_request(opening);
    let outcome = table.payee.ask(&mut table.world, &request);
    if !matches!(outcome, Some(Outcome::Accepted { .. })) {
        table.fail("Accept", &outcome);
    }
    let ticks = table.ticks.min(3);
    for seq in 1..=ticks {
        trouble(table);
        table.tick(seq);
    }
    trouble(table);
    table.ends_after(ticks, true);
}
