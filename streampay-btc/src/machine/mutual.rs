//! Closing together, in the session: the payee proposes, the payer signs its part, the payee
//! completes and broadcasts. Whatever fails or is late leaves the close with both signatures. Nonces
//! are in memory alone, so a restart ends an attempt. Spec: bitcoin 5.7.

use bitcoin::{Amount, ScriptBuf, Transaction, Weight};
use bytes::Bytes;
use streampay_core::session::Entropy;

use super::payee::{Payee, can_follow};
use super::payer::Payer;
use super::{Chain, Env};
use crate::keys::ChannelSecret;
use crate::tx::{Contract, MutualClose, MutualTerms, PayerPart, cosign, fee_with};
use crate::wire::{Cosigned, Proposal};

/// What a signature of the key path adds to an unsigned transaction: marker, count, length, 64 bytes.
const WITNESS: Weight = Weight::from_wu(2 + 1 + 1 + 64);

/// A payee's attempt, at most one a process and channel.
pub(super) enum Attempt {
    None,
    /// Settled without one, or it came to nothing.
    Over,
    /// Randomness is being drawn.
    Draws {
        until: u64,
        terms: MutualTerms,
    },
    /// The payer was asked.
    Asked {
        until: u64,
        close: Box<MutualClose>,
    },
    /// Complete, and to be broadcast.
    Signed(Box<Transaction>),
}

/// What a payer was asked to sign.
pub(super) struct Asked {
    terms: MutualTerms,
    nonce: [u8; 66],
}

impl Payee {
    /// Begins an attempt where there is something to gain by one. True where randomness is needed.
    pub(super) fn begin_mutual(&mut self, env: &Env<'_>) -> bool {
        if !matches!(self.attempt, Attempt::None) {
            return false;
        }
        self.attempt = Attempt::Over;
        let window = env.config.payee.mutual_ms;
        let Some(chain) = env.chain.filter(|_| window > 0) else {
            return false;
        };
        let Some(terms) = self.mutual_terms(env, chain) else {
            return false;
        };
        let until = env.now.mono.0.saturating_add(window);
        self.attempt = Attempt::Draws { until, terms };
        true
    }

    fn mutual_terms(&self, env: &Env<'_>, chain: &Chain) -> Option<MutualTerms> {
        let seen = self.seen.as_ref()?;
        let spent = self.decided.closing || seen.spend.is_some();
        // Such a close has one output for the payee.
        let split = !env.config.payee.shares.is_empty();
        if split || spent || !can_follow(seen) || self.is_urgent(chain) {
            return None;
        }
        let paid = self.best.as_ref()?.paid;
        let terms = |fee| MutualTerms {
            paid: Amount::from_sat(paid),
            payout: env.config.payee.payout.clone(),
            fee,
        };
        self.contract.output().merkle_root()?;
        let draft = self.contract.mutual_tx(&terms(Amount::ZERO)).ok()?;
        let weight = draft.weight().checked_add(WITNESS)?;
        let rate = chain.fees.rate(self.target(chain.tip));
        let fee = fee_with(weight, rate, self.carried()).ok()?;
        let terms = terms(fee);
        let affordable = fee.to_sat() <= self.cost_max(paid);
        (affordable && self.contract.mutual_tx(&terms).is_ok()).then_some(terms)
    }

    /// What the payer is to be shown, with fresh randomness.
    pub(super) fn propose(&mut self, entropy: Entropy) -> Option<Bytes> {
        let Attempt::Draws { until, terms } = core::mem::replace(&mut self.attempt, Attempt::Over)
        else {
            return None;
        };
        let close = MutualClose::begin(&self.contract, &self.secret, &terms, entropy).ok()?;
        let proposal = Proposal {
            paid: terms.paid.to_sat(),
            payout: terms.payout.to_bytes().into(),
            fee: terms.fee.to_sat(),
            nonce: close.public_nonce().into(),
        };
        self.attempt = Attempt::Asked {
            until,
            close: Box::new(close),
        };
        Some(proposal.encode())
    }

    /// The payer's part. True where the close is complete.
    pub(super) fn cosigned(&mut self, bytes: &[u8]) -> bool {
        if !matches!(self.attempt, Attempt::Asked { .. }) {
            return false;
        }
        let attempt = core::mem::replace(&mut self.attempt, Attempt::Over);
        let (Attempt::Asked { close, .. }, Some(part)) = (attempt, Cosigned::decode(bytes)) else {
            return false;
        };
        let part = PayerPart {
            nonce: *part.nonce,
            partial: *part.partial,
        };
        match close.complete(&part) {
            Ok(tx) => {
                self.attempt = Attempt::Signed(Box::new(tx));
                true
            }
            Err(_) => false,
        }
    }

    /// True while the payer may still answer.
    pub(super) fn awaits_cosigning(&self, chain: &Chain) -> bool {
        match &self.attempt {
            Attempt::Draws { until, .. } | Attempt::Asked { until, .. } => {
                chain.at < *until && !self.is_urgent(chain)
            }
            _ => false,
        }
    }

    /// The complete close, to be broadcast once: what becomes of it the chain says.
    pub(super) fn take_mutual(&mut self) -> Option<Transaction> {
        match core::mem::replace(&mut self.attempt, Attempt::Over) {
            Attempt::Signed(tx) => Some(*tx),
            _ => None,
        }
    }

    /// No answer counts any more.
    pub(super) fn give_up_mutual(&mut self) {
        self.attempt = Attempt::Over;
    }
}

impl Payer {
    /// The payee's proposal. True where it pays at least what every update would pay us: then no
    /// tick is paid any more, and randomness is needed.
    pub(super) fn proposed(&mut self, bytes: &[u8]) -> bool {
        let (Some(contract), Some(proposal)) = (&self.contract, Proposal::decode(bytes)) else {
            return false;
        };
        let terms = MutualTerms {
            paid: Amount::from_sat(proposal.paid),
            payout: ScriptBuf::from_bytes(proposal.payout.to_vec()),
            fee: Amount::from_sat(proposal.fee),
        };
        if proposal.paid > self.signed || contract.mutual_tx(&terms).is_err() {
            return false;
        }
        let nonce = *proposal.nonce;
        self.asked = Some(Asked { terms, nonce });
        true
    }

    /// Our part, for the payee, with fresh randomness.
    pub(super) fn cosign(&mut self, entropy: Entropy) -> Option<Bytes> {
        let asked = self.asked.take()?;
        let part = part(self.contract.as_ref()?, &self.secret, &asked, entropy)?;
        Some(part.encode())
    }
}

fn part(
    contract: &Contract,
    secret: &ChannelSecret,
    asked: &Asked,
    entropy: Entropy,
) -> Option<Cosigned> {
    let part = cosign(contract, secret, &asked.terms, &asked.nonce, entropy).ok()?;
    Some(Cosigned {
        nonce: part.nonce.into(),
        partial: part.partial.into(),
    })
}
