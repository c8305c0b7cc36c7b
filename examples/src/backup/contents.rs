//! What a folder holds, read from its stores alone, and what may be missing in one that was
//! restored.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use streampay_core::session::{Role, SessionLedger};
use streampay_core::store::{RedbStore, Store as _, session_of};
use streampay_core::units::Msat;

use crate::error::AppError;
use crate::ledger::history::Sums;
use crate::wallet::WalletFolder;

/// What is in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Sessions with records.
    pub sessions: u64,
    /// Those whose money is not home.
    pub open: Vec<OpenSession>,
    /// Those whose records cannot be read, saved as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// The wallet.
    pub mints: Vec<AtMint>,
    /// Rescue kits of bitcoin channels.
    pub rescue_kits: u64,
}

/// A session whose money is not home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Its name.
    pub session: String,
    /// True where this folder is paid.
    pub earns: bool,
    /// What its purses that are not home can come to.
    pub capacity_msat: u64,
    /// What of that was acknowledged.
    pub acknowledged_msat: u64,
    /// What of it is not home.
    pub out_msat: u64,
}

/// The wallet at one mint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtMint {
    /// Its address.
    pub mint: String,
    /// Can be spent.
    pub spendable_msat: u64,
    /// Is held.
    pub pending_msat: u64,
}

impl Contents {
    /// Those of `folder`, and the right to use it, which nobody else has meanwhile.
    ///
    /// # Errors
    /// [`AppError`]: another process uses it, or it cannot be read.
    pub(super) async fn of(folder: &Path) -> Result<(Self, File), AppError> {
        let wallet = WalletFolder::open(folder)?;
        let mut contents = Self::of_store(folder)?;
        let balance = wallet.balance().await?.into_iter();
        contents.mints = balance
            .map(|at| AtMint {
                mint: at.mint.to_string(),
                spendable_msat: at.spendable.msat(),
                pending_msat: at.pending.msat(),
            })
            .collect();
        if let Ok(kits) = std::fs::read_dir(folder.join("channels")) {
            contents.rescue_kits = u64::try_from(kits.count()).unwrap_or(u64::MAX);
        }
        Ok((contents, wallet.into_lock()))
    }

    fn of_store(folder: &Path) -> Result<Self, AppError> {
        let store = RedbStore::open(folder)?;
        let mut sessions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, value) in store.scan(b"s")? {
            if let Some(session) = session_of(&key) {
                sessions.entry(session).or_default().push((key, value));
            }
        }
        let mut contents = Self::default();
        for (id, records) in sessions {
            contents.sessions = contents.sessions.saturating_add(1);
            let Ok(session) = SessionLedger::read(id, &records) else {
                // It is saved as it is, with all that can be read.
                contents.unreadable.push(id.to_string());
                continue;
            };
            if !session.settled {
                contents.open.push(OpenSession::of(&session));
            }
        }
        Ok(contents)
    }

    /// What the wallet holds, over all mints.
    #[must_use]
    pub fn in_wallet(&self) -> Msat {
        sum(self
            .mints
            .iter()
            .map(|at| at.spendable_msat.saturating_add(at.pending_msat)))
    }

    /// The most that viewers of sessions in here can have paid since, and only they can show.
    #[must_use]
    pub fn paid_since(&self) -> Msat {
        let earning = self.open.iter().filter(|open| open.earns);
        sum(earning.map(|open| open.capacity_msat.saturating_sub(open.acknowledged_msat)))
    }
}

impl OpenSession {
    fn of(session: &SessionLedger) -> Self {
        let out = session.purses.iter().filter(|row| !row.home && row.opened);
        let (mut capacity, mut acknowledged) = (Msat::ZERO, Msat::ZERO);
        for row in out {
            capacity = capacity.saturating_plus(row.capacity);
            acknowledged = acknowledged.saturating_plus(row.acknowledged);
        }
        Self {
            session: session.session.to_string(),
            earns: session.role == Role::Payee,
            capacity_msat: capacity.msat(),
            acknowledged_msat: acknowledged.msat(),
            out_msat: Sums::of(session).out.msat(),
        }
    }
}

fn sum(all: impl Iterator<Item = u64>) -> Msat {
    Msat::new(all.fold(0, u64::saturating_add)).unwrap_or(Msat::MAX)
}
