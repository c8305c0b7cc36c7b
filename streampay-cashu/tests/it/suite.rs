//! The suite that every payment method must pass, over a real mint.
//!
//! Locks end by the mint's word for the time: it says that it is days ago, and says later times when the
//! suite lets time go on. What it enforces is real, so that a lock which ends by its word is over for it.

use std::cell::Cell;
use std::sync::Arc;

use cdk::util::unix_time;
use streampay_cashu::{LockedPolicy, Runner, SwapParams};
use streampay_core::backend::{BackendMachine, Effect, EffectResult, PurseOffer};
use streampay_core::driver::EffectRunner;
use streampay_core::session::Role;
use streampay_core::sim::{BackendWorld, check_backend};
use streampay_core::units::{Mono, Msat, Now, Unix};
use tokio::runtime::{Builder, Runtime};

use crate::mint::{Purseless, TestMint};
use crate::node::{Mode, OneWallet, offer, params, sat};

const FUNDS: u64 = 64;
const TICK: u64 = 3;
/// More than splitting, redeeming and bringing home a purse of ten ticks costs at 100 ppk.
const FEES_MAX: u64 = 16;
/// How long ago it is when a world begins, in seconds: longer than any lock and what comes after it.
const AGO_S: u64 = 2 * 86_400;
/// A process's own clock when a world begins, in milliseconds.
const STARTS_MS: u64 = 5_000;

/// A mint for all worlds of a test.
struct Place {
    runtime: Runtime,
    mint: Arc<TestMint>,
    ppk: u64,
    wallets: Cell<u8>,
}

impl Place {
    fn new(ppk: u64) -> Self {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.enable_all().worker_threads(1).build().unwrap();
        let mint = runtime.block_on(TestMint::new(ppk));
        Self {
            runtime,
            mint,
            ppk,
            wallets: Cell::new(0),
        }
    }

    /// With a seed of its own.
    fn wallet(&self, funds: u64) -> Purseless {
        let seed = self.wallets.get() + 1;
        self.wallets.set(seed);
        let wallet = Purseless::new(&self.mint, seed, funds);
        self.runtime.block_on(wallet)
    }
}

struct World<'a> {
    place: &'a Place,
    mode: Mode,
    payer: Purseless,
    payee: Purseless,
    /// How long ago it is, in seconds.
    ago_s: u64,
    began: u64,
}

impl<'a> World<'a> {
    fn new(place: &'a Place, mode: Mode) -> Self {
        let (payer, payee) = (place.wallet(FUNDS), place.wallet(0));
        let mut world = Self {
            place,
            mode,
            payer,
            payee,
            ago_s: 0,
            began: unix_time() - AGO_S,
        };
        world.is_ago(AGO_S);
        world
    }

    fn is_ago(&mut self, ago_s: u64) {
        self.ago_s = ago_s;
        self.place.mint.set_skew(-ago_s.cast_signed());
    }

    const fn of(&self, role: Role) -> &Purseless {
        match role {
            Role::Payer => &self.payer,
            Role::Payee => &self.payee,
        }
    }
}

impl BackendWorld for World<'_> {
    fn machine(&mut self, _: Role) -> Box<dyn BackendMachine> {
        self.mode.machine(LockedPolicy::default())
    }

    fn offer(&self) -> PurseOffer {
        let locked = offer(&params(), TICK);
        match self.mode {
            Mode::Swap => PurseOffer {
                params: SwapParams::new(params().mints().to_vec()).unwrap().encode(),
                ..locked
            },
            Mode::Chain | Mode::P2pk => locked,
        }
    }

    fn run(&mut self, role: Role, effect: Effect) -> EffectResult {
        let wallet = OneWallet::new(self.of(role).wallet.clone());
        let runner = Runner::new(Arc::new(wallet));
        self.place.runtime.block_on(runner.run(effect))
    }

    fn spendable(&mut self, role: Role) -> Msat {
        let spendable = self.of(role).spendable();
        sat(self.place.runtime.block_on(spendable))
    }

    fn now(&mut self) -> Now {
        let unix = unix_time() - self.ago_s;
        Now {
            mono: Mono(STARTS_MS + 1_000 * (unix - self.began)),
            unix: Unix(unix),
        }
    }

    fn pass(&mut self, until: Unix) -> bool {
        let Some(ago_s) = unix_time().checked_sub(until.0) else {
            return false;
        };
        self.is_ago(ago_s.min(self.ago_s));
        true
    }

    fn fees_max(&self) -> Msat {
        match self.place.ppk {
            0 => Msat::ZERO,
            _ => sat(FEES_MAX),
        }
    }
}

fn passes(mode: Mode, ppk: u64) {
    let place = Place::new(ppk);
    check_backend(|| World::new(&place, mode));
}

#[test]
fn chain_passes_the_suite_of_backends() {
    passes(Mode::Chain, 0);
}

#[test]
fn p2pk_passes_the_suite_of_backends() {
    passes(Mode::P2pk, 0);
}

#[test]
fn swap_passes_the_suite_of_backends() {
    passes(Mode::Swap, 0);
}

#[test]
fn every_mode_passes_it_at_a_mint_that_takes_fees() {
    for mode in Mode::ALL {
        passes(mode, 100);
    }
}
