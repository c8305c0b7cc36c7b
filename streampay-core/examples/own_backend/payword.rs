//! The machine of both sides.

use std::collections::BTreeMap;

use bytes::Bytes;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Outcome, PurseOffer,
    RefusalCode, Request, RestoredPurse,
};
use streampay_core::session::{Entropy, TaggedHash};
use streampay_core::units::{EffectId, Msat, Now, PurseKey, RequestId, Seq, Unix};

use super::bank::{Call, Escrow, before};
use super::purse::{Asked, Phase, Purse, quantum};

/// How long a purse lasts, in seconds. Chosen arbitrarily.
const LIFE_S: u64 = 3_600;
/// When to ask a bank again that was away, in seconds.
const AGAIN_S: u64 = 30;
/// The most ticks of a purse: so many hashes a stranger may make us compute.
const COUNT_MAX: u64 = 10_000;
/// The only record of a purse.
const KEY: &[u8] = b"purse";

/// The method `payword`.
#[derive(Debug)]
pub(crate) struct PayWord {
    /// What the words of all purses come from. It must be the same after a restart.
    secret: Entropy,
    purses: BTreeMap<PurseKey, Purse>,
}

impl PayWord {
    /// The method's name.
    pub(crate) const METHOD: &'static str = "payword";

    /// A machine with nothing restored. `secret` is random and kept as well as the wallet; a payee
    /// needs none and may give anything.
    pub(crate) const fn new(secret: Entropy) -> Self {
        Self {
            secret,
            purses: BTreeMap::new(),
        }
    }

    /// The last word of a purse: nobody else can know it.
    fn last_word(&self, key: PurseKey) -> [u8; 32] {
        let hash = TaggedHash::new("payword/seed").bytes32(&self.secret.0);
        let hash = hash.bytes32(&key.session.0).u64(key.purse.0.into());
        hash.finish().0
    }

    fn open(&mut self, now: Now, key: PurseKey, offer: &PurseOffer, most: Msat) -> Answer {
        if let Some(purse) = self.purses.get_mut(&key) {
            purse.asked = Some(Asked::Open);
            return match purse.phase {
                Phase::Planned => call(key, Call::Deposit(purse.escrow)),
                Phase::Open => Answer::outcome(purse.opened()),
                Phase::Ending | Phase::Over => failed(RefusalCode::OutOfOrder),
            };
        }
        // The bank knows whole satoshi.
        let step = offer.tick.round_up_to(quantum()).unwrap_or(Msat::MAX);
        let count = most.msat().checked_div(step.msat()).unwrap_or_default();
        let count = count.min(COUNT_MAX);
        if count == 0 {
            return failed(RefusalCode::OverBudget);
        }
        let escrow = Escrow {
            root: before(&self.last_word(key), count),
            step: step.msat(),
            count,
            until: now.unix.after_s(LIFE_S).0,
        };
        let mut purse = Purse::new(escrow, Phase::Planned);
        (purse.is_payer, purse.asked) = (true, Some(Asked::Open));
        self.keep(key, purse, Call::Deposit(escrow))
    }

    /// Payer: the word of a tick. It is a function of what the record has, so that the same tick
    /// has the same word after any restart.
    fn pay(&self, now: Now, key: PurseKey, cumulative: Msat) -> Answer {
        let Some(purse) = self.purses.get(&key).filter(|p| p.phase == Phase::Open) else {
            return failed(RefusalCode::OutOfOrder);
        };
        if purse.is_late(now) {
            return failed(RefusalCode::TooLate);
        }
        let Some(ticks) = purse.ticks_of(cumulative) else {
            return failed(RefusalCode::WrongAmount);
        };
        match purse.escrow.count.checked_sub(ticks) {
            Some(left) => {
                let word = before(&self.last_word(key), left);
                let payload = Bytes::copy_from_slice(&word);
                Answer::outcome(Outcome::Paid { payload })
            }
            None => failed(RefusalCode::PurseEmpty),
        }
    }

    fn release(&mut self, key: PurseKey) -> Answer {
        let Some(mut purse) = self.purses.get(&key).copied() else {
            return Answer::outcome(Outcome::Released {
                refunded: Msat::ZERO,
            });
        };
        purse.asked = Some(Asked::Release);
        if purse.phase == Phase::Over {
            return Answer::outcome(purse.ended());
        }
        // Also of a deposit that is under way: the bank lets nothing in after this.
        purse.phase = Phase::Ending;
        self.keep(key, purse, Call::Refund)
    }

    fn accept(&mut self, now: Now, key: PurseKey, offer: &PurseOffer, opening: &[u8]) -> Answer {
        let Some(escrow) = Escrow::from_bytes(opening) else {
            return rejected(RefusalCode::Malformed);
        };
        let step = offer.tick.round_up_to(quantum()).unwrap_or(Msat::MAX);
        let purse = Purse::new(escrow, Phase::Planned);
        if escrow.step != step.msat() || escrow.worth(escrow.count).is_none() {
            return rejected(RefusalCode::WrongAmount);
        }
        if !(1..=COUNT_MAX).contains(&escrow.count) {
            return rejected(RefusalCode::WrongAmount);
        }
        if purse.is_late(now) {
            return rejected(RefusalCode::TooLate);
        }
        match self.purses.get(&key).copied() {
            Some(known) if known.escrow == escrow && known.phase == Phase::Open => {
                Answer::outcome(known.accepted())
            }
            Some(known) if known.phase != Phase::Planned => rejected(RefusalCode::OutOfOrder),
            _ => {
                let asked = Some(Asked::Accept);
                self.keep(key, Purse { asked, ..purse }, Call::Look(escrow))
            }
        }
    }

    fn receive(
        &mut self,
        now: Now,
        key: PurseKey,
        tick: (Seq, Msat, Msat),
        payload: &[u8],
    ) -> Answer {
        let (seq, amount, cumulative) = tick;
        let Some(purse) = self.purses.get_mut(&key) else {
            return rejected(RefusalCode::OutOfOrder);
        };
        let Ok(word) = <[u8; 32]>::try_from(payload) else {
            return rejected(RefusalCode::Malformed);
        };
        let Some(ticks) = purse.ticks_of(cumulative) else {
            return rejected(RefusalCode::WrongAmount);
        };
        if seq.0 <= purse.seq {
            // A tick that was answered: its very word again, or it is none.
            let known = purse.ticks.checked_sub(ticks);
            let is_same = known.is_some_and(|steps| before(&purse.word, steps) == word);
            return match is_same && (seq.0 < purse.seq || ticks == purse.ticks) {
                true => Answer::outcome(Outcome::Credited),
                false => rejected(RefusalCode::OutOfOrder),
            };
        }
        if purse.phase != Phase::Open || purse.is_late(now) {
            return rejected(RefusalCode::TooLate);
        }
        let credited = purse.escrow.worth(purse.ticks);
        let due = credited.and_then(|credited| credited.plus(amount).ok());
        let grown = ticks.checked_sub(purse.ticks).filter(|grown| *grown > 0);
        let Some(grown) = grown.filter(|_| due == Some(cumulative) && ticks <= purse.escrow.count)
        else {
            return rejected(RefusalCode::WrongAmount);
        };
        // Nobody else can know what hashes to the word before.
        if before(&word, grown) != purse.word {
            return rejected(RefusalCode::BadProof);
        }
        (purse.ticks, purse.word, purse.seq) = (ticks, word, seq.0);
        let mut answer = Answer::outcome(Outcome::Credited);
        answer.delta.put(KEY, purse.to_bytes());
        answer
    }

    /// Payee: what was credited becomes its own, asked for or because the time is nearly over.
    fn settle(&mut self, key: PurseKey, asked: Option<Asked>) -> Answer {
        let Some(mut purse) = self.purses.get(&key).copied() else {
            return Answer::outcome(Outcome::Settled {
                settled: Msat::ZERO,
            });
        };
        purse.asked = asked.or(purse.asked);
        if purse.phase == Phase::Over {
            return Answer::outcome(purse.ended());
        }
        purse.phase = Phase::Ending;
        self.keep(key, purse, purse.redeem())
    }

    /// Durable first, then the call.
    fn keep(&mut self, key: PurseKey, purse: Purse, next: Call) -> Answer {
        self.purses.insert(key, purse);
        let mut answer = call(key, next);
        answer.delta.put(KEY, purse.to_bytes());
        answer
    }

    /// A call that came to its end.
    fn done(&mut self, key: PurseKey, mut purse: Purse, of: Call, msat: u64) -> Answer {
        let mut answer = Answer::default();
        match (of, purse.phase) {
            (Call::Deposit(escrow), Phase::Planned) if escrow == purse.escrow => {
                purse.phase = Phase::Open;
                answer.outcome = purse.take(Asked::Open).then(|| purse.opened());
            }
            (Call::Look(escrow), Phase::Planned) if escrow == purse.escrow => {
                purse.phase = Phase::Open;
                answer.outcome = purse.take(Asked::Accept).then(|| purse.accepted());
            }
            (Call::Redeem { .. }, Phase::Ending) => {
                (purse.phase, purse.result) = (Phase::Over, Msat::new(msat).unwrap_or_default());
                answer.outcome = purse.take(Asked::Settle).then(|| purse.ended());
                // The payer need not wait for the end of the purse's time: its rest is back.
                answer.note = Some(Bytes::from_static(b"over"));
            }
            (Call::Refund, Phase::Ending) => {
                (purse.phase, purse.result) = (Phase::Over, Msat::new(msat).unwrap_or_default());
                answer.outcome = purse.take(Asked::Release).then(|| purse.ended());
            }
            // Told before, or overtaken by what came after.
            _ => return answer,
        }
        answer.delta.put(KEY, purse.to_bytes());
        self.purses.insert(key, purse);
        answer
    }

    fn went_wrong(&mut self, now: Now, key: PurseKey, of: Call, error: BackendError) -> Answer {
        let Some(purse) = self.purses.get_mut(&key) else {
            return Answer::default();
        };
        purse.again = now.unix.after_s(AGAIN_S).0;
        let for_good = matches!(error, BackendError::Fatal(_) | BackendError::Rejected(..));
        let asked = match (of, purse.phase) {
            (Call::Deposit(_), Phase::Planned) => Asked::Open,
            (Call::Look(_), Phase::Planned) => Asked::Accept,
            (Call::Redeem { .. }, Phase::Ending) => Asked::Settle,
            // Still locked: at the end of its time, or when the payee's note says so.
            (Call::Refund, Phase::Ending) if for_good => return Answer::default(),
            (Call::Refund, Phase::Ending) => Asked::Release,
            _ => return Answer::default(),
        };
        if !purse.take(asked) {
            return Answer::default();
        }
        let mut answer = Answer::failed(error);
        if for_good && matches!(asked, Asked::Open | Asked::Accept) {
            // Nothing was set aside: the purse is none.
            self.purses.remove(&key);
            answer.delta.remove(KEY);
            if asked == Asked::Accept {
                answer.outcome = rejected(RefusalCode::BadProof).outcome;
            }
        }
        answer
    }
}

impl BackendMachine for PayWord {
    fn method(&self) -> &'static str {
        Self::METHOD
    }

    fn request(&mut self, now: Now, purse: PurseKey, _: RequestId, request: Request) -> Answer {
        match request {
            Request::Open {
                offer,
                capacity,
                budget,
            } => self.open(now, purse, &offer, capacity.min(budget)),
            Request::Pay { cumulative, .. } => self.pay(now, purse, cumulative),
            // The payee may know the word. The next tick of the same sum is the same word, so that
            // nothing is paid twice; what the payee took after all, the bank says at the end.
            Request::Reclaim { .. } => Answer::outcome(Outcome::Outstanding),
            Request::Release => self.release(purse),
            Request::Note { .. } => match self.purses.get(&purse) {
                // A hint: the bank is asked.
                Some(known) if known.is_payer && known.phase == Phase::Ending => {
                    call(purse, Call::Refund)
                }
                _ => Answer::default(),
            },
            Request::Accept { offer, opening } => self.accept(now, purse, &offer, &opening),
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => self.receive(now, purse, (seq, amount, cumulative), &payload),
            Request::Settle { .. } => self.settle(purse, Some(Asked::Settle)),
            // `Acked`: nothing to note. What comes later has no outcome from us.
            _ => Answer::default(),
        }
    }

    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        let key = result.purse;
        let Some(purse) = self.purses.get(&key).copied() else {
            return Answer::default();
        };
        let Some(of) = purse.call_of(result.id) else {
            return Answer::default();
        };
        match result.result {
            Ok(bytes) => {
                let msat = bytes.as_ref().try_into().map(u64::from_be_bytes);
                self.done(key, purse, of, msat.unwrap_or_default())
            }
            Err(error) => self.went_wrong(now, key, of, error),
        }
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, _: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        let found = records.iter().find(|(key, _)| key == KEY);
        let Some(known) = found.and_then(|(_, bytes)| Purse::from_bytes(bytes)) else {
            return Answer::default();
        };
        self.purses.insert(purse, known);
        match known.next_call() {
            Some(next) => call(purse, next),
            None => Answer::default(),
        }
    }

    fn wake_at(&self, purse: PurseKey) -> Option<Unix> {
        let purse = self.purses.get(&purse)?;
        let due = match (purse.is_payer, purse.phase) {
            (true, Phase::Ending) => purse.escrow.until,
            (false, Phase::Open | Phase::Ending) => purse.usable_until().0,
            _ => return None,
        };
        Some(Unix(due.max(purse.again)))
    }

    fn wake(&mut self, now: Now, key: PurseKey) -> Answer {
        let Some(purse) = self.purses.get_mut(&key) else {
            return Answer::default();
        };
        purse.again = now.unix.after_s(AGAIN_S).0;
        match purse.is_payer {
            true => call(key, Call::Refund),
            false => self.settle(key, None),
        }
    }

    fn forget(&mut self, purse: PurseKey) {
        self.purses.remove(&purse);
    }
}

fn call(purse: PurseKey, call: Call) -> Answer {
    let body = call.to_bytes();
    let id = EffectId(body.first().copied().unwrap_or_default().into());
    Answer {
        effects: vec![Effect { purse, id, body }],
        ..Answer::default()
    }
}

fn failed(code: RefusalCode) -> Answer {
    Answer::failed(BackendError::Fatal(code))
}

fn rejected(code: RefusalCode) -> Answer {
    Answer::failed(BackendError::Rejected(code, Consumed::No))
}
