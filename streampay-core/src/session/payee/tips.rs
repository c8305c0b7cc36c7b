//! Payments that buy no media: tips, and the fee for joining the room. A tip is a tick like any
//! other, credited once and receipted, but it opens no gate. Spec: rooms 4.

use super::PayeeSession;
use crate::session::Event;
use crate::session::record::ReceivingTick;
use crate::units::Msat;
use crate::wire::Tick;

impl PayeeSession {
    /// What of the credit is for no media: tips, the fee for joining included. Spec: rooms 4.
    #[must_use]
    pub fn tips(&self) -> Msat {
        let record = self.record.as_ref();
        record.map(|record| record.tips).unwrap_or_default()
    }

    /// What of the credit is for media.
    #[must_use]
    pub fn bought(&self) -> Msat {
        self.credited().saturating_minus(self.tips())
    }

    /// True where the tick is for media, or says what all tips come to with it.
    pub(super) fn tips_fit(&self, tick: &Tick, amount: Msat) -> bool {
        let tips = self.tips().plus(amount);
        tick.tips.is_none_or(|said| tips == Ok(said))
    }

    /// The payment is ours; where it is a tip, it is for no media.
    pub(super) fn credit_tip(&mut self, tick: &ReceivingTick) {
        if let Some(record) = self.record.as_mut().filter(|_| tick.tip) {
            record.tips = record.tips.saturating_plus(tick.amount);
        }
    }

    pub(super) fn tell_tip(&mut self, tick: &ReceivingTick) {
        if tick.tip {
            let (amount, tips) = (tick.amount, self.tips());
            self.event(Event::TipReceived { amount, tips });
            self.tell_room_of_tip(amount);
        }
    }
}
