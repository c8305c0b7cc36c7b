//! A settled session in which something was paid that the payee never acknowledged: it may have it all the
//! same, and its receipt says so. Nothing is paid, and no money waits for it.

use super::closing::Releasing;
use super::{PayerSession, Phase};
use crate::units::Msat;

impl PayerSession {
    /// All that was paid and is not acknowledged: under way, lost, or taken home with its purse.
    #[must_use]
    pub fn unacknowledged(&self) -> Msat {
        self.paid().saturating_minus(self.acknowledged())
    }

    /// The same session, where it is settled and something is not acknowledged, to be connected once more:
    /// it says hello, takes the payee's newest receipt, and ends once that has said by its signature what is
    /// due. The money is with whom it is already; the receipt says what of it was paid. Spec: session 7.
    #[must_use]
    pub fn asking_for_receipt(mut self) -> Self {
        if self.record.is_some() && self.is_settled() && !self.unacknowledged().is_zero() {
            self.phase = Phase::Releasing(Releasing::default());
            // Nothing was paid after it had settled, whatever a backup knows.
            self.restored = false;
        }
        self
    }

    /// Whoever only asks has nothing to wait for once it was answered.
    pub(super) fn end_if_answered(&mut self) {
        let answered = matches!(&self.phase, Phase::Releasing(releasing) if releasing.answered);
        if answered && self.is_settled() {
            self.phase = Phase::Ended;
        }
    }
}
