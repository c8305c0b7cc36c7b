//! Hostile peers: scripts that lie, repeat, flood and stall, played against an implementation
//! through `step`. A judge watches every output; what must hold is in `conformance.md`.

mod flood;
mod meters;
mod offers;
mod payees;
mod payers;
mod roles;
mod rooms;

use crate::conformance::Subject;
use crate::peer::{Played, Stage};

/// A script, and whom it plays against.
pub struct Script {
    /// What it does.
    pub name: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
}

impl core::fmt::Debug for Script {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}

impl Script {
    const fn new(name: &'static str, play: fn(&mut Stage<'_>) -> Played) -> Self {
        Self { name, play }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What the implementation did wrong.
    pub fn play(&self, subject: &mut dyn Subject) -> Played {
        (self.play)(&mut Stage::new(subject))
    }
}

/// All scripts.
pub fn scripts() -> impl Iterator<Item = &'static Script> {
    let all = [
        payers::SCRIPTS,
        roles::SCRIPTS,
        payees::SCRIPTS,
        meters::SCRIPTS,
        offers::SCRIPTS,
        flood::SCRIPTS,
        rooms::SCRIPTS,
    ];
    all.into_iter().flatten()
}
