//! `doctor`: looks at everything that a session rests on, and says what to do where it is not well.

mod clock;
mod disk;
mod money;
mod net;
#[cfg(test)]
mod tests;

use std::path::Path;

use clap::Args;
use serde_json::json;
use streampay_cashu::AcceptedMint;

use crate::channel::settings::BitcoinArgs;
use crate::error::AppError;
use crate::pay;
use crate::report::{Report, plain, show_line};
use crate::streamer::network::Network;
use crate::wallet::MintLimits;

/// What to look at, beside the folder, its disk and what it names.
#[derive(Args, Debug)]
pub struct Doctor {
    /// A mint to look at, beside those where there is money in the folder; several times for
    /// several.
    #[arg(long, value_name = "URL", value_parser = pay::accepted_mint)]
    mint: Vec<AcceptedMint>,
    /// The most that a mint may take for a proof, in thousandths of a satoshi: one that takes more is
    /// warned of. URL=PPK is for one mint alone; without it 1000.
    #[arg(long, value_name = "PPK", value_parser = pay::limit_ppk)]
    max_fee_ppk: Vec<pay::Limit<u64>>,
    #[command(flatten)]
    bitcoin: BitcoinArgs,
    #[command(flatten)]
    network: Network,
    /// One finding a line on stdout, the last one the sums.
    #[arg(long)]
    json: bool,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// `folder`, `disk`, `clock`, `mint`, `chain`, `udp` or `stun`.
    what: &'static str,
    state: State,
    found: String,
    /// What to do, where it is not well.
    advice: &'static str,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, State::Ok, found, "")
    }

    fn warn(what: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self::new(what, State::Warn, found, advice)
    }

    fn fail(what: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self::new(what, State::Fail, found, advice)
    }

    fn new(
        what: &'static str,
        state: State,
        found: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self {
            what,
            state,
            found: plain(&found.into()),
            advice,
        }
    }

    fn line(&self) -> String {
        let advice = match self.advice {
            "" => String::new(),
            advice => format!("\n             {advice}"),
        };
        let (state, what) = (self.state.word(), self.what);
        format!("{state:<5} {what:<6} {}{advice}", self.found)
    }
}

impl Doctor {
    /// Looks at everything, in the folder `data` too. Changes nothing that is the user's.
    ///
    /// # Errors
    /// [`AppError::Unwell`] where something will not work as it is.
    pub async fn run(self, data: &Path) -> Result<(), AppError> {
        let report = Report { json: self.json };
        let mut sums = (0_u64, 0_u64, 0_u64);
        let mut tell = |findings: Vec<Finding>| {
            for finding in findings {
                show(report, &finding);
                let sum = match finding.state {
                    State::Ok => &mut sums.0,
                    State::Warn => &mut sums.1,
                    State::Fail => &mut sums.2,
                };
                *sum = sum.saturating_add(1);
            }
        };
        let (folder, known) = disk::folder(data).await;
        tell(folder);
        tell(disk::disk(data));
        let said = self.mint.iter().map(|mint| mint.url().to_owned());
        let mut mints: Vec<String> = said.chain(known).collect();
        mints.sort();
        mints.dedup();
        let limits = self.limits();
        for mint in &mints {
            tell(money::mint(mint, limits).await);
        }
        if mints.is_empty() {
            let none = "none is named, and there is no money at any";
            tell(vec![Finding::warn("mint", none, "name one with --mint")]);
        }
        tell(clock::clock(&mints).await);
        tell(money::chain(data, &self.bitcoin).await);
        tell(net::udp_and_stun(self.network.config()).await);
        let (ok, warn, fail) = sums;
        report.say("checked", json!({"ok": ok, "warn": warn, "fail": fail}));
        if fail > 0 {
            return Err(AppError::Unwell);
        }
        Ok(())
    }

    fn limits(&self) -> MintLimits {
        pay::limits(&self.max_fee_ppk, &[], &[])
    }
}

fn show(report: Report, finding: &Finding) {
    if !report.json {
        show_line(finding.line());
    }
    let advice = (!finding.advice.is_empty()).then_some(finding.advice);
    report.say(
        "check",
        json!({
            "what": finding.what, "state": finding.state.word(), "found": finding.found,
            "advice": advice,
        }),
    );
}
