//! The viewer: watches, pays tick by tick, records, and gets the rest back.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use streampay_core::meter::{Reading, Tariff};
use streampay_core::session::CloseCode;
use streampay_core::units::Msat;
use streampay_examples::error::{AppError, EXIT_CODES};
use streampay_examples::home::{Home, folder};
use streampay_examples::link::StreamLink;
use streampay_examples::price::{Price, amount};
use streampay_examples::quote;
use streampay_examples::report::Report;
use streampay_examples::viewer::keys::listen;
use streampay_examples::viewer::recover::recover;
use streampay_examples::viewer::watch::{Target, Watch, watch};
use streampay_media::peer::PeerConfig;
use tokio::sync::mpsc;

/// Watch a stream and pay only for what reaches you.
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
    /// Watch a stream. Ctrl-C settles; on a terminal, `p` pauses and goes on.
    Watch {
        /// What the streamer gave you.
        #[arg(value_name = "LINK")]
        link: StreamLink,
        /// The most that may leave your wallet, fees included.
        #[arg(long, value_name = "100sat", value_parser = amount)]
        budget: Msat,
        /// The highest price you pay. Without it you are shown the stream's price, and asked.
        #[arg(long, value_name = "2sat/10s")]
        max_price: Option<Price>,
        /// The recording's file.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// `-` writes the recording to stdout, for a player.
        #[arg(long, value_name = "-")]
        out: Option<String>,
        /// One event a line on stdout, the last one the summary.
        #[arg(long)]
        json: bool,
        /// Agree to the stream's price without being asked; the budget holds all the same.
        #[arg(long)]
        yes: bool,
    },
    /// Get ecash from a mint for a Lightning payment.
    Deposit {
        /// How much.
        #[arg(value_name = "100sat", value_parser = amount)]
        amount: Msat,
        /// Where.
        #[arg(long, value_name = "URL")]
        mint: String,
    },
    /// Put a token into your wallet.
    Receive {
        /// The token.
        token: String,
    },
    /// What you have.
    Balance,
    /// After a crash: close every session and bring its money home.
    Recover,
}

#[tokio::main]
async fn main() -> ExitCode {
    streampay_examples::report::log_to_stderr();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viewer: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), AppError> {
    let data = folder(cli.data, "viewer");
    let home = Home::open(&data).await?;
    match cli.command {
        Command::Watch {
            link,
            budget,
            max_price,
            record,
            out,
            json,
            yes,
        } => {
            let target = match (out.as_deref(), record) {
                (Some("-"), None) if !json => Target::Stdout,
                (None, Some(file)) => Target::File(file),
                (None, None) => Target::Numbered,
                _ => {
                    return Err(AppError::Usage(
                        "use one of --record FILE and --out -, and --out - without --json",
                    ));
                }
            };
            let (max_tariff, max_tick) = agree(&link, budget, max_price, yes).await?;
            let order = Watch {
                link,
                budget,
                max_tariff,
                max_tick,
                record: target,
                stop_after_ms: None,
                peer: PeerConfig::default(),
                report: Report { json },
            };
            watch_and_tell(&home, order).await
        }
        Command::Deposit { amount, mint } => {
            let got = home.wallet.deposit(&mint, amount).await?;
            println!("{got} deposited at {mint}");
            Ok(())
        }
        Command::Receive { token } => {
            println!("{} received", home.wallet.receive(&token).await?);
            Ok(())
        }
        Command::Balance => {
            streampay_examples::report::show_balance(&home.wallet.balance().await?);
            Ok(())
        }
        Command::Recover => {
            let settled = recover(&home, Report { json: false }).await?;
            for found in home.wallet.recover().await? {
                println!(
                    "{}: {} spendable, {} pending; {} taken back, {} deposited",
                    found.balance.mint,
                    found.balance.spendable,
                    found.balance.pending,
                    found.taken_back,
                    found.deposited,
                );
            }
            if settled {
                Ok(())
            } else {
                Err(AppError::Unsettled)
            }
        }
    }
}

async fn watch_and_tell(home: &Home, order: Watch) -> Result<(), AppError> {
    let (commands, from_user) = mpsc::channel(8);
    tokio::spawn(listen(commands));
    let watched = watch(home, &order, from_user).await?;
    let recording = watched.recording.map(|path| path.display().to_string());
    order.report.say(
        "summary",
        serde_json::json!({
            "paid_msat": watched.paid.msat(), "refunded_msat": watched.refunded.msat(),
            "ticks": watched.ticks, "media_ms": watched.media_ms, "recording": recording,
            "packets": watched.packets,
        }),
    );
    order.report.tell(&format!(
        "{} left the wallet, {} came back; {} payments; recording: {}",
        watched.paid,
        watched.refunded,
        watched.ticks,
        recording.unwrap_or_else(|| "none".into()),
    ));
    match (watched.settled, watched.code) {
        (false, _) => Err(AppError::Unsettled),
        (true, None | Some(CloseCode::Done)) => Ok(()),
        (true, Some(code)) => Err(AppError::Closed(code)),
    }
}

/// What the user agrees to pay: what `--max-price` allows, else the stream's own price, shown
/// and asked for.
async fn agree(
    link: &StreamLink,
    budget: Msat,
    max_price: Option<Price>,
    yes: bool,
) -> Result<(Tariff, Msat), AppError> {
    if let Some(price) = max_price {
        let minute = Reading {
            media_ms: 60_000,
            bytes: 0,
        };
        return Ok((price.tariff(), price.tariff().price(minute)));
    }
    let terms = quote::ask(link).await?;
    if !yes {
        ask_the_user(&quote::sentence(&terms), budget)?;
    }
    Ok((terms.tariff, terms.tick))
}

fn ask_the_user(offer: &str, budget: Msat) -> Result<(), AppError> {
    if !std::io::stdin().is_terminal() {
        return Err(AppError::Usage(
            "nobody can be asked here: say --max-price 2sat/10s, or --yes to agree to the \
             stream's price",
        ));
    }
    eprint!("{offer}. Pay, and never more than {budget} in all? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read {
        Ok(_) if answer.trim().eq_ignore_ascii_case("y") => Ok(()),
        _ => Err(AppError::Declined),
    }
}
