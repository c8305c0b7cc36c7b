//! What a purse's records say.

use serde::Serialize;
use streampay_core::backend::RestoredPurse;

use super::text::Int;
use crate::locked::record as locked;
use crate::machine::record as plain;
use plain::{Kind, PayerStage, Receipt, Token, TokenState};

/// How a purse stands, as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum State {
    /// A payer's, of locked ecash.
    Payer {
        /// `planning`, `funding`, `open`, `released` or `lost`.
        stage: &'static str,
        /// The newest step that was shown.
        shown: Int,
        /// The newest that is acknowledged.
        acknowledged: Int,
        /// The first proof that is not home yet and not the payee's.
        home: Int,
        /// Whether the payee signed the rest over.
        release: bool,
    },
    /// A payee's, of locked ecash.
    Payee {
        /// The newest step that is credited.
        credited: Int,
        /// The first proof that is not home yet.
        home: Int,
        /// True from its settlement on.
        closed: bool,
        /// True where it was refused and is signed over.
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        refused: bool,
    },
    /// A payer's, of plain tokens: the numbers of the ticks.
    PlainPayer {
        /// `planning`, `funding`, `open` or `released`.
        stage: &'static str,
        /// Sent and not answered.
        sent: Vec<Int>,
        /// Acknowledged.
        acknowledged: Vec<Int>,
        /// Taken back.
        back: Vec<Int>,
        /// Spent by somebody, and never acknowledged.
        spent: Vec<Int>,
    },
    /// A payee's, of plain tokens: the numbers of the ticks.
    PlainPayee {
        /// Credited.
        credited: Vec<Int>,
        /// Being swapped.
        pending: Vec<Int>,
    },
}

/// How the purse of these records stands; none where there is nothing of it, or nothing that reads.
#[must_use]
pub fn state(is_locked: bool, records: &RestoredPurse) -> Option<State> {
    if is_locked {
        of_locked(records)
    } else {
        of_plain(records)
    }
}

fn of_locked(records: &RestoredPurse) -> Option<State> {
    let read = locked::Records::read(records).ok()?;
    let home = Int(read.drain.next);
    Some(match read.meta? {
        locked::Meta::Payer(meta) => State::Payer {
            stage: match meta.stage {
                locked::Stage::Planning => "planning",
                locked::Stage::Funding(_) => "funding",
                locked::Stage::Open(_) => "open",
                locked::Stage::Released(_) => "released",
                locked::Stage::Lost(..) => "lost",
            },
            shown: Int(read.paid.revealed),
            acknowledged: Int(read.paid.acked),
            home,
            release: read.release.is_some(),
        },
        locked::Meta::Payee(meta) => State::Payee {
            credited: Int(read.credited.step),
            home,
            closed: meta.closed,
            refused: meta.refused_until.is_some(),
        },
    })
}

fn of_plain(records: &RestoredPurse) -> Option<State> {
    let (mut meta, mut tokens, mut receipts) = (None, Vec::new(), Vec::new());
    for (key, value) in records {
        match plain::kind(key)? {
            Kind::Meta => meta = plain::read::<plain::Meta>(value).ok(),
            Kind::Token(_) => tokens.push(plain::read::<Token>(value).ok()?.state),
            Kind::Receipt(seq) => {
                receipts.push((seq, plain::read::<Receipt>(value).ok()?.credited));
            }
            // Asked for again until the mint gives it: no state that a peer meets.
            Kind::Denied(_) => {}
        }
    }
    let of = |is: fn(&TokenState) -> bool| {
        let some = tokens.iter().filter(|state| is(state));
        some.filter_map(|state| state.seq().map(Int)).collect()
    };
    let swapped = |wanted: bool| {
        let some = receipts.iter().filter(|(_, credited)| *credited == wanted);
        some.map(|(seq, _)| Int(*seq)).collect()
    };
    Some(match meta? {
        plain::Meta::Payer(meta) => State::PlainPayer {
            stage: match meta.stage {
                PayerStage::Planning => "planning",
                PayerStage::Funding(_) => "funding",
                PayerStage::Open(_) => "open",
                PayerStage::Released(_) => "released",
                PayerStage::Lost(..) => "lost",
            },
            sent: of(|state| matches!(state, TokenState::Sent(_) | TokenState::Reclaiming(_))),
            acknowledged: of(|state| matches!(state, TokenState::Acked(_))),
            back: of(|state| matches!(state, TokenState::Back(_))),
            spent: of(|state| matches!(state, TokenState::Spent(_))),
        },
        plain::Meta::Payee(_) => State::PlainPayee {
            credited: swapped(true),
            pending: swapped(false),
        },
    })
}
