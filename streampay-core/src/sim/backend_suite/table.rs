//! Two processes and what they have agreed to.

use bytes::Bytes;

use super::BackendWorld;
use super::process::{Calls, Crash, PURSE, Process};
use crate::backend::{Opened, Outcome, PurseOffer, Request};
use crate::session::Role;
use crate::units::{Msat, Seq};

/// Ticks for which a purse is asked.
const TICKS: u64 = 10;
/// Longer than any lock: 100 days, in seconds.
const LATER_S: u64 = 8_640_000;

pub(super) struct Table<W> {
    pub(super) world: W,
    pub(super) payer: Process,
    pub(super) payee: Process,
    offer: PurseOffer,
    /// One payment of this method.
    pub(super) step: Msat,
    /// Payments that the purse holds.
    pub(super) ticks: u64,
    /// What the payee credited.
    credited: Msat,
    funds: Msat,
    /// False while a lock is waited for.
    is_home: bool,
    /// Which case this is, for who reads that it failed.
    case: &'static str,
}

impl<W: BackendWorld> Table<W> {
    pub(super) fn new(mut world: W, case: &'static str) -> Self {
        let (payer, payee) = (
            Process::start(&mut world, Role::Payer),
            Process::start(&mut world, Role::Payee),
        );
        let (offer, funds) = (world.offer(), world.spendable(Role::Payer));
        assert_eq!(world.spendable(Role::Payee), Msat::ZERO, "{case}");
        Self {
            world,
            payer,
            payee,
            step: offer.tick,
            offer,
            ticks: 0,
            credited: Msat::ZERO,
            funds,
            is_home: true,
            case,
        }
    }

    pub(super) fn opened(world: W, case: &'static str) -> Self {
        let mut table = Self::new(world, case);
        table.open();
        table
    }

    pub(super) const fn set(&mut self, calls: Calls, crash: Option<u32>) {
        (self.payer.calls, self.payee.calls) = (calls, calls);
        (self.payer.crash, self.payee.crash) = (Crash(crash), Crash(crash));
    }

    fn times(&self, count: u64) -> Msat {
        self.step.times(count).unwrap_or(Msat::MAX)
    }

    pub(super) fn open_request(&self, budget: Msat) -> Request {
        Request::Open {
            offer: self.offer.clone(),
            capacity: self.offer.tick.times(TICKS).unwrap_or(Msat::MAX),
            budget,
        }
    }

    /// The payer's part; what it opened is checked.
    pub(super) fn offered(&mut self, budget: Msat) -> Opened {
        let request = self.open_request(budget);
        let outcome = self.payer.ask(&mut self.world, &request);
        let Some(Outcome::Opened(opened)) = outcome else {
            self.fail("Open", &outcome)
        };
        self.step = self
            .offer
            .tick
            .round_up_to(opened.quantum)
            .unwrap_or(Msat::MAX);
        let step = self.step.msat().max(1);
        self.ticks = opened.capacity.msat().checked_div(step).unwrap_or(0);
        let case = self.case;
        assert!(
            self.ticks >= 1,
            "{case}: a purse without a tick: {opened:?}"
        );
        assert!(self.ticks <= TICKS, "{case}: more than was asked");
        assert!(opened.cost <= budget, "{case}: beyond the budget");
        opened
    }

    pub(super) fn accept_request(&self, opening: Bytes) -> Request {
        Request::Accept {
            offer: self.offer.clone(),
            opening,
        }
    }

    /// What a purse of ten ticks may cost at most.
    pub(super) fn budget(&self) -> Msat {
        self.funds
    }

    fn open(&mut self) {
        let opened = self.offered(self.budget());
        let request = self.accept_request(opened.opening);
        let outcome = self.payee.ask(&mut self.world, &request);
        let Some(Outcome::Accepted { capacity, quantum }) = outcome else {
            self.fail("Accept", &outcome)
        };
        let case = self.case;
        assert_eq!(quantum, opened.quantum, "{case}: both sides round alike");
        assert_eq!(capacity, opened.capacity, "{case}: both sides know it");
    }

    pub(super) fn pay_request(&self, seq: u64, step: u64) -> Request {
        Request::Pay {
            seq: Seq(seq),
            amount: self.step,
            cumulative: self.times(step),
        }
    }

    /// The payment of tick `seq`, which is the purse's `step`-th that counts.
    pub(super) fn paid(&mut self, seq: u64, step: u64) -> Bytes {
        let outcome = {
            let request = self.pay_request(seq, step);
            self.payer.ask(&mut self.world, &request)
        };
        match outcome {
            Some(Outcome::Paid { payload }) => payload,
            other => self.fail("Pay", &other),
        }
    }

    pub(super) fn received(&mut self, seq: u64, step: u64, payload: &Bytes) -> Option<Outcome> {
        let request = Request::Receive {
            seq: Seq(seq),
            amount: self.step,
            cumulative: self.times(step),
            payload: payload.clone(),
        };
        self.payee.ask(&mut self.world, &request)
    }

    /// As [`Table::received`], of twice the amount that it is.
    pub(super) fn received_as_two(&mut self, payload: &Bytes) -> Option<Outcome> {
        let request = Request::Receive {
            seq: Seq(1),
            amount: self.times(2),
            cumulative: self.times(2),
            payload: payload.clone(),
        };
        self.payee.ask(&mut self.world, &request)
    }

    pub(super) fn credited(&mut self, seq: u64, step: u64, payload: &Bytes) {
        let outcome = self.received(seq, step, payload);
        if outcome != Some(Outcome::Credited) {
            self.fail("Receive", &outcome);
        }
        self.credited = self.times(step);
    }

    pub(super) fn acked(&mut self, seq: u64) {
        let request = Request::Acked {
            seq: Seq(seq),
            cumulative: self.credited,
        };
        let outcome = self.payer.ask(&mut self.world, &request);
        assert_eq!(outcome, None, "{}: an ack has no outcome", self.case);
    }

    pub(super) fn reclaim(&mut self, seq: u64) -> Option<Outcome> {
        let request = Request::Reclaim { seq: Seq(seq) };
        self.payer.ask(&mut self.world, &request)
    }

    pub(super) fn tick(&mut self, seq: u64) {
        let payload = self.paid(seq, seq);
        self.credited(seq, seq, &payload);
        self.acked(seq);
    }

    /// The payee's end.
    pub(super) fn settle(&mut self) -> Msat {
        let request = Request::Settle {
            cumulative: self.credited,
        };
        match self.payee.ask(&mut self.world, &request) {
            Some(Outcome::Settled { settled }) => settled,
            other => self.fail("Settle", &other),
        }
    }

    /// Carries notes over, the payee's first, until none is left.
    pub(super) fn show_notes(&mut self) -> Option<Outcome> {
        let mut outcome = None;
        for _ in 0..4 {
            // A later note takes the place of one before.
            let to_payer = self.payee.notes.drain(..).next_back();
            let to_payee = self.payer.notes.drain(..).next_back();
            if let Some(bytes) = to_payer {
                let found = self.payer.ask(&mut self.world, &Request::Note { bytes });
                outcome = found.or(outcome);
            }
            if let Some(bytes) = to_payee {
                self.payee.ask(&mut self.world, &Request::Note { bytes });
            }
        }
        outcome
    }

    /// The payer's end: at once, after a note, or when a lock has run out.
    pub(super) fn release(&mut self) -> Option<Msat> {
        let asked = self.payer.ask(&mut self.world, &Request::Release);
        let noted = self.show_notes();
        let outcome = asked.or(noted);
        let outcome = outcome.or_else(|| self.payer.wake(&mut self.world));
        match outcome {
            Some(Outcome::Released { refunded }) => Some(refunded),
            None => None,
            other => self.fail("Release", &other),
        }
    }

    /// Both sides end, the payee first or last, and all money is where it belongs.
    pub(super) fn ends_after(&mut self, ticks: u64, payee_first: bool) {
        let early = (!payee_first).then(|| self.payer.ask(&mut self.world, &Request::Release));
        let settled = self.settle();
        let noted = self.show_notes();
        let refunded = match early.flatten().or(noted) {
            Some(Outcome::Released { refunded }) => Some(refunded),
            _ => self.release(),
        };
        let Some(refunded) = refunded else {
            self.fail("Release", &None)
        };
        let fees = self.world.fees_max();
        let due = self.times(ticks);
        let rest = self.times(self.ticks.saturating_sub(ticks));
        let case = self.case;
        assert!(settled <= due, "{case}: settled {settled} of {due}");
        assert!(
            settled.saturating_plus(fees) >= due,
            "{case}: {settled} of {due}"
        );
        assert!(
            refunded.saturating_plus(fees) >= rest,
            "{case}: {refunded} of {rest} back"
        );
        self.is_conserved(ticks);
        self.stays_so(settled, refunded);
        self.is_conserved(ticks);
    }

    /// Asked again, also of a process that forgot and of one that began anew, the same is said.
    fn stays_so(&mut self, settled: Msat, refunded: Msat) {
        for again in 0..3 {
            match again {
                1 => {
                    self.payer.forget_and_restore(&mut self.world);
                    self.payee.forget_and_restore(&mut self.world);
                }
                2 => {
                    self.payer.restart(&mut self.world);
                    self.payee.restart(&mut self.world);
                }
                _ => {}
            }
            assert_eq!(self.settle(), settled, "{}: settled again", self.case);
            assert_eq!(self.release(), Some(refunded), "{}: again", self.case);
        }
    }

    /// The payee has `ticks`, the payer the rest, and what is missing is fees.
    pub(super) fn is_conserved(&mut self, ticks: u64) {
        let (case, fees) = (self.case, self.world.fees_max());
        let left = self.world.spendable(Role::Payer);
        let earned = self.world.spendable(Role::Payee);
        let due = self.times(ticks);
        let all = left.saturating_plus(earned);
        assert!(earned <= due, "{case}: {earned} earned by {due}");
        assert!(
            earned.saturating_plus(fees) >= due,
            "{case}: {earned} earned by {due}"
        );
        assert!(all <= self.funds, "{case}: money from nowhere: {all}");
        let whole = all.saturating_plus(fees);
        assert!(
            whole >= self.funds,
            "{case}: {left} and {earned} of {}",
            self.funds
        );
    }

    /// The payee never says anything: the payer has it all back by itself when a lock has run out,
    /// if time can be had.
    pub(super) fn comes_home_in_time(&mut self) {
        self.is_home = self.release().is_some();
        if !self.is_home {
            let later = self.world.now().unix.after_s(LATER_S);
            let can_wait = self.world.pass(later);
            let case = self.case;
            assert!(
                !can_wait,
                "{case}: nobody takes it back when its time is over"
            );
        }
    }

    /// All of it is back, where it could come back.
    pub(super) fn is_untouched(&mut self) {
        if self.is_home {
            self.is_conserved(0);
        }
    }

    #[expect(clippy::panic, reason = "a suite says what failed")]
    pub(super) fn fail(&self, asked: &str, outcome: &Option<Outcome>) -> ! {
        panic!("{}: {asked} ended in {outcome:?} ({PURSE:?})", self.case)
    }
}
