//! What users may ask of their books.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use streampay_core::units::SessionId;

use super::audit::audit;
use super::{Ledger, history, read, receipts, tell_unreadable};
use crate::channel::settings::Settings;
use crate::error::AppError;
use crate::home::Home;
use crate::report::{Next, Report};
use crate::wallet::MintLimits;

/// The books.
#[derive(Debug, Subcommand)]
pub enum Books {
    /// What became of every session: when, with whom, paid or earned, fees, what came back.
    History {
        /// One session a line on stdout.
        #[arg(long)]
        json: bool,
        /// As a table on stdout, for a spreadsheet.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// What streamers signed that they were paid.
    #[command(subcommand)]
    Receipts(Receipts),
    /// Check that every satoshi is where the books say. Asks nobody, changes nothing.
    ///
    /// What came must be what went and what is there, at every mint, and the wallet and the
    /// sessions must agree on every purse. Run `recover` first after a crash.
    Audit {
        /// One event a line on stdout, the last one the result.
        #[arg(long)]
        json: bool,
    },
}

/// Receipts.
#[derive(Debug, Subcommand)]
pub enum Receipts {
    /// The newest receipt of each session on stdout, one a line.
    Export {
        /// Only sessions whose name begins so, as `history` shows it.
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
    },
    /// Check a file of receipts by its signatures alone. Needs no folder.
    Verify {
        /// What `receipts export` wrote.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// One receipt a line on stdout.
        #[arg(long)]
        json: bool,
    },
}

impl Books {
    /// Does it, with the folder of the user.
    ///
    /// # Errors
    /// [`AppError`] with what to do next.
    pub async fn run(self, folder: &Path) -> Result<(), AppError> {
        match self {
            Self::History { json, csv } => {
                let home = open(folder, Report { json: false }).await?;
                let ledger = read(&home).await?;
                let report = Report { json };
                history::tell(&ledger, report, csv);
                for id in &ledger.unreadable {
                    let next = Next::Restore.name();
                    report.say(
                        "unreadable",
                        json!({"session": id.to_string(), "next": next}),
                    );
                }
                all_read(&ledger, report)
            }
            Self::Receipts(Receipts::Export { session }) => {
                let report = Report { json: false };
                let home = open(folder, report).await?;
                let mut ledger = read(&home).await?;
                let only = session.as_deref().unwrap_or_default();
                let is_wanted = |id: &SessionId| id.to_string().starts_with(only);
                ledger.unreadable.retain(is_wanted);
                let all_read = all_read(&ledger, report);
                receipts::export(&ledger.sessions, session.as_deref(), report)?;
                all_read
            }
            Self::Receipts(Receipts::Verify { file, json }) => {
                receipts::verify_file(&file, Report { json })
            }
            Self::Audit { json } => {
                let report = Report { json };
                let home = open(folder, report).await?;
                audit(&home).await?.tell(report)
            }
        }
    }
}

/// Whoever takes what was shown for all that there is would leave sessions out.
fn all_read(ledger: &Ledger, report: Report) -> Result<(), AppError> {
    tell_unreadable(&ledger.unreadable, report);
    match ledger.unreadable.is_empty() {
        true => Ok(()),
        false => Err(AppError::Failed(
            "what is shown is not all: there are sessions that cannot be read, see above",
        )),
    }
}

/// The folder's books, the channels' own records too: no chain is asked.
async fn open(folder: &Path, report: Report) -> Result<Home, AppError> {
    let settings = Settings::load(folder)?;
    let setup = settings.map(|settings| settings.setup_to_read(report));
    Home::open_for(folder, MintLimits::default(), setup.transpose()?).await
}
