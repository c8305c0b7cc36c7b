//! Where a session's money went, by the wallet's own ledger.

use streampay_cashu::{add_line, purse_name};
use streampay_core::session::{PayerSession, SessionLedger};
use streampay_core::units::{Msat, PurseKey};

use crate::error::AppError;
use crate::home::Home;
use crate::ledger::uncollected::{Figures, uncollected};

/// Sums of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Left the wallet.
    pub paid: Msat,
    /// Came back.
    pub refunded: Msat,
    /// Acknowledged by the streamer, with its signature.
    pub acknowledged: Msat,
    /// Of that, what came back: the streamer never collected it.
    pub taken_back: Msat,
}

impl Account {
    /// Reads the wallet's ledger.
    ///
    /// # Errors
    /// [`AppError`] where it cannot be read.
    pub async fn of(home: &Home, session: &PayerSession) -> Result<Self, AppError> {
        let id = session.session();
        let mut account = Self {
            acknowledged: session.acknowledged(),
            ..Self::default()
        };
        if session.purses().is_empty() {
            return Ok(account);
        }
        let rows = SessionLedger::read(id, &home.node.records_of(id).await?)?;
        if let Some(channels) = &home.channels {
            let sums = channels.sums(home, id, &rows.purses).await?;
            [account.paid, account.refunded, account.taken_back] = sums;
        }
        // Also of a mint where nothing is left.
        let (lines, _) = home.wallet.book().await?;
        let mut figures = Figures::default();
        for line in &lines {
            let added = add_line(&mut figures.ecash, line);
            added.map_err(|_| AppError::Failed("the wallet's book has more than there can be"))?;
        }
        for row in &rows.purses {
            let purse = PurseKey {
                session: id,
                purse: row.purse,
            };
            let Some(of) = figures.ecash.get(&purse_name(purse)) else {
                continue;
            };
            account.paid = account.paid.saturating_plus(of.left);
            account.refunded = account.refunded.saturating_plus(of.returned);
            let lost = uncollected(&rows, row, &figures);
            account.taken_back = account.taken_back.saturating_plus(lost);
        }
        Ok(account)
    }

    /// What neither the streamer nor the viewer has: the mint's fees, on the viewer's side and
    /// for redeeming; and, until the session is settled, what is still under way.
    #[must_use]
    pub const fn fees(&self) -> Msat {
        self.paid
            .saturating_minus(self.refunded)
            .saturating_minus(self.reached())
    }

    /// What the streamer has of what it acknowledged, or will.
    #[must_use]
    pub const fn reached(&self) -> Msat {
        self.acknowledged.saturating_minus(self.taken_back)
    }
}

impl Account {
    /// The same for a session that is not settled: what is missing is on its way, or a fee.
    #[must_use]
    pub fn unsettled(&self) -> String {
        format!(
            "{} left the wallet = {} to the streamer + {} back + {} locked, on the way or fees",
            self.paid,
            self.reached(),
            self.refunded,
            self.fees()
        )
    }
}

impl core::fmt::Display for Account {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} left the wallet = {} to the streamer + {} of fees + {} back",
            self.paid,
            self.reached(),
            self.fees(),
            self.refunded
        )
    }
}
