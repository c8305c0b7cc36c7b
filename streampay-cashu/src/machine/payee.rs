//! A payee's purse: tokens that are swapped one by one.

mod denied;

use std::collections::{BTreeMap, BTreeSet};

use streampay_core::backend::{
    Answer, BackendError, Consumed, Effect, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, PurseKey, Seq};

use super::doubt::Doubt;
use super::record::{self, Denied, Meta, PayeeMeta, Ready, Receipt};
use super::{OUT_OF_ORDER, Running, SwapMachine, TOKENS_MAX, msat, whole_sat};
use crate::job::{Done, Job, Place, SwapIn};
use crate::pace::Pace;
use crate::params::SwapParams;
use crate::wire::{Expected, Opening, Payload, check_amount};

const KEYSETS: u64 = 1;
const RECEIVED: u64 = 2;
/// Swapping tick n is effect `SWAP + 2n`, learning its keyset the one after.
const SWAP: u64 = 256;

pub(crate) struct PayeePurse {
    key: PurseKey,
    meta: PayeeMeta,
    receipts: BTreeMap<u64, Receipt>,
    /// Payments of which the mint says that somebody else has spent them.
    denied: BTreeMap<u64, Denied>,
    running: Running,
    /// Swaps that were made anew for another keyset, or are denied, by their effect: when they may be asked
    /// for again.
    anew: BTreeMap<u64, Pace>,
    /// Ticks whose `Receive` was asked after the last `Settle`: their swap ends in their outcome.
    asked: BTreeSet<u64>,
}

impl PayeePurse {
    pub(crate) fn accept(
        key: PurseKey,
        offer: &PurseOffer,
        opening: &[u8],
    ) -> Result<(Self, Answer), BackendError> {
        let own = |code| BackendError::Fatal(code);
        let params = SwapParams::decode(&offer.params).map_err(|_| own(RefusalCode::Malformed))?;
        let tick = whole_sat(offer.tick).ok_or_else(|| own(RefusalCode::WrongAmount))?;
        let opening = Opening::decode(key, opening).map_err(refused)?;
        let mut at_mint = params
            .mints()
            .iter()
            .filter(|mint| mint.url() == opening.mint)
            .peekable();
        if at_mint.peek().is_none() {
            return Err(refused(RefusalCode::WrongMint));
        }
        let Some(mint) = at_mint.find(|mint| mint.unit() == opening.unit) else {
            return Err(refused(RefusalCode::WrongUnit));
        };
        if opening.count > mint.ticks_max(tick) {
            return Err(refused(RefusalCode::WrongAmount));
        }
        let mut purse = Self {
            key,
            meta: PayeeMeta {
                tick,
                net: mint.price_of(tick),
                place: Place::new(key, &opening.mint, &opening.unit),
                count: opening.count,
                ready: None,
                settling: false,
            },
            receipts: BTreeMap::new(),
            denied: BTreeMap::new(),
            running: Running::default(),
            anew: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        let mut answer = Answer::default();
        purse.put_meta(&mut answer.delta);
        answer.effects = purse.ask_keysets(KEYSETS, false);
        Ok((purse, answer))
    }

    pub(crate) fn restore(
        now: Now,
        key: PurseKey,
        meta: PayeeMeta,
        (receipts, denied): (BTreeMap<u64, Receipt>, BTreeMap<u64, Denied>),
    ) -> (Self, Answer) {
        let mut purse = Self {
            key,
            meta,
            receipts,
            denied,
            running: Running::default(),
            anew: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        let mut effects = Vec::new();
        if purse.meta.ready.is_none() {
            effects.extend(purse.ask_keysets(KEYSETS, false));
        }
        let pending: Vec<u64> = purse.pending().collect();
        for receipt in purse.receipts.values_mut().filter(|of| !of.credited) {
            // Its swap was under way.
            receipt.doubt.get_or_insert(Doubt::Lost);
        }
        for seq in &pending {
            effects.extend(purse.swap(*seq, true));
        }
        if purse.meta.settling && pending.is_empty() {
            let last = purse.ask_denied(now);
            effects.extend(last.unwrap_or_else(|| purse.ask_received()));
        }
        let answer = Answer {
            effects,
            ..Answer::default()
        };
        (purse, answer)
    }

    pub(crate) fn request(&mut self, now: Now, request: Request) -> Answer {
        match request {
            Request::Accept { offer, opening } => self.accept_again(&offer, &opening),
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => self.receive(now, seq, (amount, cumulative), &payload),
            Request::Settle { .. } => self.settle(now),
            // Whatever a payer says to a note, it ends nothing: no note here asks for an answer.
            Request::Note { .. } => Answer::default(),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }

    fn accept_again(&mut self, offer: &PurseOffer, opening: &[u8]) -> Answer {
        let same = match Self::accept(self.key, offer, opening) {
            Ok((purse, _)) => {
                let (old, new) = (&self.meta, &purse.meta);
                (old.tick, old.net, &old.place, old.count)
                    == (new.tick, new.net, &new.place, new.count)
            }
            Err(error) => return Answer::failed(error),
        };
        if !same {
            return Answer::failed(refused(RefusalCode::OutOfOrder));
        }
        match self.meta.ready {
            Some(_) => self.accepted(),
            None => Answer {
                effects: self.ask_keysets(KEYSETS, false),
                ..Answer::default()
            },
        }
    }

    fn accepted(&self) -> Answer {
        Answer::outcome(Outcome::Accepted {
            capacity: msat(self.meta.tick.saturating_mul(self.meta.count)),
            quantum: SwapMachine::QUANTUM,
        })
    }

    fn receive(
        &mut self,
        now: Now,
        seq: Seq,
        (amount, cumulative): (Msat, Msat),
        payload: &[u8],
    ) -> Answer {
        if seq.0 == 0 || seq.0 > self.meta.count {
            return Answer::failed(refused(RefusalCode::PurseEmpty));
        }
        let digest = digest(payload);
        self.asked.insert(seq.0);
        if let Some(receipt) = self.receipts.get(&seq.0) {
            if *receipt.payload != digest {
                return Answer::failed(refused(RefusalCode::OutOfOrder));
            }
            if receipt.credited {
                return Answer::outcome(Outcome::Credited);
            }
            if self.is_put_off(now, swap_id(seq.0)) {
                return Answer::failed(BackendError::Transient);
            }
            return Answer {
                effects: self.swap(seq.0, true),
                ..Answer::default()
            };
        }
        let Some(ready) = &self.meta.ready else {
            return Answer::failed(OUT_OF_ORDER);
        };
        let tick = msat(self.meta.tick);
        // Fewer ticks than numbers, where some were refused and taken back.
        let whole = cumulative.round_up_to(tick) == Ok(cumulative) && !cumulative.is_zero();
        let in_turn = whole && tick.times(seq.0).is_ok_and(|most| cumulative <= most);
        if amount != tick || !in_turn {
            return Answer::failed(refused(RefusalCode::WrongAmount));
        }
        let expected = Expected {
            key: self.key,
            seq,
            mint: &self.meta.place.mint,
            unit: &self.meta.place.unit,
        };
        let coins = match Payload::decode(expected, payload) {
            Ok(coins) => coins,
            Err(code) => return Answer::failed(refused(code)),
        };
        let unknown = match check_amount(&coins, &ready.keysets, self.meta.net) {
            Ok(()) => false,
            Err(RefusalCode::UnknownKeyset) => true,
            Err(code) => return Answer::failed(refused(code)),
        };
        let receipt = Receipt {
            payload: digest.into(),
            coins,
            credited: false,
            outputs: ready.keysets.active(),
            doubt: None,
        };
        let mut answer = Answer::default();
        record::put_receipt(&mut answer.delta, seq.0, &receipt);
        self.receipts.insert(seq.0, receipt);
        answer.effects = if unknown {
            self.ask_keysets(refresh_id(seq.0), true)
        } else {
            self.swap(seq.0, false)
        };
        answer
    }

    fn settle(&mut self, now: Now) -> Answer {
        let mut delta = ChangeSet::new();
        self.asked.clear();
        if !self.meta.settling {
            self.meta.settling = true;
            self.put_meta(&mut delta);
        }
        Answer {
            delta,
            ..self.settle_next(now)
        }
    }

    /// What may be ours at the mint comes first: the ledger is asked when all is known.
    fn settle_next(&mut self, now: Now) -> Answer {
        let first = self.pending().next();
        let effects = match first {
            Some(seq) if self.is_put_off(now, swap_id(seq)) => {
                return Answer::failed(BackendError::Transient);
            }
            Some(seq) => self.swap(seq, true),
            None => match (self.ask_denied(now), self.why_denied_wait()) {
                (Some(effects), _) => effects,
                (None, Some(error)) => return Answer::failed(error),
                (None, None) => self.ask_received(),
            },
        };
        Answer {
            effects,
            ..Answer::default()
        }
    }

    pub(crate) fn effect_done(
        &mut self,
        now: Now,
        id: u64,
        done: Result<Done, BackendError>,
    ) -> Answer {
        if !self.running.ended(id) {
            // Told before: what came of it is said.
            return Answer::default();
        }
        if let Some(answer) = self.denied_asked(now, id, &done) {
            return answer;
        }
        match (id, done) {
            (KEYSETS, Ok(Done::Keysets(keysets, seed))) => {
                let mut answer = self.accepted();
                // The first seed stays: outputs may hang on it.
                if self.meta.ready.is_none() {
                    self.meta.ready = Some(Ready { keysets, seed });
                    self.put_meta(&mut answer.delta);
                }
                answer
            }
            (RECEIVED, Ok(Done::Sum(settled))) => {
                let mut answer = Answer::outcome(Outcome::Settled {
                    settled: msat(settled),
                });
                self.meta.settling = false;
                self.put_meta(&mut answer.delta);
                answer
            }
            (id, done) => match (id.checked_sub(SWAP), done) {
                (Some(n), Ok(Done::Keysets(keysets, _))) => self.refreshed(n / 2, keysets),
                (Some(n), done) if n % 2 == 0 => self.swapped(now, n / 2, done),
                (_, done) => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            },
        }
    }

    fn refreshed(&mut self, seq: u64, keysets: crate::keysets::Keysets) -> Answer {
        let mut answer = Answer::default();
        if let Some(ready) = &mut self.meta.ready {
            ready.keysets = keysets.clone();
        }
        self.put_meta(&mut answer.delta);
        let Some(receipt) = self.receipts.get(&seq).filter(|receipt| !receipt.credited) else {
            return answer;
        };
        match check_amount(&receipt.coins, &keysets, self.meta.net) {
            Ok(()) => {
                let mut receipt = receipt.clone();
                // The mint may have swapped it before a restart; then the outputs must stay.
                receipt.outputs = receipt.outputs.or_else(|| keysets.active());
                record::put_receipt(&mut answer.delta, seq, &receipt);
                self.receipts.insert(seq, receipt);
                answer.effects = self.swap(seq, true);
            }
            Err(code) => {
                self.drop_receipt(&mut answer.delta, seq);
                answer.outcome = Some(Outcome::Failed(refused(code)));
            }
        }
        answer
    }

    fn swapped(&mut self, now: Now, seq: u64, done: Result<Done, BackendError>) -> Answer {
        let mut answer = Answer::default();
        let Some(receipt) = self.receipts.get_mut(&seq) else {
            return answer;
        };
        if receipt.credited {
            return Answer::outcome(Outcome::Credited);
        }
        let outcome = match done {
            Ok(Done::Swapped) => {
                receipt.credited = true;
                receipt.coins = Vec::new();
                record::put_receipt(&mut answer.delta, seq, receipt);
                self.anew.remove(&swap_id(seq));
                self.undeny(&mut answer.delta, seq);
                Outcome::Credited
            }
            Ok(Done::SpentElsewhere) => {
                self.deny(now, &mut answer.delta, seq);
                let code = RefusalCode::AlreadySpent;
                Outcome::Failed(BackendError::Rejected(code, Consumed::Yes))
            }
            Ok(Done::OtherKeysets(keysets)) => {
                if receipt.outputs == keysets.active() {
                    return Answer::failed(BackendError::Transient);
                }
                receipt.outputs = keysets.active();
                record::put_receipt(&mut answer.delta, seq, receipt);
                if let Some(ready) = &mut self.meta.ready {
                    ready.keysets = keysets;
                }
                self.put_meta(&mut answer.delta);
                self.made_anew(now, swap_id(seq));
                if self.is_put_off(now, swap_id(seq)) {
                    answer.outcome = Some(Outcome::Failed(BackendError::Transient));
                    return answer;
                }
                answer.effects = self.swap(seq, false);
                return answer;
            }
            Ok(_) => Outcome::Failed(BackendError::Unknown),
            Err(error @ (BackendError::Rejected(..) | BackendError::Fatal(_))) => {
                self.drop_receipt(&mut answer.delta, seq);
                Outcome::Failed(error)
            }
            Err(error) => {
                if error == BackendError::Unknown && receipt.doubt.is_none() {
                    receipt.doubt = Some(Doubt::Lost);
                    record::put_receipt(&mut answer.delta, seq, receipt);
                }
                Outcome::Failed(error)
            }
        };
        let unresolved = self.receipts.get(&seq).is_some_and(|of| !of.credited);
        if self.meta.settling && !unresolved && !self.asked.remove(&seq) {
            let next = self.settle_next(now);
            (answer.effects, answer.outcome) = (next.effects, next.outcome);
        } else {
            answer.outcome = Some(outcome);
        }
        answer
    }

    fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        let receipts = self.receipts.iter();
        receipts
            .filter(|(_, receipt)| !receipt.credited)
            .map(|(seq, _)| *seq)
    }

    fn swap(&mut self, seq: u64, again: bool) -> Vec<Effect> {
        let (Some(receipt), Some(ready)) = (self.receipts.get(&seq), &self.meta.ready) else {
            return Vec::new();
        };
        if check_amount(&receipt.coins, &ready.keysets, self.meta.net).is_err() {
            // Restarted, or retried, before the keyset was learnt.
            return self.ask_keysets(refresh_id(seq), true);
        }
        let Some(swap) = self.swap_of(seq, receipt, again) else {
            return Vec::new();
        };
        self.running
            .start(self.key, swap_id(seq), || Job::SwapIn { swap })
    }

    fn swap_of(&self, seq: u64, receipt: &Receipt, again: bool) -> Option<SwapIn> {
        Some(SwapIn {
            place: self.meta.place.clone(),
            coins: receipt.coins.clone(),
            seed: self.meta.ready.as_ref()?.seed.child(seq, &*receipt.payload),
            keyset: receipt.outputs.clone()?,
            net: self.meta.net,
            again,
            own: false,
        })
    }

    /// True while a swap waits: the mint names another keyset each time, or denies it.
    fn is_put_off(&self, now: Now, id: u64) -> bool {
        self.anew.get(&id).is_some_and(|pace| pace.waits(now))
    }

    fn made_anew(&mut self, now: Now, id: u64) {
        self.anew.entry(id).or_default().made_anew(now);
    }

    fn ask_keysets(&mut self, id: u64, refresh: bool) -> Vec<Effect> {
        let place = self.meta.place.clone();
        self.running
            .start(self.key, id, || Job::Keysets { place, refresh })
    }

    fn ask_received(&mut self) -> Vec<Effect> {
        let place = self.meta.place.clone();
        self.running
            .start(self.key, RECEIVED, || Job::Received { place })
    }

    fn drop_receipt(&mut self, delta: &mut ChangeSet, seq: u64) {
        self.receipts.remove(&seq);
        record::remove_receipt(delta, seq);
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payee(self.meta.clone()));
    }
}

fn refused(code: RefusalCode) -> BackendError {
    BackendError::Rejected(code, Consumed::No)
}

const fn swap_id(seq: u64) -> u64 {
    SWAP.saturating_add(seq.saturating_mul(2))
}

const fn refresh_id(seq: u64) -> u64 {
    swap_id(seq).saturating_add(1)
}

fn digest(payload: &[u8]) -> [u8; 32] {
    use bitcoin_hashes::{Hash, sha256};
    sha256::Hash::hash(payload).to_byte_array()
}
