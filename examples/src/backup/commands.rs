//! `backup` and `restore`, of both programs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::Backup;
use crate::error::AppError;
use crate::ledger::history::date;
use crate::report::{Report, plain, show_line};
use crate::secret::SecretPlace;
use crate::seed_words::SeedWords;

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
        /// The passphrase, one line of 12 characters or more: `env:NAME`, or `file:PATH` of a file that only
        /// you can read.
        #[arg(long, value_name = "WHERE")]
        passphrase: SecretPlace,
        /// What is in it as events on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Show the twelve words that bring back who you are and ecash that your wallet made: for paper.
    ///
    /// That is deposits, tokens received and change. Not what was earned, or came home from sessions,
    /// until it was moved, nor sessions that are open: those are in a `backup` alone. Whoever has the
    /// words has your money.
    Words,
    /// Make an empty folder (`--data`) what it was when a backup was made, or what its words say.
    ///
    /// Never use both, this folder and the one that was saved: they would spend the same money.
    Restore {
        /// What `backup` wrote.
        #[arg(
            value_name = "FILE",
            required_unless_present = "words",
            requires = "passphrase"
        )]
        file: Option<PathBuf>,
        /// The passphrase: `env:NAME`, or `file:PATH` of a file that only you can read.
        #[arg(long, value_name = "WHERE", requires = "file")]
        passphrase: Option<SecretPlace>,
        /// Where the twelve words are, where there is no backup: `env:NAME`, or `file:PATH` of a file that
        /// only you can read. The wallet's ecash is looked for at each `--mint`.
        #[arg(long, value_name = "WHERE", conflicts_with_all = ["file", "list"], requires = "mint")]
        words: Option<SecretPlace>,
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
            Self::Words => show_words(folder),
            Self::Restore {
                file,
                passphrase,
                words,
                mint,
                list,
                json,
            } => {
                let report = Report { json };
                for mint in &mint {
                    streampay_cashu::check_mint_url(mint)?;
                }
                match (file.zip(passphrase), words) {
                    (Some((file, passphrase)), _) if list => {
                        tell(report, "backup", &super::look(&file, &passphrase)?);
                    }
                    (Some((file, passphrase)), _) => {
                        let made = super::restore(folder, &file, &passphrase, mint).await?;
                        tell(report, "restored", &made);
                        tell_bound(report, &made);
                    }
                    (None, Some(words)) => {
                        super::restore_words(folder, &words, mint)?;
                        tell_of_words(report);
                    }
                    (None, None) => {
                        return Err(AppError::Usage("say FILE and --passphrase, or --words"));
                    }
                }
                Ok(())
            }
        }
    }
}

fn show_words(folder: &Path) -> Result<(), AppError> {
    let words = SeedWords::of(folder).map_err(AppError::io("the words cannot be read"))?;
    let without =
        "there are no words: no folder of yours, or one of before there were any. Use `backup`";
    let words = words.ok_or_else(|| AppError::file(folder, without))?;
    Report { json: false }.tell(
        "whoever has these words has your money. They bring back deposits, tokens received and \
         change; what was earned or came home from sessions is in a `backup` alone",
    );
    show_line(&*words.text());
    Ok(())
}

fn tell_of_words(report: Report) {
    report.say(
        "restored",
        json!({
            "made_unix_s": null, "sessions": 0, "open": [], "mints": [], "rescue_kits": 0,
            "unreadable": [],
        }),
    );
    report.tell(
        "you are who you were, and the wallet's seed is there. The next command that uses money, or \
         `recover`, looks for its ecash at the mints that you named. What was earned, or came home from \
         sessions, is not in words; never use another folder with the same words beside this one",
    );
}

fn tell(report: Report, name: &str, backup: &Backup) {
    let contents = &backup.contents;
    report.say(
        name,
        json!({
            "made_unix_s": backup.made.0, "sessions": contents.sessions, "open": contents.open,
            "mints": contents.mints, "rescue_kits": contents.rescue_kits,
            "unreadable": contents.unreadable,
        }),
    );
    report.tell(&format!(
        "of {} UTC: the seeds, {} sessions, {} of them not settled, {} rescue kits, and the wallet:",
        date(backup.made),
        contents.sessions,
        contents.open.len(),
        contents.rescue_kits,
    ));
    for id in &contents.unreadable {
        report.tell(&format!(
            "session {} cannot be read: it is in the backup as it is. A backup made before may have it whole: keep that",
            plain(id)
        ));
    }
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
