//! The streamer: offers media for money, tick by tick.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use streampay_core::units::Msat;
use streampay_examples::error::{AppError, EXIT_CODES};
use streampay_examples::home::{Home, folder};
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::price::{Price, amount};
use streampay_examples::report::Report;
use streampay_examples::streamer::demo::{Demo, demo};
use streampay_examples::streamer::serve::{Offer, close_all, serve};

/// Offer a stream and be paid while it flows.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    /// The folder with everything you own. One process at a time.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mint, streamer and viewer in one process: see it work, with play money.
    Demo {
        /// How long to watch.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
        seconds: u64,
        /// One event a line on stdout, the last one the summary.
        #[arg(long)]
        json: bool,
        /// The recording's file.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Stream a file, looped, to everybody who pays.
    Serve {
        /// IVF (VP8, VP9), H.264 Annex B or Ogg Opus; sound or picture of the same name beside it
        /// goes along.
        #[arg(long, value_name = "FILE")]
        media: PathBuf,
        /// What a tick costs and how long it lasts, 1 to 60 s.
        #[arg(long, value_name = "2sat/10s")]
        price: Price,
        /// The mint whose ecash you take: you trust it with what you earn until you take it out.
        #[arg(long, value_name = "URL")]
        mint: String,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where viewers reach you, if not there.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// What you have earned.
    Balance,
    /// Take money out, as a token.
    Send {
        /// How much.
        #[arg(value_name = "100sat", value_parser = amount)]
        amount: Msat,
        /// From which mint, if you have money at several.
        #[arg(long, value_name = "URL")]
        mint: Option<String>,
    },
    /// A mint with play money alone, for trying things out.
    Mint {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:3338")]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    streampay_examples::report::log_to_stderr();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streamer: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), AppError> {
    let data = folder(cli.data, "streamer");
    match cli.command {
        Command::Demo {
            seconds,
            json,
            record,
        } => {
            let folder = tempfile::tempdir().map_err(AppError::io("no temporary folder"))?;
            demo(
                folder.path(),
                Demo {
                    seconds,
                    record,
                    report: Report { json },
                },
            )
            .await
        }
        Command::Serve {
            media,
            price,
            mint,
            listen,
            public_url,
            json,
        } => {
            let report = Report { json };
            let home = Home::open(&data).await?;
            let offer = Offer {
                media,
                price,
                mint,
                listen,
                public_url,
                report,
            };
            let mut serving = serve(&home, offer).await?;
            streampay_examples::report::show_link(&serving.link.to_string());
            report.say(
                "serving",
                serde_json::json!({"link": serving.link.to_string()}),
            );
            tokio::select! {
                () = serving.wait() => Err(AppError::Usage("the server stopped")),
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
        Command::Balance => {
            let home = Home::open(&data).await?;
            close_all(&home, Report { json: false }).await?;
            home.wallet.recover().await?;
            streampay_examples::report::show_balance(&home.wallet.balance().await?);
            Ok(())
        }
        Command::Send { amount, mint } => {
            let home = Home::open(&data).await?;
            println!("{}", home.wallet.send(amount, mint.as_deref()).await?);
            Ok(())
        }
        Command::Mint { listen } => {
            std::fs::create_dir_all(&data).map_err(AppError::io("the folder cannot be made"))?;
            let storage = Storage::Folder(data.join("mint"));
            let mint = EmbeddedMint::start(listen, storage, EmbeddedMint::INPUT_FEE_PPK).await?;
            eprintln!(
                "a mint with play money runs at {}; stop it with Ctrl-C",
                mint.url()
            );
            let _ = tokio::signal::ctrl_c().await;
            mint.stop().await;
            Ok(())
        }
    }
}
