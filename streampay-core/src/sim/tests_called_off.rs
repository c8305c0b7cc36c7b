//! Closing while a purse is still being opened: no money is committed to a session that ends, and
//! what has left the wallet all the same comes home.

use super::mint::Call;
use super::side::Session;
use super::*;
use crate::backend::Request;
use crate::session::{CloseCode, Command, Event, Input, Output, PurseLedger, SessionLedger};
use crate::store::{Store as _, session_prefix};
use crate::units::{Msat, PurseId};
use crate::wire::{Message, decode};

const PAYER: Direction = Direction::ToPayer;
const CLOSE: Command = Command::Close(CloseCode::Done);

/// Runs until the payer waits for the mint to issue its first purse.
fn opening(config: PairConfig) -> Pair {
    let mut pair = Pair::new(config);
    for _ in 0..1_000 {
        let mut calls = pair.calls.values();
        let issues = |body| matches!(Call::from_bytes(body), Some(Call::Issue { .. }));
        if calls.any(|(of, _, _, effect)| *of == PAYER && issues(&effect.body)) {
            return pair;
        }
        pair.run(5, &[]).unwrap();
    }
    panic!("nothing is opened");
}

fn spent(pair: &Pair) -> Msat {
    pair.total.saturating_minus(pair.mint.payer)
}

fn settled(pair: &Pair) -> bool {
    let mut events = pair.events(PAYER).iter();
    events.any(|event| matches!(event, Event::Settled { .. }))
}

#[test]
fn purse_that_was_put_off_is_not_opened_for_a_session_that_closes() {
    let config = PairConfig {
        methods: vec![FakeBackend::METHOD],
        ..PairConfig::default()
    };
    for away_ms in [4_000, 9_000, 30_000] {
        let mut pair = Pair::new(config.clone());
        pair.run(1_000, &[(0, Fault::MintAway(away_ms))]).unwrap();
        assert!(pair.payer().unwrap().purses().len() == 1);
        pair.command(PAYER, CLOSE);
        // The mint is back while the close waits for its answer, or long after.
        for _ in 0..600 {
            pair.run(100, &[]).unwrap();
            assert_eq!(spent(&pair), Msat::ZERO, "{away_ms}");
        }
        pair.settle().unwrap();
        assert!(settled(&pair), "{away_ms}");
        // What was asked for and never left a wallet is in no book.
        let id = pair.payer.id.unwrap();
        let records = pair.payer.store.scan(&session_prefix(id)).unwrap();
        let ledger = SessionLedger::read(id, &records).unwrap();
        let moved = |row: &PurseLedger| row.opened || row.cost != row.returned;
        assert!(!ledger.purses.iter().any(moved), "{away_ms} {ledger:?}");
    }
}

#[test]
fn opening_under_way_comes_home_and_is_not_shown() {
    let mut pair = opening(PairConfig::default());
    pair.tamper(|_, bytes| match decode(bytes) {
        Ok(Some(Message::Purse(_))) => panic!("shown to the payee"),
        _ => vec![bytes.clone()],
    });
    pair.command(PAYER, CLOSE);
    pair.settle().unwrap();
    assert_eq!(spent(&pair), Msat::ZERO);
    let opened = |event: &Event| matches!(event, Event::PurseOpen { .. });
    assert!(!pair.events(PAYER).iter().any(opened));
}

#[test]
fn opening_whose_answer_is_lost_comes_home() {
    for closes_first in [false, true] {
        let mut pair = opening(PairConfig::default());
        pair.strike(Fault::LoseAnswers(1));
        if closes_first {
            pair.command(PAYER, CLOSE);
        }
        pair.run(40, &[]).unwrap();
        assert!(spent(&pair) > Msat::ZERO, "the mint has issued it");
        pair.command(PAYER, CLOSE);
        pair.settle().unwrap();
        assert_eq!(spent(&pair), Msat::ZERO, "{closes_first}");
    }
}

#[test]
fn opening_that_the_mint_refuses_meanwhile_leaves_nothing_unsettled() {
    let mut pair = opening(PairConfig::default());
    pair.strike(Fault::RefuseOpenings(1));
    pair.command(PAYER, CLOSE);
    pair.run(8_000, &[]).unwrap();
    assert!(settled(&pair));
    let unsettled = |event: &Event| matches!(event, Event::Unsettled { .. });
    assert!(!pair.events(PAYER).iter().any(unsettled));
}

#[test]
fn crash_at_any_output_of_the_close_loses_nothing() {
    for outputs in 0..12 {
        for lost in [0, 1] {
            let mut pair = opening(PairConfig::default());
            pair.strike(Fault::LoseAnswers(lost));
            let away_ms = 500;
            pair.strike(Fault::CrashPayer { outputs, away_ms });
            pair.command(PAYER, CLOSE);
            pair.run(3_000, &[]).unwrap();
            pair.settle().unwrap();
        }
    }
}

#[test]
fn request_to_open_that_nobody_has_taken_is_taken_back() {
    let mut pair = Pair::new(PairConfig {
        budget: Msat::from_sat(21).unwrap(),
        ..PairConfig::default()
    });
    while pair.payer().unwrap().purses().len() < 2 {
        pair.run(100, &[]).unwrap();
    }
    pair.run(500, &[]).unwrap();
    let (now, known) = (pair.now, 2);
    let Some(Session::Payer(payer)) = &mut pair.payer.session else {
        panic!("no payer");
    };
    let more = Command::TopUp(Msat::from_sat(20).unwrap());
    payer.handle(now, Input::Command(more)).unwrap();
    assert_eq!(payer.purses().len(), known + 1);
    payer.handle(now, Input::Command(CLOSE)).unwrap();
    let mut asked = Vec::new();
    while let Some(output) = payer.poll_output() {
        if let Output::Backend { purse, request, .. } = output {
            asked.push((purse.purse, request));
        }
    }
    let last = PurseId(u32::try_from(known).unwrap());
    assert_eq!(asked, [(last, Request::Release)]);
}
