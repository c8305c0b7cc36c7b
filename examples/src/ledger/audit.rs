//! Whether every millisatoshi is where the books say.
//!
//! Two books are kept by two programs in two files: the sessions' records, by our core, and the
//! wallet's, by cdk. Each must balance by itself, and both must agree on every purse.

use std::collections::{BTreeMap, BTreeSet};

use cdk::mint_url::MintUrl;
use serde_json::json;
use streampay_cashu::{PurseFigures, purse_name};
use streampay_core::session::SessionLedger;
use streampay_core::units::{Msat, PurseKey, SessionId, Unix};
use uuid::Uuid;

use super::Ledger;
use super::cash::{Cash, given};
use super::purse::{self, Channels, Purse};
use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::pay::Pay;
use crate::report::Report;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// The wallet's book at each mint.
    pub mints: BTreeMap<MintUrl, Cash>,
    /// Sessions that were looked at.
    pub sessions: usize,
    /// Those whose money is not home yet.
    pub unsettled: usize,
    /// Part of what was given, over all mints: still in purses that are not home.
    pub in_purses: i128,
    /// What does not fit, and where.
    pub findings: Vec<Finding>,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The mint, or the session and its purse.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// By how much, in millisatoshi: what the books have more than there is.
    pub msat: i128,
}

/// Looks at everything in the home's books. Asks nobody, changes nothing.
///
/// # Errors
/// [`AppError`] where they cannot be read.
pub async fn audit(home: &Home) -> Result<Audit, AppError> {
    let Ledger {
        sessions,
        unreadable,
        ..
    } = super::read(home).await?;
    let book = match &home.channels {
        Some(channels) => Some((channels.book(home).await?, channels.has_fee_wallet())),
        None => None,
    };
    let channels = (book.as_ref()).map(|(all, has_fee_wallet)| Channels {
        all,
        has_fee_wallet: *has_fee_wallet,
    });
    let named = sessions.iter().flat_map(purse::mints_to_redeem_at);
    let mints = Cash::of(home, named.collect()).await?;
    let restored = restored::at(home.wallet.folder())?;
    let mut audit = check(&sessions, channels, mints, restored);
    audit.of_unreadable(&unreadable);
    Ok(audit)
}

/// The same of books that were read, in a folder that was made from a backup at `restored`; no `channels`
/// where nothing says on which chain they are.
pub(super) fn check(
    sessions: &[SessionLedger],
    channels: Option<Channels<'_>>,
    mints: BTreeMap<MintUrl, Cash>,
    restored: Option<Unix>,
) -> Audit {
    let mut audit = Audit {
        sessions: sessions.len(),
        unsettled: sessions.iter().filter(|of| !of.settled).count(),
        ..Audit::default()
    };
    for (mint, cash) in &mints {
        audit.of_mint(mint, cash);
    }
    let mut known = BTreeSet::new();
    for session in sessions {
        let is_older = |at: Unix| session.began.is_none_or(|began| began <= at);
        let is_older = restored.is_some_and(is_older);
        for row in &session.purses {
            let key = PurseKey {
                session: session.session,
                purse: row.purse,
            };
            let purse = Purse { session, row };
            let wrong = if row.method == Pay::Btc.method() {
                purse::channel(&purse, key, channels)
            } else {
                let name = purse_name(key);
                known.insert(name);
                let (at, figures) = figures(&mints, name);
                let anywhere = mints.iter().map(|(mint, cash)| (mint, cash.ppk));
                if !row.home {
                    audit.in_purses += given(&figures).max(0);
                }
                purse::ecash(&purse, &figures, at, anywhere)
            };
            let at = format!("session {} purse {}", session.session, row.purse.0);
            let wrong = wrong.into_iter();
            let wrong = wrong.filter(|(what, _)| !(is_older && purse::may_be_lost(what)));
            audit.findings.extend(wrong.map(|(what, msat)| {
                let (at, what) = (at.clone(), what.to_owned());
                Finding { at, what, msat }
            }));
        }
    }
    audit.of_unknown(&mints, &known);
    audit.mints = mints;
    audit
}

/// What the wallet's book has of a purse, at which mint, and that one's input fee.
fn figures(mints: &BTreeMap<MintUrl, Cash>, name: Uuid) -> (Option<(&MintUrl, u64)>, PurseFigures) {
    let found = mints.iter().find_map(|(mint, cash)| {
        let figures = cash.purses.get(&name)?;
        Some((Some((mint, cash.ppk)), *figures))
    });
    found.unwrap_or_default()
}

impl Audit {
    /// True where all fits.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.findings.is_empty()
    }

    fn of_mint(&mut self, mint: &MintUrl, cash: &Cash) {
        let msat = cash.difference();
        if msat != 0 {
            self.findings.push(Finding {
                at: mint.to_string(),
                what: "what came less what went is not what is there".to_owned(),
                msat,
            });
        }
    }

    fn of_unreadable(&mut self, unreadable: &[SessionId]) {
        self.sessions = self.sessions.saturating_add(unreadable.len());
        self.unsettled = self.unsettled.saturating_add(unreadable.len());
        self.findings.extend(unreadable.iter().map(|id| Finding {
            at: format!("session {id}"),
            what: "its records cannot be read, and nothing is known of its money".to_owned(),
            msat: 0,
        }));
    }

    fn of_unknown(&mut self, mints: &BTreeMap<MintUrl, Cash>, known: &BTreeSet<Uuid>) {
        let purses = mints
            .iter()
            .flat_map(|(mint, cash)| cash.purses.iter().map(move |of| (mint, of)));
        // Nothing is missing of what was only tried at a mint, for its fees.
        let is_home = |of: &PurseFigures| given(of) == 0 && of.received.is_zero();
        let unknown = purses.filter(|(_, (name, of))| !known.contains(name) && !is_home(of));
        self.findings.extend(unknown.map(|(mint, (name, figures))| {
            let moved = figures.left.saturating_plus(figures.received);
            Finding {
                at: format!("{mint}, purse {name}"),
                what: "the wallet has a purse of a session that has no records".to_owned(),
                msat: super::cash::of(moved),
            }
        }));
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// [`AppError::Unbalanced`] where something does not fit.
    pub fn tell(&self, report: Report) -> Result<(), AppError> {
        for (mint, cash) in self.mints.iter().filter(|(_, cash)| !cash.is_empty()) {
            tell_mint(report, mint, cash);
        }
        for finding in &self.findings {
            report.say(
                "finding",
                json!({"at": finding.at, "what": finding.what, "msat": json_msat(finding.msat)}),
            );
            report.tell(&format!(
                "{}: {} ({})",
                finding.at,
                finding.what,
                signed(finding.msat)
            ));
        }
        report.say(
            "audit",
            json!({
                "balances": self.balances(), "sessions": self.sessions,
                "unsettled": self.unsettled, "in_purses_msat": json_msat(self.in_purses),
                "findings": self.findings.len(),
            }),
        );
        if self.unsettled > 0 {
            // A channel's money is in no wallet's book.
            let ecash = match self.in_purses {
                0 => String::new(),
                msat => format!(", {} of ecash in their purses", signed(msat)),
            };
            report.tell(&format!(
                "{} of {} sessions are not settled{ecash}: `recover` brings that home",
                self.unsettled, self.sessions,
            ));
        }
        if self.balances() {
            let count = |count: usize, one: &str| match count {
                1 => format!("1 {one}"),
                more => format!("{more} {one}s"),
            };
            report.tell(&format!(
                "all of it balances: {}, {}",
                count(self.sessions, "session"),
                count(self.mints.len(), "mint"),
            ));
            return Ok(());
        }
        Err(AppError::Unbalanced)
    }
}

fn tell_mint(report: Report, mint: &MintUrl, cash: &Cash) {
    report.say(
        "mint",
        json!({
            "mint": mint.to_string(),
            "deposited_msat": json_msat(cash.deposited), "received_msat": json_msat(cash.received),
            "earned_msat": json_msat(cash.earned),
            "since_backup_msat": json_msat(cash.since_backup), "given_msat": json_msat(cash.given),
            "withdrawn_msat": json_msat(cash.withdrawn), "sent_msat": json_msat(cash.sent),
            "tokens_msat": json_msat(cash.tokens), "fees_msat": json_msat(cash.fees),
            "spendable_msat": json_msat(cash.spendable), "pending_msat": json_msat(cash.pending),
            "difference_msat": json_msat(cash.difference()),
        }),
    );
    let parts = |of: &[(i128, &str)]| {
        let some = of.iter().filter(|(msat, _)| *msat != 0);
        let some: Vec<_> = some
            .map(|(msat, what)| format!("{} {what}", signed(*msat)))
            .collect();
        match some.is_empty() {
            true => "nothing".to_owned(),
            false => some.join(" + "),
        }
    };
    let came = parts(&[
        (cash.deposited, "deposited"),
        (cash.received, "received"),
        (cash.earned, "earned"),
        (cash.since_backup.max(0), "more than the backup knew"),
    ]);
    let went = parts(&[
        (cash.spendable, "spendable"),
        (cash.pending, "held"),
        (cash.tokens, "in tokens"),
        (cash.given, "given to streamers or in purses"),
        (cash.withdrawn, "withdrawn"),
        (cash.sent, "sent"),
        (cash.fees, "of fees"),
        (-cash.since_backup.min(0), "gone since the backup"),
    ]);
    let sign = if cash.difference() == 0 {
        "="
    } else {
        "is not"
    };
    report.tell(&format!("{mint}: {came} {sign} {went}"));
}

/// As amounts are told, with a sign.
fn signed(msat: i128) -> String {
    let amount = u64::try_from(msat.unsigned_abs()).unwrap_or(u64::MAX);
    let amount = Msat::new(amount).unwrap_or(Msat::MAX);
    let sign = if msat < 0 { "-" } else { "" };
    format!("{sign}{amount}")
}

/// As a number in JSON.
fn json_msat(msat: i128) -> i64 {
    let most = if msat < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(msat).unwrap_or(most)
}
