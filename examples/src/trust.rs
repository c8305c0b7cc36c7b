//! Looking at a mint before a session rests on it: what it says of itself, and once for each of its
//! keysets what it does with ecash that somebody else tries to take.

use core::mem::discriminant;

use cdk_common::util::unix_time;
use streampay_cashu::{AcceptedMint, MintFault, MintPolicy};
use streampay_core::units::Msat;

use crate::error::AppError;
use crate::home::Home;
use crate::pay::Pay;
use crate::quote::Costs;
use crate::report::{Next, Report};
use crate::wallet::{LockKind, WalletError};

/// How long a trial of a mint's locks stands while serving, whatever its keysets, in seconds.
const TRIED_FOR_S: u64 = 3_600;

const fn nuts(pay: Pay) -> &'static [u8] {
    match pay {
        Pay::Chain => MintPolicy::CHAIN,
        Pay::P2pk => MintPolicy::P2PK,
        Pay::Swap => MintPolicy::SWAP,
        Pay::Btc => &[],
    }
}

const fn lock(pay: Pay) -> Option<LockKind> {
    match pay {
        Pay::Chain => Some(LockKind::Htlc),
        Pay::P2pk => Some(LockKind::P2pk),
        Pay::Swap | Pay::Btc => None,
    }
}

/// Payer: before a first payment by `costs`. What trying the mint took from the wallet.
///
/// # Errors
/// [`AppError::UnfitMint`] where nothing should be paid there; those of the wallet.
pub async fn before_paying(home: &Home, costs: &Costs, report: Report) -> Result<Msat, AppError> {
    let mint = &costs.mint;
    match look(home, mint, nuts(costs.pay)).await? {
        Some(Some(fault)) => return Err(unfit(mint, fault)),
        Some(None) => {}
        // The session asks it again.
        None => return Ok(Msat::ZERO),
    }
    let Some(kind) = lock(costs.pay) else {
        return Ok(Msat::ZERO);
    };
    match tried(home, mint, kind, Look::First, report).await? {
        (Some(false), _) => Err(unfit(mint, MintFault::Locks)),
        (_, cost) => Ok(cost),
    }
}

/// What looking at a mint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is known against it.
    Fit,
    /// It does not answer; nothing was known against it before.
    Away,
    /// Nobody should be paid there.
    Unfit(MintFault),
}

impl Verdict {
    /// Whether somebody who knows `before` should hear of it.
    pub(crate) fn is_news_after(self, before: Self) -> bool {
        match (before, self) {
            // By how many seconds a clock is off changes all the time.
            (Self::Unfit(before), Self::Unfit(now)) => discriminant(&before) != discriminant(&now),
            (before, now) => before != now,
        }
    }

    /// Says it of `mint`.
    pub(crate) fn tell(self, mint: &str, report: Report) {
        match self {
            Self::Fit => {
                report.tell(&format!("{mint} is fit: you can be paid there"));
                report.say("mint_fit", serde_json::json!({"mint": mint}));
            }
            Self::Away => {
                report.tell(&format!(
                    "the mint at {mint} does not answer. Until it does, nobody can pay there"
                ));
                let next = Next::TriesAgain.name();
                report.say("mint_away", serde_json::json!({"mint": mint, "next": next}));
            }
            Self::Unfit(fault) => {
                report.tell(&format!(
                    "{mint} is left out: {fault}. Nobody can pay you there"
                ));
                report.say(
                    "mint_left_out",
                    serde_json::json!({"mint": mint, "why": fault.to_string()}),
                );
            }
        }
    }
}

/// When a mint is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// For the first time: what is not known yet is tried, or said.
    First,
    /// Again, while serving: what changes by itself costs little.
    Again,
}

/// What the least demanding of `pay` needs, for the others a session finds another mint, or way;
/// none without ecash.
fn needed(pay: &[Pay]) -> Option<&'static [u8]> {
    let ecash = pay.iter().copied().filter(|pay| pay.is_ecash());
    ecash.map(nuts).min_by_key(|nuts| nuts.len())
}

/// A mint that a streamer lists, and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which, and its price.
    pub mint: AcceptedMint,
    /// Why nobody can pay there now, if so. It is looked at again while serving.
    pub fault: Option<MintFault>,
}

impl From<AcceptedMint> for Listed {
    /// One of which nothing bad is known.
    fn from(mint: AcceptedMint) -> Self {
        Self { mint, fault: None }
    }
}

/// Those that may be offered.
#[must_use]
pub fn fit(listed: &[Listed]) -> Vec<AcceptedMint> {
    let fit = listed.iter().filter(|listed| listed.fault.is_none());
    fit.map(|listed| listed.mint.clone()).collect()
}

/// Payee: which of `mints` may be offered for `pay`. It is told which are left out, and why.
///
/// # Errors
/// [`AppError::UnfitMint`] where none is left; those of the wallet.
pub async fn before_serving(
    home: &Home,
    mints: Vec<AcceptedMint>,
    pay: &[Pay],
    report: Report,
) -> Result<Vec<Listed>, AppError> {
    let (mut listed, mut last) = (Vec::new(), None);
    for mint in mints {
        let verdict = judge(home, mint.url(), pay, Look::First, report).await?;
        if verdict != Verdict::Fit {
            verdict.tell(mint.url(), report);
        }
        let fault = match verdict {
            Verdict::Fit | Verdict::Away => None,
            Verdict::Unfit(fault) => {
                last = Some(unfit(mint.url(), fault));
                Some(fault)
            }
        };
        listed.push(Listed { mint, fault });
    }
    match last {
        Some(unfit) if fit(&listed).is_empty() => Err(unfit),
        _ => Ok(listed),
    }
}

/// Payee: whether `mint` may be offered for `pay`.
///
/// # Errors
/// Those of the wallet.
pub(crate) async fn judge(
    home: &Home,
    mint: &str,
    pay: &[Pay],
    when: Look,
    report: Report,
) -> Result<Verdict, AppError> {
    let Some(needed) = needed(pay) else {
        return Ok(Verdict::Fit);
    };
    match look(home, mint, needed).await? {
        Some(None) => {}
        Some(Some(fault)) => return Ok(Verdict::Unfit(fault)),
        None if home.wallet.trusts_locks_at(mint) => return Ok(Verdict::Away),
        None => return Ok(Verdict::Unfit(MintFault::Locks)),
    }
    for kind in pay.iter().copied().filter_map(lock) {
        if when == Look::Again && was_tried_lately(home, mint, kind) {
            continue;
        }
        if let (Some(false), _) = tried(home, mint, kind, when, report).await? {
            return Ok(Verdict::Unfit(MintFault::Locks));
        }
    }
    // Tried by now or long ago, and broken for whatever is locked.
    let locks = pay.iter().copied().any(|pay| lock(pay).is_some());
    match !locks || home.wallet.trusts_locks_at(mint) {
        true => Ok(Verdict::Fit),
        false => Ok(Verdict::Unfit(MintFault::Locks)),
    }
}

/// A trial costs fees: a mint that changes its keys all the time shall not be paid for that.
fn was_tried_lately(home: &Home, mint: &str, kind: LockKind) -> bool {
    let tried = home.wallet.last_try_of(mint, kind);
    let since = tried.map(|tried| unix_time().saturating_sub(tried.at));
    since.is_some_and(|since| since < TRIED_FOR_S)
}

/// What is first wrong with a mint by its own word; none where it does not answer.
async fn look(
    home: &Home,
    mint: &str,
    nuts: &'static [u8],
) -> Result<Option<Option<MintFault>>, AppError> {
    match home.wallet.faults_of(mint, nuts).await {
        Ok(faults) => Ok(Some(faults.first().copied())),
        Err(WalletError::Untried(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a mint's locks hold, where that could be found out, and what finding out has cost now.
async fn tried(
    home: &Home,
    mint: &str,
    kind: LockKind,
    when: Look,
    report: Report,
) -> Result<(Option<bool>, Msat), AppError> {
    let wallet = &home.wallet;
    if let Ok(Some(known)) = wallet.known_of(mint, kind).await {
        return Ok((Some(known.hold), Msat::ZERO));
    }
    let before = wallet.spendable(mint).await?;
    if before.is_zero() {
        if when == Look::Again {
            return Ok((None, Msat::ZERO));
        }
        report.tell(&format!(
            "whether {mint} keeps {} is not tried yet: that takes a little of your own money there",
            locks(kind),
        ));
        let why = "it takes money there";
        report.say(
            "locks_tried",
            serde_json::json!({"mint": mint, "hold": null, "cost_msat": 0, "why": why}),
        );
        return Ok((None, Msat::ZERO));
    }
    let tried = wallet.try_locks(mint, kind).await;
    let cost = before.saturating_minus(wallet.spendable(mint).await?);
    let mut why = None;
    let hold = match tried {
        Ok(tried) => Some(tried.hold),
        Err(
            error @ (WalletError::Untried(_)
            | WalletError::Unasked(_)
            | WalletError::InsufficientFunds(..)),
        ) => {
            report.tell(&format!("the locks of {mint} are not tried: {error}"));
            why = Some(error.to_string());
            None
        }
        Err(error) => return Err(error.into()),
    };
    if hold == Some(true) {
        report.tell(&format!(
            "{mint} keeps {}: tried once, for {cost} of its fees",
            locks(kind),
        ));
    }
    report.say(
        "locks_tried",
        serde_json::json!({"mint": mint, "hold": hold, "cost_msat": cost.msat(), "why": why}),
    );
    Ok((hold, cost))
}

/// What is locked for each way to pay, for a person.
const fn locks(kind: LockKind) -> &'static str {
    match kind {
        LockKind::Htlc => "what is locked by a hash (chain)",
        LockKind::P2pk => "what is locked to a key (p2pk)",
    }
}

fn unfit(mint: &str, fault: MintFault) -> AppError {
    AppError::UnfitMint {
        mint: mint.to_owned(),
        fault,
    }
}
