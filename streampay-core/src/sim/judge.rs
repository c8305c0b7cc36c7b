//! What must hold at each step of a run. Spec: introduction 3.

use super::Pair;
use super::config::{TOLERANCE_BYTES, tariff};
use super::fake::FakeBackend;
use crate::meter::{NextTariff, Reading, Schedule};
use crate::session::{Event, PayeeSession};
use crate::units::{Mono, Msat};

/// A promise that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The payer had more at stake than a tick and the lead.
    #[error("payer: {paid} paid, {used} used at {at_ms} ms")]
    PayerBound {
        /// Paid.
        paid: Msat,
        /// Used.
        used: Msat,
        /// When.
        at_ms: u64,
    },
    /// The payee had delivered more than credit, preview and window.
    #[error("payee: {used} used, {reach} allowed at {at_ms} ms")]
    PayeeBound {
        /// Used.
        used: Msat,
        /// Allowed.
        reach: Msat,
        /// When.
        at_ms: u64,
    },
    /// Money appeared or vanished.
    #[error("money: {before} before, {after} after")]
    Conservation {
        /// At the start.
        before: Msat,
        /// Now.
        after: Msat,
    },
    /// The payee credited what it did not get, or got what it did not credit.
    #[error("payee: {credited} credited, {got} in the wallet")]
    Credit {
        /// Credited.
        credited: Msat,
        /// In the wallet.
        got: Msat,
    },
    /// More was spent than the budget.
    #[error("budget: {spent} of {budget} spent")]
    Budget {
        /// Spent.
        spent: Msat,
        /// The budget.
        budget: Msat,
    },
    /// More was given than the user wanted, or not what the payee says.
    #[error("tips: {tips} of {wanted}")]
    Tips {
        /// Given.
        tips: Msat,
        /// Wanted.
        wanted: Msat,
    },
    /// The room counts other viewers than are bound.
    #[error("room: {counted} counted, {bound} bound")]
    Count {
        /// By the room.
        counted: u32,
        /// Bound.
        bound: u32,
    },
    /// Somebody heard a line twice, or lines of one sender out of order.
    #[error("room: a line came twice or out of order")]
    Chat,
    /// An amount that must not decrease did.
    #[error("an amount decreased")]
    Decreased,
    /// A user's money was refused or lost though both sides and the mint are honest.
    #[error("an honest payment was lost")]
    Lost,
    /// Virtual time stands still, or a deadline was not consumed by the timeout at it.
    #[error("stuck at {at_ms} ms")]
    Stuck {
        /// When.
        at_ms: u64,
    },
    /// The run did not settle.
    #[error("not settled")]
    NotSettled,
}

impl Pair {
    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        self.note_changes();
        self.judge_timers()?;
        self.judge_money()?;
        self.judge_payee()?;
        self.judge_payer()
    }

    /// What both sides have agreed to, durably: it may have begun within the same moment.
    fn note_changes(&mut self) {
        let Some(schedule) = self.payee().map(|payee| payee.schedule()) else {
            return;
        };
        let begun = NextTariff {
            from: schedule.base_msat,
            tariff: schedule.tariff,
        };
        let begun = (!begun.from.is_zero()).then_some(begun);
        for change in begun.into_iter().chain(schedule.next) {
            if !self.changes.contains(&change) {
                self.changes.push(change);
            }
        }
    }

    /// What is used at `reading`, by the true course of the price.
    fn price(&self, reading: Reading) -> Msat {
        let mut schedule = Schedule::new(tariff(&self.config));
        for change in &self.changes {
            schedule.next = Some(*change);
            if !schedule.advance(reading) {
                break;
            }
            schedule.known = schedule.base;
        }
        schedule.used(reading)
    }

    /// One payment, of the method whose steps are largest.
    fn step(&self) -> Msat {
        let steps = [FakeBackend::default(), FakeBackend::steps()];
        let steps = steps.map(|machine| machine.step(self.config.tick));
        steps.into_iter().fold(Msat::ZERO, Msat::max)
    }

    /// Every deadline that a machine names is moved or cleared by the timeout at it.
    fn judge_timers(&self) -> Result<(), Violation> {
        let now = self.now.mono;
        let late = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        if late(self.payer.timeout()) || late(self.payee.timeout()) {
            return Err(Violation::Stuck { at_ms: now.0 });
        }
        Ok(())
    }

    fn judge_money(&self) -> Result<(), Violation> {
        let after = self.mint.total();
        if after != self.total {
            return Err(Violation::Conservation {
                before: self.total,
                after,
            });
        }
        // What has left the wallet, fees and unspent tokens included.
        let spent = self.total.saturating_minus(self.mint.payer);
        let budget = self.config.budget;
        if spent > budget {
            return Err(Violation::Budget { spent, budget });
        }
        Ok(())
    }

    fn judge_payee(&mut self) -> Result<(), Violation> {
        // One that stands in for a session that is settled knows nothing of it.
        if self.payee.session.is_none() || self.payee_stands_in {
            return Ok(());
        }
        let (credited, got) = (self.payee.money().0, self.mint.payee);
        if credited < self.credited {
            return Err(Violation::Decreased);
        }
        self.credited = credited;
        // Nothing is credited that is not at the mint; nothing is taken twice: one payment at
        // most is there and not credited yet.
        if credited > got || got > credited.saturating_plus(self.step()) {
            return Err(Violation::Credit { credited, got });
        }
        let tips = self.payee().map(PayeeSession::tips).unwrap_or_default();
        let reach = credited
            .saturating_minus(tips)
            .saturating_plus(self.config.preview)
            .saturating_plus(self.config.window);
        let used = self.price(self.delivered);
        if used > reach {
            let at_ms = self.now.mono.0;
            return Err(Violation::PayeeBound { used, reach, at_ms });
        }
        Ok(())
    }

    fn judge_payer(&mut self) -> Result<(), Violation> {
        let Some(payer) = self.payer() else {
            return Ok(());
        };
        let (paid, acked) = (payer.paid(), payer.acknowledged());
        let (booked, written_off) = (payer.booked(), payer.written_off());
        let (bought, tips) = (payer.bought(), (payer.tips(), payer.tips_wanted()));
        if tips.0 > tips.1 {
            let (tips, wanted) = tips;
            return Err(Violation::Tips { tips, wanted });
        }
        if acked < self.acked {
            return Err(Violation::Decreased);
        }
        // A payee that died right after its ack has it on disk; until it is back the mint knows.
        let got = match self.payee.session {
            Some(_) => self.credited,
            None => self.mint.payee,
        };
        if acked > got && !self.payee_stands_in {
            return Err(Violation::Credit {
                credited: got,
                got: acked,
            });
        }
        self.acked = acked;
        // What came, by the truth; and what the user consented to count as used or lost.
        let reading = Reading {
            media_ms: self.received.media_ms.saturating_add(booked.media_ms),
            bytes: self.received.bytes.saturating_add(booked.bytes),
        };
        let used = self.price(reading);
        let most = self.stake(reading).saturating_plus(used);
        if bought.saturating_minus(written_off) > most {
            let at_ms = self.now.mono.0;
            return Err(Violation::PayerBound { paid, used, at_ms });
        }
        // Last: where somebody forged it says nothing, and what is above still holds.
        let lost = |event: &Event| matches!(event, Event::TickLost { .. });
        if self.mint.thief.is_zero() && self.tamper.is_none() && self.payer.events.iter().any(lost)
        {
            return Err(Violation::Lost);
        }
        Ok(())
    }

    /// At the end both sides count the same tips, or the payer what the payee never took.
    pub(super) fn judge_tips(&self) -> Result<(), Violation> {
        let (Some(payer), Some(payee)) = (self.payer(), self.payee()) else {
            return Ok(());
        };
        let (wanted, tips) = (payer.tips(), payee.tips());
        let acked = payer.receipt().map(|evidence| evidence.receipt.tips);
        if self.payee_stands_in || (tips <= wanted && acked.unwrap_or_default() <= tips) {
            return Ok(());
        }
        Err(Violation::Tips { tips, wanted })
    }

    /// One tick, the lead of at most a fifth of it, and drift: the tolerance, and never more than
    /// a tick.
    fn stake(&self, used: Reading) -> Msat {
        let tick = self.step();
        let lead = Msat::new(self.config.tick.msat() / 5).unwrap_or_default();
        let part = used.media_ms.saturating_mul(20) / 1_000;
        let part_bytes = used.bytes.saturating_mul(20) / 1_000;
        let ms = part.max(self.config.tolerance_ms.into());
        let claimed = Reading {
            media_ms: used.media_ms.saturating_add(ms),
            bytes: used.bytes.saturating_add(part_bytes.max(TOLERANCE_BYTES)),
        };
        let drift = self.price(claimed).saturating_minus(self.price(used));
        tick.saturating_plus(lead).saturating_plus(drift.min(tick))
    }
}
