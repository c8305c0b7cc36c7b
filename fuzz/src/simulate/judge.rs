//! What must hold: checked after everything that happens to a session. Source: DESIGN 1.
//!
//! | invariant | says |
//! |---|---|
//! | `PayerBound` | what the payee can take or has taken, less what was used: one tick, the lead, drift that is tolerated; the payer's meter counts what came, and while nothing flows no more than may |
//! | `Unasked` | in a pause, over all its connections, no more counts than what was paid for and one step |
//! | `PayeeBound` | what passed the gate is within credit, preview and window |
//! | `CreditIsMoney` | the payee credits what it has, or can take without the payer; and all of it |
//! | `Acknowledged` | what the payer has acks for, the payee has on its disk |
//! | `GateOpen` | an open gate's limit is within credit, preview and window |
//! | `Tips` | no more is given as tips than the user's commands allow; both sides count the same in the end |
//! | `Monotone` | no amount that is acknowledged or credited goes down |
//! | `Budget` | no more leaves the wallet than was allowed, fees included |
//! | `Price` | both sides price a reading as the signed terms do |
//! | `Consent` | a new price begins at an amount that was not paid when it was agreed to |
//! | `Undone` | what both agreed to holds until it begins: nothing takes its place |
//! | `Told` | the payer's backend knows what was acknowledged last, restarts or not |
//! | `Accused` | an honest side is never accused |
//! | `OneTick` | a tick's number is one payment, for ever |
//! | `OneAnswer` | a tick that was refused is never acknowledged |
//! | `Lost` | an honest payment is never declared lost |
//! | `WrittenOff` | no more is written off than was stolen |
//! | `Conserved` | no money appears or vanishes |
//! | `Home` | what is settled has come home: nothing is left at the mint |
//! | `Root` | only the first binding's chain resumes a session |
//! | `Disk` | a store that a crash tore opens again |
//! | `Stuck`, `Progress`, `Settles` | time goes on, ticks flow again after all is healed, every session settles |

use streampay_core::meter::{Grant, PauseReason, Reading};
use streampay_core::session::{Event, PayeeSession, PayerSession};
use streampay_core::units::PurseKey;

use super::kinds::Kind;
use super::life::{largest_step, msat};
use super::world::{PAYEE, PAYER, Session, World};

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Virtual time stands still.
    Stuck,
    /// Anything else: the invariant, and the numbers.
    Broken {
        /// Which.
        invariant: &'static str,
        /// What was found.
        found: String,
    },
}

impl Violation {
    /// The invariant's name.
    #[must_use]
    pub const fn invariant(&self) -> &'static str {
        match self {
            Self::Stuck => "Stuck",
            Self::Broken { invariant, .. } => invariant,
        }
    }
}

impl World {
    pub(super) fn violate(&mut self, slot: usize, invariant: &'static str, found: String) {
        self.log(|| format!("s{slot} !! {invariant}: {found}"));
        if self.violation.is_none() {
            self.violation = Some(Violation::Broken { invariant, found });
        }
    }

    pub(super) fn judge(&mut self, slot: usize, side: usize) {
        let end = &self.slots[slot].ends[side];
        let broken = match &end.session {
            _ if end.failed => None,
            Some(Session::Payer(_)) => {
                let unasked = self.judge_pause(slot);
                unasked.or_else(|| self.judge_payer(slot))
            }
            Some(Session::Payee(_)) => self.judge_payee(slot),
            None => None,
        };
        let broken = broken.or_else(|| self.judge_money(slot));
        if let Some((invariant, found)) = broken {
            self.violate(slot, invariant, found);
        }
    }

    pub(super) fn payer(&self, slot: usize) -> Option<&PayerSession> {
        match self.slots[slot].ends[PAYER].session.as_ref()? {
            Session::Payer(payer) => Some(payer),
            Session::Payee(_) => None,
        }
    }

    fn payee(&self, slot: usize) -> Option<&PayeeSession> {
        match self.slots[slot].ends[PAYEE].session.as_ref()? {
            Session::Payee(payee) => Some(payee),
            Session::Payer(_) => None,
        }
    }

    fn judge_money(&mut self, slot: usize) -> Option<(&'static str, String)> {
        let place = &mut self.slots[slot];
        let (account, truth) = (&place.account, &mut place.truth);
        let spent = truth.total.saturating_sub(account.wallet);
        if spent > truth.budget {
            return Some(("Budget", format!("{spent} of {} spent", truth.budget)));
        }
        truth.steps = truth.steps.wrapping_add(1);
        let total = if truth.steps.is_multiple_of(256) {
            account.total()
        } else {
            truth.total
        };
        (total != truth.total).then(|| ("Conserved", format!("{total} of {}", truth.total)))
    }

    fn judge_payee(&mut self, slot: usize) -> Option<(&'static str, String)> {
        let payee = self.payee(slot)?;
        let (credited, schedule) = (payee.credited().msat(), payee.schedule());
        let (reading, tips) = (payee.reading(), payee.tips().msat());
        payee.session()?;
        let place = &mut self.slots[slot];
        let (account, truth) = (&place.account, &mut place.truth);
        truth.payee_meter = truth.payee_meter.max(reading);
        if let Some(next) = schedule.next
            && truth.changes.last() != Some(&next)
        {
            truth.changes.push(next);
        }
        if credited < truth.acked {
            return Some((
                "Acknowledged",
                format!("{} acked, {credited} credited", truth.acked),
            ));
        }
        if tips < truth.tipped {
            return Some(("Monotone", format!("{} of tips, then {tips}", truth.tipped)));
        }
        if credited < truth.credited {
            return Some((
                "Monotone",
                format!("{} credited, then {credited}", truth.credited),
            ));
        }
        let meter = truth.delivered.max(place.ends[PAYEE].reading);
        if truth.has_two_meters() {
            if let Some(broken) = truth.take_begin(&schedule, meter.max(reading)) {
                return Some(broken);
            }
        } else {
            truth.advance(meter);
        }
        let more = credited.saturating_sub(truth.credited);
        (truth.credited, truth.tipped) = (credited, tips);
        if more > 0 {
            (place.ticks, place.healed) = (place.ticks + 1, place.healed + 1);
        }
        let most = account.payee + account.collectable;
        if credited > most || account.payee > credited + largest_step() {
            return Some((
                "CreditIsMoney",
                format!("{credited} credited, {most} to have, {} had", account.payee),
            ));
        }
        let bought = credited.saturating_sub(tips);
        let reach = msat(bought + truth.preview_window);
        if let Grant::Open { limit, .. } = place.ends[PAYEE].grant
            && limit > reach
        {
            return Some(("GateOpen", format!("limit {limit}, reach {reach}")));
        }
        let used = truth.used_of_delivered();
        if used > reach {
            return Some(("PayeeBound", format!("{used} used, reach {reach}")));
        }
        let meter = place.ends[PAYEE].reading;
        let (said, is) = (schedule.used(meter), truth.price(meter));
        (said != is).then(|| ("Price", format!("{said} said, {is} is")))
    }

    fn judge_payer(&mut self, slot: usize) -> Option<(&'static str, String)> {
        let (payer, payee) = (self.payer(slot)?, self.payee(slot));
        let (paid, acked) = (payer.paid().msat(), payer.acknowledged().msat());
        let (booked, written_off) = (payer.booked(), payer.written_off().msat());
        let (tips, counted) = (payer.tips().msat(), payer.reading());
        let schedule = payer.schedule();
        let next = schedule.next;
        let told = self.is_told(slot, payer);
        let payee_is_here = payee.is_some_and(|payee| payee.session().is_some());
        let payee_is_here = payee_is_here && !self.slots[slot].ends[PAYEE].failed;
        let place = &mut self.slots[slot];
        let (account, truth) = (&place.account, &mut place.truth);
        if acked < truth.acked {
            return Some(("Monotone", format!("{} acked, then {acked}", truth.acked)));
        }
        let known = if payee_is_here {
            truth.credited
        } else {
            account.payee + account.at_large
        };
        if acked > known.max(truth.credited) {
            return Some(("Acknowledged", format!("{acked} acked, {known} credited")));
        }
        truth.acked = acked;
        if tips > truth.tips {
            return Some(("Tips", format!("{tips} given of {}", truth.tips)));
        }
        if written_off > account.thief {
            return Some((
                "WrittenOff",
                format!("{written_off} of {} stolen", account.thief),
            ));
        }
        if let Some(untold) = told {
            return Some(("Told", untold));
        }
        if let Some(agreed) = truth.both {
            if schedule.base_msat >= agreed.from {
                truth.both = None;
            } else if next != Some(agreed) {
                return Some(("Undone", format!("{agreed:?}, now {next:?}")));
            }
        }
        if next.is_some_and(|next| truth.changes.contains(&next)) {
            truth.both = next;
        }
        let from = next.map(|next| next.from);
        if from != truth.agreed_from {
            truth.agreed_from = from;
            let credit = paid.saturating_sub(tips).saturating_sub(written_off);
            if let Some(from) = from.filter(|from| from.msat() < credit) {
                return Some(("Consent", format!("{credit} paid, agreed to from {from}")));
            }
        }
        let own = Reading {
            media_ms: truth.received.media_ms + booked.media_ms,
            bytes: truth.received.bytes + booked.bytes,
        };
        if counted.max(truth.received) != truth.received {
            let found = format!("{counted:?} counted of {:?}", truth.received);
            return Some(("PayerBound", found));
        }
        // The payer's word, and what is out of its hands whatever it says.
        let out = (account.payee + account.at_large + account.thief).max(paid);
        let (used, stake) = (
            truth.owed(own, &schedule).msat(),
            truth.stake(own, &schedule),
        );
        let risk = out.saturating_sub(written_off + used + tips);
        (risk > stake).then(|| {
            let found = format!("{risk} at risk of {stake}, {used} used, {tips} given");
            ("PayerBound", found)
        })
    }

    /// What the payer's backend was not told of what was acknowledged last.
    fn is_told(&self, slot: usize, payer: &PayerSession) -> Option<String> {
        let receipt = payer.receipt()?.receipt;
        let out = payer.purses_out();
        out.iter().find(|(purse, _)| *purse == receipt.purse)?;
        let (session, end) = (payer.session(), &self.slots[slot].ends[PAYER]);
        let purse = receipt.purse;
        let method = end.methods.get(&purse)?;
        let mut machines = self.nodes[end.node].machines.iter();
        let machine = machines.find(|machine| machine.method == *method)?;
        let knows = machine.knows_acked(PurseKey { session, purse }, receipt.seq.0);
        (!knows).then(|| format!("{} of {purse:?} is acknowledged", receipt.seq.0))
    }

    /// What the payer asks for from here on.
    fn note_asking(&mut self, slot: usize, event: &Event) {
        match event {
            Event::Bound { .. } => {
                self.slots[slot].media.bound = true;
                self.slots[slot].truth.asking.is_bound();
            }
            Event::Paused { by_peer, reason } => {
                let by_user = !by_peer && *reason == PauseReason::ByPayer;
                self.pause_began(slot, by_user);
                if !by_peer {
                    self.begin_to_send_on(slot, by_user);
                }
            }
            Event::Resumed => {
                self.slots[slot].truth.asking.goes_on();
                self.slots[slot].media.still = None;
            }
            _ => {}
        }
    }

    /// What events say that must not be said.
    pub(super) fn note_event(&mut self, slot: usize, side: usize, event: &Event) {
        if side == PAYER {
            self.note_asking(slot, event);
        }
        match event {
            Event::Misbehaved { how } => {
                let found = format!("side {side} says: {how}");
                self.violate(slot, "Accused", found);
            }
            Event::TickLost { .. } if self.slots[slot].account.thief == 0 => {
                self.violate(slot, "Lost", "and nobody stole it".into());
            }
            Event::LinkDown => self.slots[slot].ends[side].dropped = true,
            Event::Bound { resumed: true, .. } => {
                // A receipt that the peer kept may have brought the session forward.
                let reading = match &self.slots[slot].ends[side].session {
                    Some(Session::Payer(payer)) => payer.reading(),
                    Some(Session::Payee(payee)) => payee.reading(),
                    None => Reading::default(),
                };
                let end = &mut self.slots[slot].ends[side];
                end.reading = end.reading.max(reading);
                if side == PAYER {
                    self.count(slot, Kind::Resumed);
                }
            }
            Event::Paused {
                reason: PauseReason::Drift,
                by_peer: false,
            } if side == PAYER => self.count(slot, Kind::DriftPaused),
            Event::TipReceived { .. } => self.count(slot, Kind::Tipped),
            Event::TickReclaimed { .. } => self.count(slot, Kind::Reclaimed),
            Event::TermsBegan { .. } if side == PAYEE => self.count(slot, Kind::TermsBegan),
            _ => {}
        }
    }

    /// Both sides say that all is settled.
    pub(super) fn judge_end(&mut self, slot: usize) {
        let (payer, payee) = (self.payer(slot), self.payee(slot));
        let written_off = payer.map_or(0, |payer| payer.written_off().msat());
        let given = payer.map_or(0, |payer| payer.tips().msat());
        let made = payer.map_or(0, |payer| payer.paid().msat());
        let credited = payee.filter(|payee| payee.session().is_some());
        let credited = credited.map_or(0, |payee| payee.credited().msat());
        let place = &self.slots[slot];
        let (account, total) = (&place.account, place.truth.total);
        let credited = credited.max(place.truth.credited);
        let (had, home) = (
            account.payee,
            account.wallet + account.payee + account.thief + account.fees,
        );
        let all = account.total();
        // What was made and never credited, stolen or taken home with its purse, may have been a tip.
        let (received, open) = (place.truth.tipped, made.saturating_sub(credited));
        if received > given || given > received + open {
            let found = format!("{given} given, {received} credited, {open} open");
            self.violate(slot, "Tips", found);
        }
        if all != total {
            self.violate(slot, "Conserved", format!("{all} of {total}"));
        }
        if credited != had {
            self.violate(
                slot,
                "CreditIsMoney",
                format!("{credited} credited, {had} had at the end"),
            );
        }
        if home != total {
            self.violate(
                slot,
                "Home",
                format!("{} left at the mint", total.saturating_sub(home)),
            );
        }
        if written_off > 0 {
            self.count(slot, Kind::WrittenOff);
        }
    }
}
