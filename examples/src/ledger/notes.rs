//! Lines that we add to a wallet's book: what cdk 0.18 does itself and does not write down.
//!
//! Each is written before what it tells of, under a name that follows from the operation's, and
//! counts only where the operation's own line says that it happened. So a crash between the two
//! neither loses nor doubles it.

use std::collections::{BTreeMap, HashMap};

use cdk::Amount;
use cdk::wallet::Wallet;
use cdk::wallet::types::{Transaction, TransactionDirection, TransactionStatus};
use uuid::Uuid;

/// What a line of ours tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// What comes back from a token that is taken back, net of the mint's fee.
    TakenBack,
    /// What the mint takes for the exact amount of a withdrawal, before it is paid.
    SwapFee,
    /// What a book that was restored from a backup does not know of: there is so much more at its
    /// mint (incoming), or less (outgoing).
    SinceBackup,
}

const KIND: &str = "streampay-note";
const OF: &str = "streampay-note-of";

impl Note {
    const fn name(self) -> &'static str {
        match self {
            Self::TakenBack => "taken-back",
            Self::SwapFee => "swap-fee",
            Self::SinceBackup => "since-backup",
        }
    }

    /// True for a line of ours.
    pub(crate) fn is_one(line: &Transaction) -> bool {
        line.metadata.contains_key(KIND)
    }

    /// Writes the line of `operation`. The same again replaces it.
    ///
    /// # Errors
    /// Where the wallet cannot be written.
    pub(crate) async fn write(
        self,
        wallet: &Wallet,
        operation: Uuid,
        amount: Amount,
    ) -> Result<(), cdk_common::database::Error> {
        let direction = TransactionDirection::Incoming;
        self.write_line(wallet, operation, direction, amount).await
    }

    /// Writes what a restored book does not know of, in whole satoshi.
    ///
    /// # Errors
    /// Where the wallet cannot be written.
    pub(crate) async fn write_since(
        wallet: &Wallet,
        operation: Uuid,
        msat: i128,
    ) -> Result<(), cdk_common::database::Error> {
        let direction = match msat < 0 {
            true => TransactionDirection::Outgoing,
            false => TransactionDirection::Incoming,
        };
        let sat = u64::try_from(msat.unsigned_abs() / 1_000).unwrap_or(u64::MAX);
        let since = Self::SinceBackup;
        since
            .write_line(wallet, operation, direction, sat.into())
            .await
    }

    /// True for this line of `operation`.
    pub(crate) fn is_of(self, line: &Transaction, operation: Uuid) -> bool {
        line.saga_id == Some(self.line_id(operation))
    }

    /// What a restored book does not know of, where `line` says so, in millisatoshi.
    pub(crate) fn since_backup(line: &Transaction) -> Option<i128> {
        let is_it = line.metadata.get(KIND).map(String::as_str) == Some(Self::SinceBackup.name());
        let amount = i128::from(line.amount.to_u64()) * 1_000;
        is_it.then_some(match line.direction {
            TransactionDirection::Incoming => amount,
            TransactionDirection::Outgoing => -amount,
        })
    }

    async fn write_line(
        self,
        wallet: &Wallet,
        operation: Uuid,
        direction: TransactionDirection,
        amount: Amount,
    ) -> Result<(), cdk_common::database::Error> {
        let line = Transaction {
            mint_url: wallet.mint_url.clone(),
            direction,
            amount,
            fee: Amount::ZERO,
            unit: wallet.unit.clone(),
            ys: Vec::new(),
            timestamp: cdk::util::unix_time(),
            memo: None,
            metadata: HashMap::from([
                (KIND.to_owned(), self.name().to_owned()),
                (OF.to_owned(), operation.to_string()),
            ]),
            quote_id: None,
            payment_request: None,
            payment_proof: None,
            payment_method: None,
            saga_id: Some(self.line_id(operation)),
            status: TransactionStatus::Completed,
        };
        wallet.localstore.add_transaction(line).await
    }

    /// cdk names a line by its saga; this one has none of its own. Version 8 of RFC 9562 is for
    /// names that mean something to their maker alone.
    fn line_id(self, operation: Uuid) -> Uuid {
        let mut bytes = *operation.as_bytes();
        for (byte, of_kind) in bytes.iter_mut().zip(self.name().bytes().cycle()) {
            *byte ^= of_kind;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// All lines of ours in a book, by the operation that they tell of.
pub(crate) struct Notes(BTreeMap<(String, String), i128>);

impl Notes {
    pub(crate) fn of(lines: &[Transaction]) -> Self {
        let notes = lines.iter().filter_map(|line| {
            let kind = line.metadata.get(KIND)?.clone();
            let of = line.metadata.get(OF)?.clone();
            let amount = i128::from(line.amount.to_u64()) * 1_000;
            Some(((kind, of), amount))
        });
        Self(notes.collect())
    }

    /// What came back of the token that `line` tells of.
    pub(crate) fn taken_back(&self, line: &Transaction) -> Option<i128> {
        self.find(Note::TakenBack, line)
    }

    /// What making the exact amount cost for the payment that `line` tells of.
    pub(crate) fn swap_fee(&self, line: &Transaction) -> i128 {
        self.find(Note::SwapFee, line).unwrap_or_default()
    }

    fn find(&self, note: Note, line: &Transaction) -> Option<i128> {
        let of = line.saga_id?.to_string();
        self.0.get(&(note.name().to_owned(), of)).copied()
    }
}
