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

#![allow(
    clippy::indexing_slicing,
    reason = "numbers are within a state's arrays"
)]

use std::collections::{HashSet, VecDeque};

/// Ticks that the payer may make.
const TICKS: u8 = 3;
/// Messages of a kind on their way at a time.
const ON_WAY: u8 = 2;
/// Crashes of each process.
const CRASHES: u8 = 3;
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
            (
                "payment durable before it is sent",
                Self {
                    payment_first: false,
                    ..all
                },
            ),
            (
                "same seq, same payment",
                Self {
                    same_payment: false,
                    ..all
                },
            ),
            (
                "money before credit",
                Self {
                    money_first: false,
                    ..all
                },
            ),
            (
                "acceptance durable before its ack",
                Self {
                    acceptance_first: false,
                    ..all
                },
            ),
            (
                "one payment at a time",
                Self {
                    one_at_a_time: false,
                    ..all
                },
            ),
            (
                "a nack is a hint",
                Self {
                    nack_is_hint: false,
                    ..all
                },
            ),
        ]
    }
}

/// What the payer knows: ticks made, acknowledged and taken back; the last may be under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Payer {
    made: u8,
    acked: u8,
    back: u8,
    /// Which payment the last one is: another where it is made anew.
    salt: u8,
    refused: bool,
}

/// What the payee knows: ticks answered, of them credited; the one being checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Payee {
    seen: u8,
    credited: u8,
    checking: Option<(u8, u8)>,
    /// The payment that was answered last, and whether it was refused.
    last: u8,
    nacked: bool,
}

/// Where a payment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Coin {
    /// Nobody but the payer has seen it.
    #[default]
    Made,
    /// It was sent, and nobody has spent it.
    Shown,
    /// The payee spent it.
    Payee,
    /// The payer took it back.
    Payer,
}

/// Two payments at most for each number.
type Coins = [[Coin; 2]; LEN];
/// Numbers begin at 1.
const LEN: usize = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    payer: Payer,
    payer_disk: Payer,
    payer_crashes: u8,
    payee: Payee,
    payee_disk: Payee,
    payee_crashes: u8,
    coins: Coins,
    /// Ticks on their way, by number and payment; acks by what they say is credited; nacks by
    /// number.
    ticks: [[u8; 2]; LEN],
    acks: [u8; LEN],
    nacks: [u8; LEN],
    refusals: u8,
    accused: bool,
}

fn at(number: u8) -> usize {
    usize::from(number).min(LEN - 1)
}

fn put(place: &mut u8) {
    *place = place.saturating_add(1).min(ON_WAY);
}

impl Payer {
    const fn under_way(&self) -> u8 {
        self.made
            .saturating_sub(self.acked)
            .saturating_sub(self.back)
    }
}

impl State {
    /// Which promise does not hold.
    fn broken(&self) -> Option<&'static str> {
        let coins = self.coins.iter().flatten();
        let out = |coin: &&Coin| matches!(coin, Coin::Shown | Coin::Payee);
        let out = coins.clone().filter(out).count();
        let had = coins.filter(|coin| **coin == Coin::Payee).count();
        let (credited, durable) = (self.payee.credited, self.payee_disk.credited);
        if self.accused {
            Some("an honest payer is accused")
        } else if usize::from(credited) > had {
            Some("credit without money")
        } else if self.payer.acked > durable {
            Some("an ack that the payee forgets")
        } else if out > usize::from(credited.max(durable)) + 1 {
            Some("more than one payment ahead")
        } else {
            None
        }
    }

    fn next(&self, rules: Rules, found: &mut Vec<Self>) {
        self.payer_acts(rules, found);
        self.payer_hears(rules, found);
        self.payee_acts(rules, found);
        self.payee_hears(found);
        self.dies(rules, found);
        self.loses(found);
    }

    fn payer_acts(&self, rules: Rules, found: &mut Vec<Self>) {
        let (payer, mut then) = (self.payer, *self);
        let free = payer.under_way() == 0 || !rules.one_at_a_time && payer.under_way() < 2;
        if free && payer.made < TICKS && !payer.refused {
            then.payer.made += 1;
            // What another life of the process made, it made with other randomness.
            then.payer.salt = self.payer_crashes.min(1);
            found.push(then);
        }
        let durable = !rules.payment_first || self.payer_disk == payer;
        if payer.under_way() > 0 && !payer.refused && durable {
            then = *self;
            let (seq, salt) = (at(payer.made), usize::from(payer.salt));
            put(&mut then.ticks[seq][salt]);
            if then.coins[seq][salt] == Coin::Made {
                then.coins[seq][salt] = Coin::Shown;
            }
            found.push(then);
        }
        if payer.refused && payer.under_way() > 0 {
            then = *self;
            let coin = &mut then.coins[at(payer.made)][usize::from(payer.salt)];
            if *coin == Coin::Shown {
                *coin = Coin::Payer;
                then.payer.back += 1;
            }
            then.payer.refused = false;
            found.push(then);
        }
        if self.payer_disk != payer {
            found.push(Self {
                payer_disk: payer,
                ..*self
            });
        }
    }

    fn payer_hears(&self, rules: Rules, found: &mut Vec<Self>) {
        for number in 0..=TICKS {
            if self.acks[at(number)] > 0 {
                let mut then = *self;
                then.acks[at(number)] -= 1;
                if number > self.payer.acked {
                    (then.payer.acked, then.payer.refused) = (number, false);
                }
                found.push(then);
            }
            if self.nacks[at(number)] > 0 {
                let mut then = *self;
                then.nacks[at(number)] -= 1;
                if number == self.payer.made && self.payer.under_way() > 0 {
                    then.payer.refused = rules.nack_is_hint;
                    then.payer.back += u8::from(!rules.nack_is_hint);
                }
                found.push(then);
            }
        }
    }

    fn payee_acts(&self, rules: Rules, found: &mut Vec<Self>) {
        let payee = self.payee;
        if let Some((seq, salt)) = payee.checking
            && self.payee_disk == payee
        {
            let coin = self.coins[at(seq)][usize::from(salt)];
            let mut then = *self;
            (then.payee.checking, then.payee.seen, then.payee.last) = (None, seq, salt);
            let mut refused = then;
            if matches!(coin, Coin::Shown | Coin::Payee) {
                then.coins[at(seq)][usize::from(salt)] = Coin::Payee;
                let mut lost = *self;
                lost.coins = then.coins;
                (then.payee.credited, then.payee.nacked) = (payee.credited + 1, false);
                found.extend([then, lost]);
            }
            if !rules.money_first {
                refused.payee.credited += 1;
                found.push(refused);
            } else if coin == Coin::Payer || coin == Coin::Shown && self.refusals < REFUSALS {
                refused.refusals += u8::from(coin == Coin::Shown);
                refused.payee.nacked = true;
                found.push(refused);
            }
        }
        let durable = !rules.acceptance_first || self.payee_disk == payee;
        if payee.seen > 0 && payee.checking.is_none() && durable {
            let mut then = *self;
            match payee.nacked {
                true => put(&mut then.nacks[at(payee.seen)]),
                false => put(&mut then.acks[at(payee.credited)]),
            }
            found.push(then);
        }
        if self.payee_disk != payee {
            found.push(Self {
                payee_disk: payee,
                ..*self
            });
        }
    }

    fn payee_hears(&self, found: &mut Vec<Self>) {
        for seq in 1..=TICKS {
            for salt in [0, 1] {
                if self.ticks[at(seq)][usize::from(salt)] == 0 {
                    continue;
                }
                let mut then = *self;
                then.ticks[at(seq)][usize::from(salt)] -= 1;
                let payee = &mut then.payee;
                let other = |of: (u8, u8)| of.0 == seq && of.1 != salt;
                then.accused =
                    payee.checking.is_some_and(other) || seq == payee.seen && payee.last != salt;
                if payee.checking.is_none() && seq == payee.seen + 1 {
                    payee.checking = Some((seq, salt));
                }
                found.push(then);
            }
        }
    }

    fn dies(&self, rules: Rules, found: &mut Vec<Self>) {
        if self.payer_crashes < CRASHES {
            let mut then = *self;
            (then.payer, then.payer_crashes) = (self.payer_disk, self.payer_crashes + 1);
            if !rules.same_payment && then.payer.under_way() > 0 {
                then.payer.salt = 1;
            }
            found.push(then);
        }
        if self.payee_crashes < CRASHES {
            let mut then = *self;
            (then.payee, then.payee_crashes) = (self.payee_disk, self.payee_crashes + 1);
            found.push(then);
        }
    }

    fn loses(&self, found: &mut Vec<Self>) {
        for number in 0..LEN {
            let mut then = *self;
            then.ticks[number] = [0; 2];
            (then.acks[number], then.nacks[number]) = (0, 0);
            if then != *self {
                found.push(then);
            }
        }
    }
}

/// Looks at every state that the rules allow, up to `most`. How many there were, and the first
/// promise that did not hold.
#[must_use]
pub fn explore(rules: Rules, most: usize) -> (usize, Option<&'static str>) {
    let mut seen = HashSet::from([State::default()]);
    let mut queue = VecDeque::from([State::default()]);
    let mut found = Vec::new();
    while let Some(state) = queue.pop_front() {
        if let Some(broken) = state.broken() {
            return (seen.len(), Some(broken));
        }
        state.next(rules, &mut found);
        for next in found.drain(..) {
            if seen.len() < most && seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_rule_is_needed() {
        for (rule, rules) in Rules::without_one() {
            let (states, broken) = explore(rules, 400_000);
            assert!(broken.is_some(), "{rule}: nothing in {states} states");
        }
    }
}
