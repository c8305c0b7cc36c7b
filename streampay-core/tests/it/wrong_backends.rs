//! A good machine with one thing wrong: the suite must say so, by the case that is about it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Effect, EffectResult, Outcome, PurseOffer, RefusalCode,
    Request, RestoredPurse,
};
use streampay_core::session::Role;
use streampay_core::sim::{BackendWorld, check_backend};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, PurseKey, RequestId, Unix};

use crate::own_backend::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Nothing: the suite passes.
    Nothing,
    /// Its name is too long for the store.
    Name,
    /// Every tick is good.
    CreditsAnything,
    /// A tick is good as often as it is shown, whichever number it has.
    CreditsAgain,
    /// Nothing becomes durable.
    ForgetsItsRecords,
    /// A payment is made anew when it is asked for again.
    PaysOtherBytes,
    /// What is left stays where it is.
    BringsNothingHome,
    /// It opens more than the budget.
    IgnoresItsBudget,
    /// An answer that is lost is a failure.
    TakesUnknownForFailed,
    /// A mint that is away is a failure.
    TakesAwayForFailed,
    /// The end of a call that is told again is an outcome again.
    SpeaksTwice,
    /// Locks run out and nobody minds.
    NeverWakes,
    /// Openings are believed.
    AcceptsAnything,
    /// A purse that was called off opens all the same.
    OpensAfterRelease,
    /// An ack has an outcome.
    AnswersAcks,
    /// An ack of a purse that it does not know is a failure.
    AnswersUnknownAcks,
    /// An ack takes the place of what is waited for.
    AckForgetsRelease,
    /// The payee names another capacity.
    OtherCapacity,
    /// What was settled is said once.
    SettlesOnce,
}

/// What becomes of the outcome of a release.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forgets {
    Nothing,
    IfAcked,
    Next,
}

struct Machine {
    inner: Box<dyn BackendMachine>,
    wrong: Wrong,
    asked: u8,
    forgets: Forgets,
    last_end: Option<Outcome>,
    settled: bool,
}

impl Machine {
    fn changed(&mut self, request: &Request, mut answer: Answer) -> Answer {
        let ends = &mut answer.outcome;
        self.asked = self.asked.wrapping_add(1);
        match (self.wrong, request) {
            (Wrong::CreditsAnything, Request::Receive { .. }) => *ends = Some(Outcome::Credited),
            (Wrong::CreditsAgain, Request::Receive { payload, .. }) if payload.len() == 32 => {
                *ends = Some(Outcome::Credited);
            }
            (Wrong::PaysOtherBytes, Request::Pay { .. }) => {
                if let Some(Outcome::Paid { payload }) = ends {
                    *payload = [&payload[..], &[self.asked]].concat().into();
                }
            }
            (Wrong::BringsNothingHome, Request::Release) => {
                let refunded = Msat::ZERO;
                answer = Answer::outcome(Outcome::Released { refunded });
            }
            (Wrong::AcceptsAnything, Request::Accept { .. }) if ends.is_some() => {
                let (capacity, quantum) = (sat(30), sat(1));
                *ends = Some(Outcome::Accepted { capacity, quantum });
            }
            (Wrong::AnswersAcks, Request::Acked { .. }) => *ends = Some(Outcome::Reclaimed),
            (Wrong::AnswersUnknownAcks, Request::Acked { .. }) if self.asked == 1 => {
                *ends = Some(Outcome::Failed(BackendError::Fatal(
                    RefusalCode::OutOfOrder,
                )));
            }
            (Wrong::AckForgetsRelease, Request::Release) => self.forgets = Forgets::IfAcked,
            (Wrong::AckForgetsRelease, Request::Acked { .. })
                if self.forgets == Forgets::IfAcked =>
            {
                self.forgets = Forgets::Next;
            }
            (Wrong::SettlesOnce, Request::Settle { .. }) => {
                if let (true, Some(Outcome::Settled { settled })) = (self.settled, ends) {
                    *settled = Msat::ZERO;
                }
                self.settled = true;
            }
            _ => {}
        }
        self.said(answer)
    }

    fn said(&self, mut answer: Answer) -> Answer {
        if self.wrong == Wrong::ForgetsItsRecords {
            answer.delta = ChangeSet::new();
        }
        if let (Wrong::OtherCapacity, Some(Outcome::Accepted { capacity, .. })) =
            (self.wrong, &mut answer.outcome)
        {
            *capacity = Msat::ZERO;
        }
        answer
    }
}

impl BackendMachine for Machine {
    fn method(&self) -> &'static str {
        match self.wrong {
            Wrong::Name => "a name that is far too long",
            _ => self.inner.method(),
        }
    }

    fn request(&mut self, now: Now, key: PurseKey, id: RequestId, mut request: Request) -> Answer {
        match (self.wrong, &mut request) {
            (Wrong::IgnoresItsBudget, Request::Open { budget, .. }) => *budget = Msat::MAX,
            (Wrong::OpensAfterRelease, Request::Release) if self.last_end.is_none() => {
                return Answer::default();
            }
            _ => {}
        }
        let answer = self.inner.request(now, key, id, request.clone());
        self.changed(&request, answer)
    }

    fn effect_done(&mut self, now: Now, mut result: EffectResult) -> Answer {
        let fatal = Err(BackendError::Fatal(RefusalCode::Other));
        match (self.wrong, &result.result) {
            (Wrong::TakesUnknownForFailed, Err(BackendError::Unknown))
            | (Wrong::TakesAwayForFailed, Err(BackendError::Transient)) => result.result = fatal,
            _ => {}
        }
        let mut answer = self.inner.effect_done(now, result);
        if self.forgets == Forgets::Next && answer.outcome.is_some() {
            (answer.outcome, self.forgets) = (None, Forgets::Nothing);
        }
        if self.wrong == Wrong::SpeaksTwice && answer.outcome.is_none() {
            answer.outcome = self.last_end.clone();
        }
        self.last_end = answer.outcome.clone().or_else(|| self.last_end.take());
        self.said(answer)
    }

    fn restore_node(&mut self, records: RestoredPurse) {
        self.inner.restore_node(records);
    }

    fn restore(&mut self, now: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        let answer = self.inner.restore(now, purse, records);
        self.said(answer)
    }

    fn wake_at(&self, purse: PurseKey) -> Option<Unix> {
        (self.wrong != Wrong::NeverWakes).then(|| self.inner.wake_at(purse))?
    }

    fn wake(&mut self, now: Now, purse: PurseKey) -> Answer {
        let answer = self.inner.wake(now, purse);
        self.said(answer)
    }

    fn forget(&mut self, purse: PurseKey) {
        self.inner.forget(purse);
    }
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

struct WrongWorld(World, Wrong);

impl BackendWorld for WrongWorld {
    fn machine(&mut self, role: Role) -> Box<dyn BackendMachine> {
        Box::new(Machine {
            inner: self.0.machine(role),
            wrong: self.1,
            asked: 0,
            forgets: Forgets::Nothing,
            last_end: None,
            settled: false,
        })
    }

    fn offer(&self) -> PurseOffer {
        self.0.offer()
    }

    fn run(&mut self, role: Role, effect: Effect) -> EffectResult {
        self.0.run(role, effect)
    }

    fn spendable(&mut self, role: Role) -> Msat {
        self.0.spendable(role)
    }

    fn now(&mut self) -> Now {
        self.0.now()
    }

    fn pass(&mut self, until: Unix) -> bool {
        self.0.pass(until)
    }
}

/// What the suite says about it; none where it passes.
fn verdict(wrong: Wrong) -> Option<String> {
    let run = || check_backend(|| WrongWorld(World::new(), wrong));
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
}

#[test]
fn each_wrong_backend_is_found_by_the_case_about_it() {
    assert_eq!(verdict(Wrong::Nothing), None);
    let cases = [
        (Wrong::Name, "1 to 16 bytes"),
        (Wrong::CreditsAnything, "the first tick as the second"),
        (Wrong::CreditsAgain, "the first tick as the second"),
        (Wrong::ForgetsItsRecords, "again"),
        (Wrong::PaysOtherBytes, ""),
        (Wrong::BringsNothingHome, "back"),
        (Wrong::IgnoresItsBudget, "Open"),
        (Wrong::TakesUnknownForFailed, "answers that are lost"),
        (Wrong::TakesAwayForFailed, "calls that reach nobody"),
        (Wrong::SpeaksTwice, ""),
        (Wrong::NeverWakes, "when its time is over"),
        (Wrong::AcceptsAnything, "a false opening"),
        (Wrong::OpensAfterRelease, ""),
        (Wrong::AnswersAcks, "an ack has no outcome"),
        (Wrong::AnswersUnknownAcks, "an ack has no outcome"),
        (Wrong::AckForgetsRelease, "Release ended otherwise"),
        (Wrong::OtherCapacity, "both sides know it"),
        (Wrong::SettlesOnce, "settled again"),
    ];
    let mut not_found = Vec::new();
    for (wrong, word) in cases {
        match verdict(wrong) {
            Some(said) if said.contains(word) => {}
            other => not_found.push((wrong, other)),
        }
    }
    assert!(not_found.is_empty(), "{not_found:#?}");
}
