//! The sessions, and that each two of the values of their factors meet.

use streampay_examples::pay::Pay::{Chain, P2pk, Swap};

use crate::live::Mode;

use Again::{Nobody, Payee, Payer};
use End::{Early, Spent, Vanished};
use Mint::{Calm, ChangesKeys, Limits, Restarts};
use Software::{Cdk, Nutshell};

/// What befalls the mint after two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mint {
    Calm,
    Restarts,
    ChangesKeys,
    Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The viewer leaves with most of its purse unused.
    Early,
    /// All that may be spent is spent.
    Spent,
    /// The streamer vanishes: what is locked comes home after the locktime.
    Vanished,
}

/// Who starts again, before a second session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Nobody,
    Payer,
    Payee,
}

/// Whose mint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Software {
    Cdk,
    Nutshell,
}

pub(super) type Row = (Mode, u64, Mint, End, Again);

const SOFTWARE: [Software; 2] = [Cdk, Nutshell];
const MODES: [Mode; 3] = [Chain, P2pk, Swap];
pub(super) const FEES: [u64; 2] = [0, 100];
const MINTS: [Mint; 4] = [Calm, Restarts, ChangesKeys, Limits];
const ENDS: [End; 3] = [Early, Spent, Vanished];
const AGAIN: [Again; 3] = [Nobody, Payer, Payee];

pub(super) const ROWS: [Row; 12] = [
    (P2pk, 0, Restarts, Spent, Payer),
    (Swap, 100, Calm, Early, Payer),
    (Chain, 0, Calm, Vanished, Nobody),
    (P2pk, 100, ChangesKeys, Vanished, Payee),
    (Swap, 0, Limits, Spent, Payee),
    (Chain, 100, ChangesKeys, Spent, Nobody),
    (P2pk, 100, Limits, Early, Nobody),
    (Chain, 0, Restarts, Early, Payee),
    (Swap, 100, Restarts, Vanished, Nobody),
    (Chain, 0, Limits, Vanished, Payer),
    (Swap, 0, ChangesKeys, Early, Payer),
    (P2pk, 100, Calm, Spent, Payee),
];

/// What befalls a nutshell that is ours alone, without a fee and with one.
pub(super) fn struck_at_nutshell() -> impl Iterator<Item = (Mint, u64)> {
    let struck = MINTS.into_iter().filter(|what| *what != Calm);
    struck.flat_map(|what| FEES.map(|ppk| (what, ppk)))
}

/// Every combination there is.
pub(super) fn all_rows() -> impl Iterator<Item = Row> {
    let modes = MODES.into_iter();
    modes.flat_map(|mode| {
        let fees = FEES.into_iter();
        fees.flat_map(move |ppk| {
            let mints = MINTS.into_iter();
            mints.flat_map(move |mint| {
                let ends = ENDS.into_iter();
                ends.flat_map(move |end| AGAIN.map(|again| (mode, ppk, mint, end, again)))
            })
        })
    })
}

/// What befalls a nutshell in the whole matrix, without a fee and with one.
pub(super) fn all_at_nutshell() -> impl Iterator<Item = (Mint, u64)> {
    MINTS
        .into_iter()
        .flat_map(|what| FEES.map(|ppk| (what, ppk)))
}

/// `48..96`, `48..` and the like.
pub(super) fn range(text: &str) -> Option<core::ops::Range<usize>> {
    let (from, to) = text.split_once("..")?;
    let number = |text: &str, otherwise| match text {
        "" => Some(otherwise),
        text => text.parse().ok(),
    };
    Some(number(from, 0)?..number(to, usize::MAX)?)
}

pub(super) fn struck_rows(what: Mint, ppk: u64) -> impl Iterator<Item = Row> {
    let is_it = move |row: &Row| (row.1, row.2) == (ppk, what);
    ROWS.into_iter().filter(is_it)
}

/// Every row at a nutshell that others use too, so that nothing befalls it.
pub(super) fn calm_rows(ppk: u64) -> impl Iterator<Item = Row> {
    ROWS.into_iter()
        .map(move |(mode, _, _, end, again)| (mode, ppk, Calm, end, again))
}

/// Whether the end of a row is that of a lock, by the mint's clock.
pub(super) fn has_a_lock_to_wait_for((mode, _, _, end, _): Row) -> bool {
    mode != Swap && end == Vanished
}

/// All sessions of this file, each at the software that it runs at.
fn all_that_runs() -> Vec<(Software, Row)> {
    let ours = ROWS.map(|row| (Cdk, row));
    let calm = FEES.into_iter().flat_map(calm_rows);
    let struck = struck_at_nutshell();
    let struck = struck.flat_map(|(what, ppk)| struck_rows(what, ppk));
    let theirs = calm.chain(struck).map(|row| (Nutshell, row));
    ours.into_iter().chain(theirs).collect()
}

/// What of a session is one thing or another, by name.
fn factors((software, (mode, ppk, mint, end, again)): (Software, Row)) -> [String; 6] {
    [
        format!("{software:?}"),
        format!("{mode:?}"),
        format!("{ppk} ppk"),
        format!("the mint: {mint:?}"),
        format!("the end: {end:?}"),
        format!("again: {again:?}"),
    ]
}

/// The pairs of values of two factors that none of `rows` has. What a factor can be is in the lists
/// above, so that one which no row has is missed too.
fn pairs_that_no_row_has(rows: &[(Software, Row)]) -> Vec<(String, String)> {
    let any = (Cdk, ROWS[0]);
    let of = |change: &dyn Fn(&mut (Software, Row)), place: usize| {
        let mut one = any;
        change(&mut one);
        factors(one)[place].clone()
    };
    let domains: [Vec<String>; 6] = [
        SOFTWARE.map(|it| of(&|row| row.0 = it, 0)).to_vec(),
        MODES.map(|it| of(&|row| row.1.0 = it, 1)).to_vec(),
        FEES.map(|it| of(&|row| row.1.1 = it, 2)).to_vec(),
        MINTS.map(|it| of(&|row| row.1.2 = it, 3)).to_vec(),
        ENDS.map(|it| of(&|row| row.1.3 = it, 4)).to_vec(),
        AGAIN.map(|it| of(&|row| row.1.4 = it, 5)).to_vec(),
    ];
    let rows: Vec<_> = rows.iter().copied().map(factors).collect();
    let mut missing = Vec::new();
    for (first, second) in (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))) {
        for one in &domains[first] {
            for two in &domains[second] {
                let met = |row: &[String; 6]| row[first] == *one && row[second] == *two;
                if !rows.iter().any(met) {
                    missing.push((one.clone(), two.clone()));
                }
            }
        }
    }
    missing
}

#[test]
fn whole_matrix_has_every_combination_once() {
    let all: Vec<Row> = all_rows().collect();
    assert_eq!(all.len(), 3 * 2 * 4 * 3 * 3);
    for (at, row) in all.iter().enumerate() {
        assert!(!all[..at].contains(row), "{row:?}");
    }
    assert!(ROWS.iter().all(|row| all.contains(row)));
}

#[test]
fn rows_are_asked_for_by_number() {
    for (text, expect) in [
        ("..", Some(0..usize::MAX)),
        ("48..", Some(48..usize::MAX)),
        ("48..96", Some(48..96)),
        ("..7", Some(0..7)),
        ("48", None),
        ("a..", None),
        ("", None),
    ] {
        assert_eq!(range(text), expect, "{text}");
    }
}

#[test]
fn every_two_meet() {
    let all = all_that_runs();
    assert_eq!(pairs_that_no_row_has(&all), []);
    // At each of the mints by itself, but for the pairs with the other one.
    for software in SOFTWARE {
        let of_it: Vec<_> = all
            .iter()
            .copied()
            .filter(|row| row.0 == software)
            .collect();
        let missing = pairs_that_no_row_has(&of_it);
        let other = SOFTWARE.into_iter().find(|other| *other != software);
        let other = format!("{:?}", other.unwrap());
        let missing: Vec<_> = missing.iter().filter(|pair| pair.0 != other).collect();
        assert!(missing.is_empty(), "{software:?}: {missing:?}");
    }
}

#[test]
fn a_pair_that_no_row_has_is_named() {
    let missing = |left_out: &dyn Fn(&(Software, Row)) -> bool, one: &str, two: &str| {
        let mut rows = all_that_runs();
        rows.retain(|row| !left_out(row));
        let missing = pairs_that_no_row_has(&rows);
        missing.contains(&(one.to_owned(), two.to_owned()))
    };
    let restarts = "the mint: Restarts";
    assert!(!missing(&|_| false, "Nutshell", restarts));
    assert!(missing(
        &|(at, row)| (*at, row.2) == (Nutshell, Restarts),
        "Nutshell",
        restarts
    ));
    assert!(missing(
        &|(_, row)| (row.1, row.2) == (100, Restarts),
        "100 ppk",
        restarts
    ));
    assert!(missing(
        &|(_, row)| (row.3, row.4) == (Early, Payee),
        "the end: Early",
        "again: Payee"
    ));
}
