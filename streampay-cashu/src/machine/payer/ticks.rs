//! Ticks: a token each, handed out, acknowledged, or taken back.

use streampay_core::backend::{Answer, BackendError, Outcome, RefusalCode};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Seq};

use super::{PayerPurse, merge};
use crate::codec;
use crate::coin::{self, Coin};
use crate::job::Done;
use crate::keysets::Keysets;
use crate::machine::record::{self, PayerStage, Token, TokenState};
use crate::machine::{OUT_OF_ORDER, msat};
use crate::wire::{Expected, Payload};

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

    pub(super) fn reclaim(&mut self, seq: Seq) -> Answer {
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
                let mut answer = Answer::default();
                self.asked.insert(index);
                self.start_reclaim(&mut answer, index, seq.0);
                answer
            }
        }
    }

    pub(super) fn reclaimed(&mut self, index: u64, done: Result<Done, BackendError>) -> Answer {
        let Some(TokenState::Reclaiming(seq)) = self.tokens.get(&index).map(|token| token.state)
        else {
            // The ack came while we asked; or a repeated result. A release that waited for it goes on.
            let released = matches!(self.meta.stage, PayerStage::Released(_));
            return match self.meta.closing && !released {
                true => self.go_on(false),
                false => self.settled_answer(),
            };
        };
        let mut answer = Answer::default();
        let (state, outcome) = match done {
            Ok(Done::Swapped) => (TokenState::Back(seq), Outcome::Reclaimed),
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
                self.start_reclaim(&mut answer, index, seq);
                return answer;
            }
            Ok(Done::OtherFee(keysets)) => match self.other_net(index, &keysets) {
                None => return Answer::failed(BackendError::Transient),
                // Worth no more than its fee: nothing of it comes back.
                Some(0) => (TokenState::Spent(seq), Outcome::Spent),
                Some(net) => {
                    if let Some(token) = self.tokens.get_mut(&index) {
                        token.net = Some(net);
                    }
                    self.start_reclaim(&mut answer, index, seq);
                    return answer;
                }
            },
            Ok(_) => return Answer::failed(BackendError::Unknown),
            Err(error) => return Answer::failed(error),
        };
        self.set_state(&mut answer.delta, index, state);
        if self.meta.closing && !self.asked.remove(&index) {
            let next = self.go_on(true);
            return merge(answer, next);
        }
        answer.outcome = Some(outcome);
        answer
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
