//! Ticks: a token each, handed out, acknowledged, or taken back.

use streampay_core::backend::{Answer, BackendError, Outcome, RefusalCode};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, Seq};

use super::PayerPurse;
use crate::codec;
use crate::coin::{self, Coin};
use crate::job::Done;
use crate::keysets::Keysets;
use crate::locked::{RETRY_S, merge};
use crate::machine::doubt::Doubt;
use crate::machine::record::{self, PayerStage, Token, TokenState};
use crate::machine::{OUT_OF_ORDER, msat};
use crate::wire::{Expected, Payload};

/// For how long a mint has to say of a token that it is worth no more than its fee. Chosen: longer than a
/// mistake of one answer, and no session waits for long.
const WORTHLESS_S: u64 = 600;

impl PayerPurse {
    pub(super) fn pay(&mut self, seq: Seq, amount: Msat, cumulative: Msat) -> Answer {
        if let Some(token) = self.of_tick(seq) {
            return match token.state {
                TokenState::Sent(_) | TokenState::Acked(_) => {
                    let coins = token.coins.clone();
                    self.paid(seq, coins)
                }
                _ => Answer::failed(OUT_OF_ORDER),
            };
        }
        let tick = msat(self.meta.tick);
        // Fewer ticks than numbers, where some were refused and taken back.
        let most = tick.times(seq.0);
        let whole = cumulative.round_up_to(tick) == Ok(cumulative) && !cumulative.is_zero();
        let in_turn = seq.0 > 0 && whole && most.is_ok_and(|most| cumulative <= most);
        if self.meta.closing || !in_turn {
            return Answer::failed(OUT_OF_ORDER);
        }
        if amount != tick {
            return Answer::failed(BackendError::Fatal(RefusalCode::WrongAmount));
        }
        let fresh = self.tokens.iter_mut();
        let fresh = fresh
            .filter(|(_, token)| token.state == TokenState::Fresh)
            .min_by_key(|(index, _)| **index);
        let Some((index, token)) = fresh else {
            return Answer::failed(BackendError::Fatal(RefusalCode::PurseEmpty));
        };
        token.state = TokenState::Sent(seq.0);
        let mut delta = ChangeSet::new();
        record::put_token(&mut delta, *index, token);
        let coins = token.coins.clone();
        let mut answer = self.paid(seq, coins);
        answer.delta = delta;
        answer
    }

    fn paid(&self, seq: Seq, coins: Vec<Coin>) -> Answer {
        let PayerStage::Open(tokens) = &self.meta.stage else {
            return Answer::failed(OUT_OF_ORDER);
        };
        let expected = Expected {
            key: self.key,
            seq,
            mint: &tokens.place.mint,
            unit: &tokens.place.unit,
        };
        let payload = Payload::new(expected, coins);
        Answer::outcome(Outcome::Paid {
            payload: codec::encode(&payload).into(),
        })
    }

    pub(super) fn acked(&mut self, seq: Seq) -> Answer {
        let mut answer = Answer::default();
        let sent = self.tokens.iter_mut().find(|(_, token)| {
            matches!(token.state, TokenState::Sent(of) | TokenState::Reclaiming(of) if of == seq.0)
        });
        if let Some((index, token)) = sent {
            token.state = TokenState::Acked(seq.0);
            record::put_token(&mut answer.delta, *index, token);
        }
        answer
    }

    pub(super) fn reclaim(&mut self, now: Now, seq: Seq) -> Answer {
        let newest = self.tokens.iter().rev();
        let newest = newest
            .clone()
            .find(|(_, token)| token.state.seq() == Some(seq.0));
        let Some((&index, token)) = newest else {
            return Answer::failed(OUT_OF_ORDER);
        };
        match token.state {
            TokenState::Back(_) => Answer::outcome(Outcome::Reclaimed),
            TokenState::Spent(_) | TokenState::Acked(_) => Answer::outcome(Outcome::Spent),
            TokenState::Fresh => Answer::failed(OUT_OF_ORDER),
            TokenState::Sent(_) | TokenState::Reclaiming(_) => {
                if self.is_put_off(now, index) {
                    return Answer::failed(self.why_put_off(index));
                }
                let mut answer = Answer::default();
                self.asked.insert(index);
                self.start_reclaim(&mut answer, index, seq.0);
                answer
            }
        }
    }

    pub(super) fn reclaimed(
        &mut self,
        now: Now,
        index: u64,
        done: Result<Done, BackendError>,
    ) -> Answer {
        let Some(TokenState::Reclaiming(seq)) = self.tokens.get(&index).map(|token| token.state)
        else {
            // The ack came while we asked; or a repeated result. A release that waited for it goes on.
            let released = matches!(self.meta.stage, PayerStage::Released(_));
            return match self.meta.closing && !released {
                true => self.go_on(now, false),
                false => self.settled_answer(),
            };
        };
        let mut answer = Answer::default();
        let (state, outcome) = match done {
            Ok(Done::Swapped) => (TokenState::Back(seq), Outcome::Reclaimed),
            Ok(Done::SpentElsewhere) if self.is_doubted(now, &mut answer, index) => {
                return self.doubted(now, answer, index);
            }
            Ok(Done::SpentElsewhere) => (TokenState::Spent(seq), Outcome::Spent),
            Ok(Done::OtherKeysets(keysets)) => {
                let old = self.tokens.get_mut(&index);
                if old.and_then(|token| token.outputs.take()) == keysets.active() {
                    return Answer::failed(BackendError::Transient);
                }
                if let PayerStage::Open(tokens) = &mut self.meta.stage {
                    tokens.keysets = keysets;
                }
                self.put_meta(&mut answer.delta);
                self.made_anew(now, &mut answer, index, seq);
                return answer;
            }
            Ok(Done::OtherFee(keysets)) => {
                let net = self.other_net(index, &keysets);
                match self.is_gone_by(now, &mut answer, index, net) {
                    true => (TokenState::Spent(seq), Outcome::Spent),
                    false => {
                        self.made_anew(now, &mut answer, index, seq);
                        return answer;
                    }
                }
            }
            Ok(_) => return Answer::failed(BackendError::Unknown),
            Err(error) => {
                if error == BackendError::Unknown {
                    self.answer_lost(&mut answer.delta, index);
                }
                answer.outcome = Some(Outcome::Failed(error));
                return answer;
            }
        };
        self.anew.remove(&index);
        self.set_state(&mut answer.delta, index, state);
        if self.meta.closing && !self.asked.remove(&index) {
            let next = self.go_on(now, true);
            return merge(answer, next);
        }
        answer.outcome = Some(outcome);
        answer
    }

    fn answer_lost(&mut self, delta: &mut ChangeSet, index: u64) {
        let token = self.tokens.get_mut(&index);
        if let Some(token) = token.filter(|token| token.doubt.is_none()) {
            token.doubt = Some(Doubt::Lost);
            record::put_token(delta, index, token);
        }
    }

    /// The mint says that the payee has spent it. True where it is asked again before that is believed: an
    /// answer to our own swap was lost.
    fn is_doubted(&mut self, now: Now, answer: &mut Answer, index: u64) -> bool {
        let Some(token) = self.tokens.get_mut(&index) else {
            return false;
        };
        let Some(wait) = token.doubt.as_mut().and_then(|doubt| doubt.denied(now)) else {
            return false;
        };
        record::put_token(&mut answer.delta, index, token);
        self.anew.entry(index).or_default().wait(now, wait);
        true
    }

    fn doubted(&mut self, now: Now, mut answer: Answer, index: u64) -> Answer {
        if self.meta.closing && !self.asked.remove(&index) {
            // Others need not wait for it.
            let next = self.go_on(now, true);
            return merge(answer, next);
        }
        answer.outcome = Some(Outcome::Failed(BackendError::Unknown));
        answer
    }

    /// Why a token's swap waits.
    pub(super) fn why_put_off(&self, index: u64) -> BackendError {
        let doubt = self.tokens.get(&index).and_then(|token| token.doubt);
        match doubt.is_some_and(Doubt::is_denied) {
            true => BackendError::Unknown,
            false => BackendError::Transient,
        }
    }

    /// True while a token's swap waits: the mint names another fee or keyset each time, or denies it.
    pub(super) fn is_put_off(&self, now: Now, index: u64) -> bool {
        self.anew.get(&index).is_some_and(|pace| pace.waits(now))
    }

    fn made_anew(&mut self, now: Now, answer: &mut Answer, index: u64, seq: u64) {
        self.anew.entry(index).or_default().made_anew(now);
        if self.is_put_off(now, index) {
            self.set_state(&mut answer.delta, index, TokenState::Reclaiming(seq));
            answer.outcome = Some(Outcome::Failed(BackendError::Transient));
            return;
        }
        self.start_reclaim(answer, index, seq);
    }

    /// Notes what a token gives by now. True where that is nothing, and has been for a while: one word of
    /// its mint does not make it so.
    fn is_gone_by(&mut self, now: Now, answer: &mut Answer, index: u64, net: Option<u64>) -> bool {
        let Some(token) = self.tokens.get_mut(&index) else {
            return false;
        };
        match net {
            Some(0) => {
                let since = *token.worthless.get_or_insert(now.unix.0);
                self.anew.entry(index).or_default().wait(now, RETRY_S);
                record::put_token(&mut answer.delta, index, token);
                return now.unix.0 >= since.saturating_add(WORTHLESS_S);
            }
            Some(net) => (token.net, token.worthless) = (Some(net), None),
            None => token.worthless = None,
        }
        false
    }

    /// What a token gives by these keysets, where that is not what its swap asked for.
    fn other_net(&self, index: u64, keysets: &Keysets) -> Option<u64> {
        let PayerStage::Open(open) = &self.meta.stage else {
            return None;
        };
        let token = self.tokens.get(&index)?;
        let fee = keysets.fee_of(&token.coins).ok()?;
        let net = coin::sum(&token.coins)?.saturating_sub(fee);
        let asked = token.net.unwrap_or_else(|| self.meta.net_at(&open.place));
        (net != asked).then_some(net)
    }

    fn of_tick(&self, seq: Seq) -> Option<&Token> {
        self.tokens.values().find(|token| {
            !matches!(token.state, TokenState::Back(_)) && token.state.seq() == Some(seq.0)
        })
    }
}
