//! What `recover` tells after it has looked at everything.

use std::time::Duration;

use cdk::mint_url::MintUrl;
use clap::Args;
use serde_json::json;
use streampay_core::units::Msat;

use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::progress::during;
use crate::report::{Next, Report};
use crate::wallet::{Finished, Recovered};

/// How long what was cut short may take to be finished at a start.
const AT_START: Duration = Duration::from_secs(10);
/// The same where that is what the user asked for.
const AT_RECOVERY: Duration = Duration::from_secs(60);

/// At the start of `serve` and `watch`: finishes in the wallet what was cut short, before a session begins.
///
/// # Errors
/// [`AppError`] where the wallet's store fails.
pub(crate) async fn start(home: &Home, report: Report) -> Result<(), AppError> {
    finish(home, report, AT_START).await
}

/// The same before `recover` closes sessions, for which what was cut short may be missing. After the mints
/// of a restored folder were asked: before that nothing is finished there.
///
/// # Errors
/// [`AppError`] where the wallet's store fails.
pub(crate) async fn before_sessions(home: &Home, report: Report) -> Result<(), AppError> {
    finish(home, report, AT_RECOVERY).await
}

async fn finish(home: &Home, report: Report, limit: Duration) -> Result<(), AppError> {
    let Finished {
        operations,
        deposited,
        left,
    } = home.wallet.finish_begun(limit).await?;
    match operations {
        0 => {}
        1 => report.tell("an operation that was cut short is finished"),
        more => report.tell(&format!(
            "{more} operations that were cut short are finished"
        )),
    }
    if !deposited.is_zero() {
        report.tell(&format!("{deposited} of paid deposits collected"));
    }
    let where_left = match left {
        0 => None,
        1 => Some("a mint waits for its answer".to_owned()),
        more => Some(format!("{more} mints wait for their answers")),
    };
    if let Some(where_left) = where_left {
        report.tell(&format!(
            "what was begun at {where_left}: `recover` goes on with it"
        ));
    }
    if operations > 0 || !deposited.is_zero() || left > 0 {
        let next = (left > 0).then_some(Next::Recover.name());
        report.say(
            "finished",
            json!({
                "operations": operations, "deposited_msat": deposited.msat(), "mints_away": left,
                "next": next,
            }),
        );
    }
    Ok(())
}

/// What the user says of money that nothing else is known of.
#[derive(Args, Clone, Debug, Default)]
pub struct Word {
    /// Also take back sent tokens that nobody has redeemed: they become worthless.
    #[arg(long)]
    take_back: bool,
    /// Nobody has paid the invoices of this mint that are over: it does not answer any more, and is asked for
    /// them no longer.
    #[arg(long, value_name = "URL", value_parser = mint)]
    unpaid: Vec<MintUrl>,
}

fn mint(url: &str) -> Result<MintUrl, String> {
    streampay_cashu::check_mint_url(url).map_err(|error| error.to_string())
}

/// Recovers the wallet and accounts for it, after what the user says.
///
/// # Errors
/// [`AppError::Unsettled`] where something waits for a mint, or `sessions_settled` is false.
pub async fn account_for(
    home: &Home,
    report: Report,
    word: &Word,
    sessions_settled: bool,
) -> Result<(), AppError> {
    if word.take_back {
        let back = home.wallet.take_back().await?;
        report.tell(&format!("{back} taken back from sent tokens"));
    }
    let asking = "asking the mints what is there";
    let mut found = during(report, asking, home.wallet.recover()).await?;
    if found.is_empty() {
        report.tell("no ecash is in the wallet now");
    }
    for at in &mut found {
        if word.unpaid.contains(&at.balance.mint) {
            home.wallet.forget_unheard(&at.unheard).await?;
            at.waiting = at.waiting.saturating_sub(at.unheard.len());
            at.unheard.clear();
        }
        tell(report, at);
    }
    let waits = |at: &Recovered| at.waiting > 0 || !at.in_purses.is_zero() || at.trouble.is_some();
    let all = !found.iter().any(waits) && sessions_settled;
    restored::end(home, report, all).await?;
    if !all {
        return Err(AppError::Unsettled);
    }
    Ok(())
}

fn tell(report: Report, at: &Recovered) {
    let balance = &at.balance;
    report.tell(&format!(
        "{}: {} spendable, {} pending",
        balance.mint, balance.spendable, balance.pending
    ));
    if let Some(trouble) = &at.trouble {
        report.tell(&format!("  {trouble}"));
    }
    let parts: [(Msat, &str); 4] = [
        (at.deposited, "of paid deposits collected"),
        (at.awaited, "of deposits whose invoices nobody has paid yet"),
        (
            at.sent,
            "in sent tokens that nobody has redeemed yet; --take-back makes them worthless",
        ),
        (
            at.in_purses,
            "in purses of sessions that are not settled, see above",
        ),
    ];
    for (amount, what) in parts.iter().filter(|(amount, _)| !amount.is_zero()) {
        report.tell(&format!("  {amount} {what}"));
    }
    let waiting = at.waiting.saturating_sub(at.unheard.len());
    if waiting > 0 {
        let what = match waiting {
            1 => "an operation waits".to_owned(),
            more => format!("{more} operations wait"),
        };
        let line = format!("  {what} for the mint: run `recover` again once it answers");
        report.tell(&line);
    }
    let unheard = (at.unheard.iter()).fold(Msat::ZERO, |sum, of| sum.saturating_plus(of.amount));
    if !at.unheard.is_empty() {
        let mint = &balance.mint;
        report.tell(&format!(
            "  {unheard} were asked for by invoices that are over; whether anybody paid them, the mint does \
             not say. Run `recover` again once it answers; if nobody did, `recover --unpaid {mint}` forgets them"
        ));
    }
    report.say(
        "wallet",
        json!({
            "mint": balance.mint.to_string(), "spendable_msat": balance.spendable.msat(),
            "pending_msat": balance.pending.msat(), "sent_msat": at.sent.msat(),
            "deposited_msat": at.deposited.msat(), "awaited_msat": at.awaited.msat(),
            "in_purses_msat": at.in_purses.msat(), "unheard_msat": unheard.msat(), "waiting": at.waiting,
            "trouble": at.trouble,
        }),
    );
}
