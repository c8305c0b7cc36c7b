//! `split`, for a person and for a program.

use clap::Args;
use serde_json::json;
use streampay_core::units::Msat;

use super::{Heard, PartState, Payout, Share, answer, finish, give_up, pay};
use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::history::date;
use crate::price::amount;
use crate::progress::during;
use crate::report::{Report, ask, plain};

/// What is paid out, and to whom.
#[derive(Args, Debug)]
pub struct Split {
    /// How much, such as 1000sat; fees come on top. Without it, the payout that was cut short goes
    /// on.
    #[arg(value_name = "AMOUNT", value_parser = amount, requires = "to")]
    amount: Option<Msat>,
    /// A receiver and its weight, such as name@example.com=70; said once for each. What a weight
    /// buys is rounded down to whole satoshi, and the rest goes to those who lost most by that.
    #[arg(long, value_name = "ADDRESS=WEIGHT", requires = "amount")]
    to: Vec<Share>,
    /// From which mint, if you have money at several.
    #[arg(long, value_name = "URL")]
    mint: Option<String>,
    /// The most that the fees of one payment may come to. Without it a twentieth, or 10sat if that is
    /// more.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    max_fee: Option<Msat>,
    /// Agree without being asked.
    #[arg(long)]
    yes: bool,
    /// In a folder that was restored: this receiver says that it was paid since the backup.
    #[arg(long, value_name = "ADDRESS")]
    was_paid: Vec<String>,
    /// In a folder that was restored: this receiver says that it was not paid, and is paid now.
    #[arg(long, value_name = "ADDRESS")]
    not_paid: Vec<String>,
    /// Give up what is not paid of the payout that was cut short, such as to an address that is none.
    #[arg(long)]
    give_up: bool,
    /// Only show what was paid out.
    #[arg(long, conflicts_with_all = ["amount", "to", "was_paid", "not_paid", "give_up"])]
    list: bool,
    /// One receiver a line on stdout.
    #[arg(long)]
    json: bool,
}

impl Split {
    /// Does it.
    ///
    /// # Errors
    /// [`AppError`] with what to do next.
    pub async fn run(self, home: &Home) -> Result<(), AppError> {
        let (wallet, report) = (&home.wallet, Report { json: self.json });
        if self.list {
            let all = Payout::all(wallet)?;
            all.iter().for_each(|payout| tell(report, payout));
            return Ok(());
        }
        restored::ready(home, report, false).await?;
        answer(wallet, &self.was_paid, Heard::Paid)?;
        answer(wallet, &self.not_paid, Heard::NotPaid)?;
        if self.give_up {
            match give_up(wallet)? {
                Some(given_up) => tell(report, &given_up),
                None => report.tell("no payout was cut short"),
            }
            if self.amount.is_none() {
                return Ok(());
            }
        }
        // What was begun comes first: its money is planned.
        let begun = during(report, "paying", finish(wallet, self.max_fee)).await?;
        if let Some(begun) = &begun {
            tell(report, begun);
        }
        let Some(amount) = self.amount else {
            if begun.is_none() {
                report.tell("no payout was cut short");
            }
            return Ok(());
        };
        let mint = wallet.source(self.mint.as_deref()).await?;
        let amounts = super::apportion(amount.sat_floor(), &self.to)?;
        let lines = self.to.iter().zip(amounts);
        let lines: Vec<String> = lines
            .map(|(share, sat)| format!("{sat} sat to {}", plain(&share.to)))
            .collect();
        let offer = format!(
            "{amount} from {}: {}; fees on top",
            plain(&mint),
            lines.join(", ")
        );
        if self.yes {
            report.tell(&offer);
        } else {
            let otherwise = "nobody can be asked here: say --yes to agree";
            ask(&format!("{offer}. Pay?"), otherwise)?;
        }
        let mut payout = Payout::plan(wallet, amount, mint, &self.to)?;
        let paid = during(report, "paying", pay(wallet, &mut payout, self.max_fee)).await;
        tell(report, &payout);
        paid
    }
}

fn tell(report: Report, payout: &Payout) {
    let began = date(streampay_core::units::Unix(payout.began_unix_s));
    let (number, mint) = (payout.number, plain(&payout.mint));
    report.tell(&format!(
        "payout {number} of {began} UTC: {} sat from {mint}",
        payout.amount_sat
    ));
    for part in &payout.parts {
        let (state, fees, preimage) = match &part.state {
            PartState::Planned => ("planned", None, None),
            PartState::Paying { .. } => ("paying", None, None),
            PartState::Paid {
                fees_msat,
                preimage,
            } => ("paid", Some(*fees_msat), preimage.as_deref()),
            PartState::Doubtful { .. } => ("doubtful", None, None),
            PartState::Vouched => ("vouched", None, None),
            PartState::Dropped => ("dropped", None, None),
        };
        report.say(
            "payout",
            json!({
                "payout": number, "began_unix_s": payout.began_unix_s, "mint": payout.mint,
                "to": part.to, "weight": part.weight, "amount_msat": part.amount_sat.saturating_mul(1_000),
                "state": state, "fees_msat": fees, "preimage": preimage,
            }),
        );
        let words = match &part.state {
            PartState::Planned => "not paid: `split` again goes on, `split --give-up` does not",
            PartState::Paying { .. } => "not known yet: `split` again asks",
            PartState::Paid { .. } => "paid",
            PartState::Doubtful { .. } => "may have been paid since the backup: ask them",
            PartState::Vouched => "paid, as you said",
            PartState::Dropped => "given up; nothing was paid",
        };
        let to = plain(&part.to);
        report.tell(&format!("  {} sat to {to}: {words}", part.amount_sat));
    }
}
