//! The order rules of a tick, as a model small enough to look at every order of events.
//!
//! Two processes, each with a disk and a memory; a link that loses and repeats; a mint that may do a
//! call and lose its answer. Either process may die before any of its outputs: then memory is what
//! the disk says. A rule that holds is part of [`Rules`]; without one of them a state is reachable
//! in which a promise does not hold.
//!
//! | rule | without it |
//! |---|---|
//! | a payment is durable before it is sent | the payee has money that the payer does not know of |
//! | the same `seq` is the same payment | two payments for one number |
//! | the money is the payee's before it is credited | credit without money |
//! | an acceptance is durable before it is acked | an ack that the payee forgets |
//! | one payment is under way at a time | more than one tick ahead |
//! | a nack is a hint | a payment that the payee has counts as free |

use std::collections::{HashSet, VecDeque};

/// Ticks that the payer may make.
const TICKS: u8 = 3;
/// Messages of a kind on their way at a time.
const ON_WAY: u8 = 2;
/// Crashes of each process.
const CRASHES: u8 = 2;
/// Refusals that the mint may give for nothing.
const REFUSALS: u8 = 1;

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A payment is durable before it is sent.
    pub payment_first: bool,
    /// The same number is the same payment.
    pub same_payment: bool,
    /// The money is the payee's before it is credited.
    pub money_first: bool,
    /// An acceptance is durable before it is acked.
    pub acceptance_first: bool,
    /// One payment is under way at a time.
    pub one_at_a_time: bool,
    /// A nack is a hint.
    pub nack_is_hint: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        payment_first: true,
        same_payment: true,
        money_first: true,
        acceptance_first: true,
        one_at_a_time: true,
        nack_is_hint: true,
    };

    /// Each rule's name, and all the others.
    #[must_use]
    pub fn without_one() -> [(&'static str, Self); 6] {
        let all = Self::ALL;
        [
            ("payment durable before it is sent", Self { payment_first: false, ..all }),
            ("same seq, same payment", Self { same_payment: false, ..all }),
            ("money before credit", Self { money_first: false, ..all }),
            ("acceptance durable before its ack", Self { acceptance_first: false, ..all }),
            ("one payment at a time", Self { one_at_a_time: false, ..all }),
            ("a nack is a hint", Self { nack_is_hint: false, ..all }),
        ]
    }
}

/// What the payer knows: ticks made, whether the last is under way, ticks acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Payer {
    made: u8,
    acked: u8,
    /// Ticks that it took back.
    back: u8,
    /// Which payment the last one is: changes where it is made anew.
    salt: u8,
    refused: bool,
}

/// What the payee knows: ticks answered, of them credited; the one being checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Payee {
    seen: u8,
    credited: u8,
    checking: Option<(u8, u8)>,
    /// The payment that was answered last.
    last: u8,
    nacked: bool,
}

/// A message and how many of it are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    payer: Payer,
    payer_disk: Payer,
    payer_crashes: u8,
    payee: Payee,
    payee_disk: Payee,
    payee_crashes: u8,
    /// Ticks on their way, by number and payment.
    ticks: [[u8; 2]; 5],
    /// Acks, by the number that they say is credited, and nacks by number.
    acks: [u8; 5],
    nacks: [u8; 5],
    /// Who holds each payment at the mint: 0 nobody yet, 1 the payee, 2 the payer again.
    mint: [[u8; 2]; 5],
    refusals: u8,
    /// Something is to be sent, or called, or told, once what it needs is durable.
    payer_sends: bool,
    payee_says: bool,
    payee_calls: bool,
}
