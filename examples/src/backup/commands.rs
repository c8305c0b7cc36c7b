//! `backup` and `restore`, of both programs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{Backup, Passphrase};
use crate::error::AppError;
use crate::ledger::history::date;
use crate::report::{Report, plain};

/// Saving everything, and getting it back.
#[derive(Debug, Subcommand)]
pub enum Vault {
    /// Save everything you own in one file, sealed with a passphrase, while nothing else runs.
    ///
    /// `age --decrypt FILE | tar x` opens it without this program. Whoever has the file and the
    /// passphrase has your money. What moves after it is made is not in it: make one when you have
    /// put money in, and when sessions are over.
    Backup {
        /// The file. Another backup under this name is replaced.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The passphrase, of 12 characters or more: `env:NAME` or `file:PATH`.
        #[arg(long, value_name = "WHERE")]
        passphrase: Passphrase,
        /// What is in it as events on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Make an empty folder (`--data`) what it was when a backup was made.
    ///
    /// Never use both, this folder and the one that was saved: they would spend the same money.
    Restore {
        /// What `backup` wrote.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The passphrase: `env:NAME` or `file:PATH`.
        #[arg(long, value_name = "WHERE")]
        passphrase: Passphrase,
        /// A mint where you put money only after the backup; may be said several times.
        #[arg(long, value_name = "URL")]
        mint: Vec<String>,
        /// Only check the file and show what is in it.
        #[arg(long)]
        list: bool,
        /// What is in it as events on stdout.
        #[arg(long)]
        json: bool,
    },
}

impl Vault {
    /// Does it, with the folder of the user.
    ///
    /// # Errors
    /// [`AppError`] with what to do next.
    pub async fn run(self, folder: &Path) -> Result<(), AppError> {
        match self {
            Self::Backup {
                file,
                passphrase,
                json,
            } => {
                let report = Report { json };
                let made = super::backup(folder, &file, &passphrase).await?;
                tell(report, "backup", &made);
                report.tell(&format!("saved in {}, and read again", file.display()));
                Ok(())
            }
            Self::Restore {
                file,
                passphrase,
                list: true,
                json,
                ..
            } => {
                tell(Report { json }, "backup", &super::look(&file, &passphrase)?);
                Ok(())
            }
            Self::Restore {
                file,
                passphrase,
                mint,
                json,
                list: false,
            } => {
                let report = Report { json };
                for mint in &mint {
                    streampay_cashu::check_mint_url(mint)?;
                }
                let made = super::restore(folder, &file, &passphrase, mint).await?;
                tell(report, "restored", &made);
                tell_bound(report, &made);
                Ok(())
            }
        }
    }
}

fn tell(report: Report, name: &str, backup: &Backup) {
    let contents = &backup.contents;
    report.say(
        name,
        json!({
            "made_unix_s": backup.made.0, "sessions": contents.sessions, "open": contents.open,
            "mints": contents.mints, "rescue_kits": contents.rescue_kits,
        }),
    );
    report.tell(&format!(
        "of {} UTC: the seeds, {} sessions, {} of them not settled, {} rescue kits, and the wallet:",
        date(backup.made),
        contents.sessions,
        contents.open.len(),
        contents.rescue_kits,
    ));
    for at in &contents.mints {
        let (spendable, pending) = (sat(at.spendable_msat), sat(at.pending_msat));
        let mint = plain(&at.mint);
        report.tell(&format!(
            "  {mint}: {spendable} spendable, {pending} pending"
        ));
    }
    if contents.mints.is_empty() {
        report.tell("  empty");
    }
}

/// What may be lost, at most, and what brings the rest back.
fn tell_bound(report: Report, backup: &Backup) {
    let contents = &backup.contents;
    let (earning, paid) = (
        contents.open.iter().filter(|open| open.earns).count(),
        contents.paid_since(),
    );
    report.say(
        "bound",
        json!({
            "made_unix_s": backup.made.0, "wallet_msat": contents.in_wallet().msat(),
            "earning_sessions": earning, "paid_since_msat": paid.msat(),
        }),
    );
    let made = date(backup.made);
    report.tell(&format!(
        "Not in it is what moved after {made} UTC. The next command that uses money, or `recover`, finds \
         at the mints what is spent since, and what the wallet itself made since: deposits, change, \
         tokens received"
    ));
    if earning > 0 {
        report.tell(&format!(
            "{earning} sessions of viewers were open: they can have paid up to {paid} more. What of it \
             was redeemed is found at the mints; the rest comes back while you `serve`, as each \
             viewer connects again and shows its receipt; what a viewer hides is lost"
        ));
    }
    report.tell(&format!(
        "Lost is what sessions that began after {made} UTC earned, and what is in their purses: what \
         such a viewer paid you, and what you put into such a purse, at most the {} of the wallet and \
         what came into it since",
        contents.in_wallet()
    ));
    report.tell("Never use the folder that was saved again, nor a copy of it");
}

fn sat(msat: u64) -> streampay_core::units::Msat {
    let most = streampay_core::units::Msat::MAX;
    streampay_core::units::Msat::new(msat).unwrap_or(most)
}
