use std::collections::HashMap;
use std::str::FromStr;

use cdk::nuts::{CurrencyUnit, Id, Proof, SecretKey};
use cdk::secret::Secret;

use super::*;

const MINT: &str = "https://mint.example.com";

fn mint() -> MintUrl {
    MintUrl::from_str(MINT).unwrap()
}

/// A coin of the wallet.
fn coin(sat: u64, state: State, used_by: Option<Uuid>) -> ProofInfo {
    let proof = Proof::new(
        Amount::from(sat),
        Id::from_str("009a1f293253e41e").unwrap(),
        Secret::generate(),
        SecretKey::generate().public_key(),
    );
    ProofInfo::new_with_operations(proof, mint(), state, CurrencyUnit::Sat, used_by, None).unwrap()
}

/// A line of cdk's.
fn line(direction: TransactionDirection, amount: u64, fee: u64, quote: bool) -> Transaction {
    Transaction {
        mint_url: mint(),
        direction,
        amount: Amount::from(amount),
        fee: Amount::from(fee),
        unit: CurrencyUnit::Sat,
        ys: Vec::new(),
        timestamp: 0,
        memo: None,
        metadata: HashMap::new(),
        quote_id: quote.then(|| "quote".to_owned()),
        payment_request: None,
        payment_proof: None,
        payment_method: None,
        saga_id: Some(Uuid::from_u128(7)),
        status: TransactionStatus::Completed,
    }
}

/// A line of ours.
fn marked(amount: u64, fee: u64, marks: [(&str, String); 2]) -> Transaction {
    let mut line = line(TransactionDirection::Incoming, amount, fee, false);
    let marks = marks.map(|(name, value)| (name.to_owned(), value));
    line.metadata = marks.into_iter().collect();
    line
}

fn of_purse(kind: &str, amount: u64, fee: u64) -> Transaction {
    let name = Uuid::from_u128(9).to_string();
    let marks = [
        ("streampay-purse", name),
        ("streampay-kind", kind.to_owned()),
    ];
    marked(amount, fee, marks)
}

fn note(kind: &str, amount: u64) -> Transaction {
    let of = Uuid::from_u128(7).to_string();
    let marks = [
        ("streampay-note", kind.to_owned()),
        ("streampay-note-of", of),
    ];
    marked(amount, 0, marks)
}

fn deposit() -> Transaction {
    line(TransactionDirection::Incoming, 100, 0, true)
}

fn with(mut line: Transaction, status: TransactionStatus, coins: &[ProofInfo]) -> Transaction {
    line.status = status;
    line.ys = coins.iter().map(|coin| coin.y).collect();
    line
}

#[test]
fn every_way_that_money_goes_balances() {
    use TransactionDirection::{Incoming, Outgoing};
    use TransactionStatus::{Completed, Failed, Pending};
    let purse = Some(Uuid::from_u128(9));
    let token = [coin(11, State::PendingSpent, None)];
    let foreign = [coin(8, State::Pending, None)];
    let paying = [coin(60, State::Pending, None)];
    let send = || line(Outgoing, 10, 2, false);
    // The lines after a deposit of 100 sat, what else than spendable is there, and what is spendable.
    let cases: [(&str, Vec<Transaction>, &[ProofInfo], u64); 14] = [
        ("nothing", vec![], &[], 100),
        ("a token", vec![with(send(), Pending, &token)], &token, 88),
        ("redeemed", vec![with(send(), Completed, &token)], &[], 88),
        (
            "taken back",
            vec![with(send(), Failed, &token), note("taken-back", 10)],
            &[],
            98,
        ),
        (
            "not taken back after all",
            vec![with(send(), Completed, &token), note("taken-back", 10)],
            &[],
            88,
        ),
        ("failed", vec![with(send(), Failed, &[])], &[], 100),
        ("received", vec![line(Incoming, 5, 1, false)], &[], 105),
        (
            "being received",
            vec![with(line(Incoming, 8, 0, false), Pending, &foreign)],
            &foreign,
            100,
        ),
        ("withdrawn", vec![line(Outgoing, 50, 3, true)], &[], 47),
        (
            "withdrawn exactly",
            vec![line(Outgoing, 50, 3, true), note("swap-fee", 1)],
            &[],
            46,
        ),
        (
            "being withdrawn",
            vec![with(line(Outgoing, 50, 5, true), Pending, &paying)],
            &paying,
            40,
        ),
        (
            "in a purse of plain coins",
            vec![of_purse("left", 21, 1)],
            &[coin(20, State::Reserved, purse)],
            79,
        ),
        (
            "back from a purse",
            vec![of_purse("left", 21, 1), of_purse("returned", 7, 1)],
            &[],
            86,
        ),
        ("earned", vec![of_purse("received", 11, 1)], &[], 111),
    ];
    for (what, mut lines, held, spendable) in cases {
        lines.insert(0, deposit());
        let mut coins = held.to_vec();
        coins.push(coin(spendable, State::Unspent, None));
        let cash = Cash::count(&lines, &coins).unwrap();
        let cash = &cash[&mint()];
        assert_eq!(cash.difference(), 0, "{what}: {cash:?}");
        assert_eq!(cash.spendable, i128::from(spendable) * 1_000, "{what}");

        // One coin more or less is found.
        coins.push(coin(1, State::Unspent, None));
        let more = Cash::count(&lines, &coins).unwrap()[&mint()].difference();
        coins.truncate(held.len());
        let less = Cash::count(&lines, &coins).unwrap()[&mint()].difference();
        assert_eq!(
            (more, less),
            (-1_000, i128::from(spendable) * 1_000),
            "{what}"
        );
    }
}

#[test]
fn inputs_that_a_purse_has_reserved_and_not_spent_are_still_there() {
    let reserved = coin(100, State::Reserved, Some(Uuid::from_u128(9)));
    let cash = Cash::count(&[deposit()], &[reserved]).unwrap();
    let cash = &cash[&mint()];
    assert_eq!((cash.difference(), cash.pending), (0, 100_000));
}
