//! How to write a payment method: `payword`, a hash chain over money that a bank has set aside
//! (after Rivest and Shamir, "PayWord and MicroMint", 1996).
//!
//! ```sh
//! cargo run -p streampay-core --example own_backend --features sim,driver
//! ```
//!
//! The payer's last word is random, each word before it is the hash of the next. The bank sets
//! `count` ticks aside under the first of them; a tick is the next word, which nobody but the payer
//! can know and everybody can check; the newest word is worth all ticks before it. The payee redeems
//! it once, at the end or before the purse's time is over; then the rest is the payer's.
//!
//! | file | holds |
//! |---|---|
//! | `payword.rs` | the machine of both sides: requests in, answers out, no I/O |
//! | `purse.rs` | what it keeps of a purse, and the one record that this is on disk |
//! | `bank.rs` | the calls that it makes, and who answers them: in the place of a mint |
//! | `main.rs` | the world in which [`check_backend`] tries it |
//!
//! Order is everything: what an answer says or does rests on its `delta` alone, which the session
//! makes durable before it goes on. The contract is that of [`BackendMachine`].

pub(crate) mod bank;
pub(crate) mod payword;
pub(crate) mod purse;

use bank::Bank;
use payword::PayWord;
use streampay_core::backend::{BackendMachine, Effect, EffectResult, PurseOffer};
use streampay_core::session::{Entropy, Role};
use streampay_core::sim::{BackendWorld, check_backend};
use streampay_core::units::{Mono, Msat, Now, Unix, XOnlyKey};

/// What the payer has at first, and what a tick costs.
const FUNDS_SAT: u64 = 100;
const TICK_SAT: u64 = 3;
/// Any time of day.
const START: Unix = Unix(1_800_000_000);

/// A bank, and two who use it.
pub(crate) struct World(pub(crate) Bank);

impl World {
    /// A new bank.
    pub(crate) fn new() -> Self {
        Self(Bank::new(sat(FUNDS_SAT), START))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or_default()
}

impl BackendWorld for World {
    fn machine(&mut self, role: Role) -> Box<dyn BackendMachine> {
        // Really: 32 random bytes, made once and kept.
        let secret = Entropy([u8::from(role == Role::Payer); 32]);
        Box::new(PayWord::new(secret))
    }

    fn offer(&self) -> PurseOffer {
        PurseOffer {
            params: bytes::Bytes::new(),
            tick: sat(TICK_SAT),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        }
    }

    fn run(&mut self, _: Role, effect: Effect) -> EffectResult {
        self.0.run(&effect)
    }

    fn spendable(&mut self, role: Role) -> Msat {
        let (payer, payee) = self.0.accounts();
        match role {
            Role::Payer => payer,
            Role::Payee => payee,
        }
    }

    fn now(&mut self) -> Now {
        let unix = self.0.now();
        let mono = Mono(unix.0.saturating_sub(START.0).saturating_mul(1_000));
        Now { mono, unix }
    }

    fn pass(&mut self, until: Unix) -> bool {
        self.0.set_time(until);
        true
    }
}

#[cfg_attr(test, allow(dead_code, reason = "the tests have no main"))]
fn main() {
    check_backend(World::new);
    println!("{}: the suite passes", PayWord::METHOD);
}

#[test]
fn own_backend_passes_the_suite() {
    check_backend(World::new);
}
