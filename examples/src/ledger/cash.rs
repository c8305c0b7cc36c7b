//! A wallet's money at each mint, by its own book: what came, what went, and what is there.

use std::collections::{BTreeMap, BTreeSet};

use cdk::Amount;
use cdk::mint_url::MintUrl;
use cdk::nuts::{PublicKey, State};
use cdk::wallet::types::{ProofInfo, Transaction, TransactionDirection, TransactionStatus};
use streampay_cashu::{PurseFigures, add_line};
use uuid::Uuid;

use super::notes::{Note, Notes};
use crate::error::AppError;
use crate::home::Home;
use crate::wallet::WalletError;

/// One mint's, each figure in millisatoshi.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cash {
    /// Paid in by Lightning.
    pub deposited: i128,
    /// Tokens received, with what the mint took for redeeming them.
    pub received: i128,
    /// Redeemed from purses of viewers, with what the mint took for it.
    pub earned: i128,
    /// There is so much more than a book that was restored from a backup knows of; negative: less.
    pub since_backup: i128,
    /// Gone into purses and neither back nor a fee: with streamers, or still in the purse.
    pub given: i128,
    /// Paid out by Lightning.
    pub withdrawn: i128,
    /// In tokens that somebody has redeemed.
    pub sent: i128,
    /// In tokens that nobody has redeemed yet.
    pub tokens: i128,
    /// What mint and Lightning network took.
    pub fees: i128,
    /// There, and can be spent now.
    pub spendable: i128,
    /// There, and held by an operation that is not finished.
    pub pending: i128,
    /// What each purse moved, by the wallet's name for it.
    pub purses: BTreeMap<Uuid, PurseFigures>,
    /// The highest input fee of its keysets, in thousandths of a satoshi: what is worth less stays
    /// where it is.
    pub ppk: u64,
}

impl Cash {
    /// What came less what went and what is there: zero, or the book is wrong.
    #[must_use]
    pub const fn difference(&self) -> i128 {
        let came = self.deposited + self.received + self.earned + self.since_backup;
        let went = self.given + self.withdrawn + self.sent + self.tokens + self.fees;
        came - went - self.spendable - self.pending
    }

    /// True where nothing ever came or went.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let empty = Self {
            ppk: self.ppk,
            ..Self::default()
        };
        *self == empty
    }

    /// Every mint that the home's wallet ever had to do with, and those that are `named`.
    ///
    /// # Errors
    /// [`AppError`] where the wallet cannot be read.
    pub async fn of(home: &Home, named: Vec<MintUrl>) -> Result<BTreeMap<MintUrl, Self>, AppError> {
        let (lines, proofs) = home.wallet.book().await?;
        let mut mints = Self::count(&lines, &proofs)?;
        for mint in named {
            mints.entry(mint).or_default();
        }
        for (mint, cash) in &mut mints {
            let wallet = home.wallet.wallet_of(&mint.to_string()).await?;
            let sets = wallet.localstore.get_mint_keysets(mint.clone()).await;
            let sets = sets.map_err(WalletError::Store)?.unwrap_or_default();
            cash.ppk = sets.iter().map(|set| set.input_fee_ppk).max().unwrap_or(0);
        }
        Ok(mints)
    }

    /// Adds up the lines of a wallet's book and the ecash in it.
    ///
    /// # Errors
    /// [`AppError`] where a sum is more than there can be.
    pub fn count(
        lines: &[Transaction],
        proofs: &[ProofInfo],
    ) -> Result<BTreeMap<MintUrl, Self>, AppError> {
        let notes = Notes::of(lines);
        let held = Held::of(proofs);
        let mut mints: BTreeMap<MintUrl, Self> = BTreeMap::new();
        let (mut tokens, mut foreign) = (BTreeSet::new(), BTreeSet::new());
        for line in lines {
            let at = mints.entry(line.mint_url.clone()).or_default();
            let of_purse = add_line(&mut at.purses, line)
                .map_err(|_| AppError::Failed("the wallet's book has more than there can be"))?;
            at.since_backup += Note::since_backup(line).unwrap_or_default();
            if of_purse || Note::is_one(line) {
                continue;
            }
            match (line.direction, line.quote_id.is_some()) {
                (TransactionDirection::Incoming, true) => at.deposit(line),
                (TransactionDirection::Incoming, false) => {
                    at.receive(line);
                    if line.status == TransactionStatus::Pending {
                        foreign.extend(line.ys.iter().copied());
                    }
                }
                (TransactionDirection::Outgoing, true) => at.withdraw(line, &notes),
                (TransactionDirection::Outgoing, false) => {
                    at.send(line, &notes, held.of_token(line));
                    if line.status != TransactionStatus::Failed {
                        tokens.extend(line.ys.iter().copied());
                    }
                }
            }
        }
        for info in proofs {
            let at = mints.entry(info.mint_url.clone()).or_default();
            at.hold(info, &tokens, &foreign);
        }
        mints.values_mut().for_each(Self::sum_purses);
        Ok(mints)
    }

    fn deposit(&mut self, line: &Transaction) {
        if line.status == TransactionStatus::Completed {
            self.deposited += msat(line.amount);
        }
    }

    fn receive(&mut self, line: &Transaction) {
        if line.status == TransactionStatus::Completed {
            self.received += msat(line.amount) + msat(line.fee);
            self.fees += msat(line.fee);
        }
    }

    fn withdraw(&mut self, line: &Transaction, notes: &Notes) {
        // What was made for the payment beforehand is gone however it ended.
        self.fees += notes.swap_fee(line);
        if line.status == TransactionStatus::Completed {
            self.withdrawn += msat(line.amount);
            self.fees += msat(line.fee);
        }
    }

    /// `held` of a token is what the wallet still has of it.
    fn send(&mut self, line: &Transaction, notes: &Notes, held: i128) {
        let cost = msat(line.amount) + msat(line.fee);
        match (line.status, notes.taken_back(line)) {
            // Its ecash came back as other ecash; what is missing went to the mint.
            (TransactionStatus::Failed, Some(back)) => self.fees += cost - back,
            (TransactionStatus::Failed, None) => {}
            _ if held > 0 => {
                self.tokens += held;
                self.fees += cost - held;
            }
            _ => {
                self.sent += msat(line.amount);
                self.fees += msat(line.fee);
            }
        }
    }

    fn hold(
        &mut self,
        info: &ProofInfo,
        tokens: &BTreeSet<PublicKey>,
        foreign: &BTreeSet<PublicKey>,
    ) {
        let in_purse = info
            .used_by_operation
            .and_then(|by| self.purses.get(&by))
            .is_some_and(|purse| !purse.left.is_zero());
        let amount = msat(info.proof.amount);
        match info.state {
            State::Spent => {}
            State::Unspent => self.spendable += amount,
            // Counted with its purse or token; or somebody else's until it is redeemed.
            _ if in_purse || tokens.contains(&info.y) || foreign.contains(&info.y) => {}
            State::Pending | State::Reserved | State::PendingSpent => self.pending += amount,
        }
    }

    fn sum_purses(&mut self) {
        for purse in self.purses.values() {
            self.fees += of(purse.fees);
            if purse.received.is_zero() {
                self.given += given(purse);
            } else {
                self.earned += earned(purse);
            }
        }
    }
}

/// What of a payer's purse is neither back nor a fee.
#[must_use]
pub(crate) fn given(purse: &PurseFigures) -> i128 {
    of(purse.left) - of(purse.returned) - of(purse.fees)
}

/// What a payee redeemed, with what the mint took for it.
#[must_use]
pub(crate) fn earned(purse: &PurseFigures) -> i128 {
    of(purse.received) + of(purse.fees)
}

/// An amount that can be subtracted.
pub(crate) fn of(amount: streampay_core::units::Msat) -> i128 {
    i128::from(amount.msat())
}

fn msat(amount: Amount) -> i128 {
    i128::from(amount.to_u64()) * 1_000
}

/// What the wallet has that is set aside, by name.
struct Held(BTreeMap<PublicKey, i128>);

impl Held {
    fn of(proofs: &[ProofInfo]) -> Self {
        let aside = proofs.iter().filter(|info| {
            matches!(
                info.state,
                State::Pending | State::Reserved | State::PendingSpent
            )
        });
        Self(
            aside
                .map(|info| (info.y, msat(info.proof.amount)))
                .collect(),
        )
    }

    fn of_token(&self, line: &Transaction) -> i128 {
        line.ys.iter().filter_map(|y| self.0.get(y)).sum()
    }
}

#[cfg(test)]
mod tests;
