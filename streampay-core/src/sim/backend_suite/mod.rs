//! What every payment method must do, for those who write one.

mod cases;
mod process;
mod table;

use alloc::boxed::Box;

use crate::backend::{BackendMachine, Effect, EffectResult, PurseOffer};
use crate::session::Role;
use crate::units::{Msat, Now, Unix};

/// A payer, a payee, and the mint or ledger between them: what a method needs to be tried.
/// Everything is in one thread; a method whose calls are futures waits for them in
/// [`BackendWorld::run`].
pub trait BackendWorld {
    /// The machine of a process of `role` that has just started: nothing is restored yet. What it
    /// keeps goes through its records alone.
    fn machine(&mut self, role: Role) -> Box<dyn BackendMachine>;

    /// What both sides have agreed to. The same each time.
    fn offer(&self) -> PurseOffer;

    /// Makes a network call of `role`, as the method's runner does.
    fn run(&mut self, role: Role, effect: Effect) -> EffectResult;

    /// What `role` could spend on something else now: nothing that is in a purse.
    fn spendable(&mut self, role: Role) -> Msat;

    /// Both times, as `role`'s processes are told them.
    fn now(&mut self) -> Now;

    /// Lets time go on until the wall clock says `until`, for everybody. False where that cannot be
    /// had: then what needs it is left out.
    fn pass(&mut self, until: Unix) -> bool {
        let _ = until;
        false
    }

    /// The most that may go to fees, of both sides and of one purse of ten ticks.
    fn fees_max(&self) -> Msat {
        Msat::ZERO
    }
}

/// Runs the suite over a method. `world` makes a new one each time, in which the payer can spend
/// ten ticks and the fees, and the payee nothing yet.
///
/// It plays the session's part for one purse: opening, ticks, what is refused and taken back, the
/// end in any order; with effects that run twice, answers that get lost, and a process that dies
/// between any two steps. Throughout, no satoshi may be missing, and none may be there twice.
///
/// A release may wait for a lock: its machine says nothing or
/// [`BackendError::Transient`](crate::backend::BackendError::Transient), and when it wants to be woken.
///
/// What only the method knows, such as a signature of the wrong key or a chain that reorganises, its
/// own tests must try.
///
/// # Panics
/// Where the method does something else, with what it is.
pub fn check_backend<W: BackendWorld>(mut world: impl FnMut() -> W) {
    cases::run_all(&mut world);
}
