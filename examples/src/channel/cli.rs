//! The streamer's commands about its channels.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::settings::Settings;
use super::{commands, fees, tower};
use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;
use crate::streamer::serve::recover;
use crate::wallet::MintLimits;

/// What a streamer asks of its channels, while `serve` does not run; `watchtower` also while it does.
#[derive(Subcommand, Debug)]
pub enum ChannelCommand {
    /// How every bitcoin channel stands.
    Channels {
        /// One channel a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// While `serve` does not run: close every session and every bitcoin channel, and wait until
    /// all of it is buried, six blocks deep.
    Settle {
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// While `serve` does not run: what the fee wallet holds, and where to pay to it.
    FeeWallet {
        /// Send all of it to your payout.
        #[arg(long)]
        empty: bool,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Close channels in time for a streamer that is away, without its keys.
    #[command(subcommand)]
    Watchtower(Tower),
}

/// What a watchtower does.
#[derive(Subcommand, Debug)]
pub enum Tower {
    /// Copy what a watchtower needs, also while `serve` runs: finished closes at several feerates,
    /// no key. `serve` keeps it as watchtower.json in its folder. An old copy collects what was due
    /// then.
    Export {
        /// The copy.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Watch the channels of these files, and close those whose time is nearly over. Ctrl-C ends.
    /// Files are read again when they change.
    Run {
        /// What `export` wrote, or a streamer's own watchtower.json.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Where blocks come from, and where transactions go: as `serve --btc`. The chain is that of
        /// the files.
        #[arg(long, value_name = "URL", value_parser = crate::secret::address)]
        btc: String,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
}

impl ChannelCommand {
    /// Does it with the folder `data`.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn run(self, data: &Path) -> Result<(), AppError> {
        match self {
            Self::Channels { json } => {
                let report = Report { json };
                let home = commands::open(data, MintLimits::default(), report).await?;
                commands::list(&home, report).await
            }
            Self::Settle { json } => {
                let report = Report { json };
                let home = open_to_settle(data, report).await?;
                recover(&home, report).await?;
                if !commands::settle(&home, report, true).await? {
                    return Err(AppError::Unsettled);
                }
                // What was waited for is home: its sessions are over too.
                if !recover(&home, report).await? {
                    return Err(AppError::Unsettled);
                }
                report.tell("every channel and session is settled");
                Ok(())
            }
            Self::FeeWallet { empty, json } => {
                let report = Report { json };
                let home = commands::open(data, MintLimits::default(), report).await?;
                fees::show(home.channels.as_deref(), empty, report).await
            }
            Self::Watchtower(Tower::Export { file }) => {
                tower::export(data, &file, Report { json: false })
            }
            Self::Watchtower(Tower::Run { files, btc, json }) => {
                tower::run(&files, &btc, Report { json }).await
            }
        }
    }
}

/// The home in `data`, whose channels wait for no other ones to be closed with, which is up to six blocks,
/// and for no viewer to sign with: all that there are close together now, and the user waits.
async fn open_to_settle(data: &Path, report: Report) -> Result<Home, AppError> {
    let setup = match Settings::load(data)? {
        Some(settings) => {
            let mut setup = settings.setup(report, false).await?;
            setup.config.payee.batch_wait = 0;
            setup.config.payee.mutual_ms = 0;
            Some(setup)
        }
        None => None,
    };
    Home::open_for(data, MintLimits::default().patient(), setup).await
}
