//! The viewer: watches, pays tick by tick, records, and gets the rest back.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::accounting::{Word, account_for};
use crate::backup::commands::Vault;
use crate::channel;
use crate::channel::settings::{BitcoinArgs, Settings};
use crate::cli::shell::Shell;
use crate::config::{self, Config, Program};
use crate::doctor::Doctor;
use crate::error::AppError;
use crate::exit;
use crate::home::{Home, folder};
use crate::ledger::commands::Books;
use crate::link::StreamLink;
use crate::money::Money;
use crate::pay::{self, Pay};
use crate::price::{Price, amount};
use crate::quote::{self, a_minute};
use crate::report::{Report, ask, check_output, show_note};
use crate::streamer::network::bind;
use crate::trust::before_paying;
use crate::viewer::browser::Browser;
use crate::viewer::keys::{help, interactive, listen};
use crate::viewer::locked::words;
use crate::viewer::recover::{UNPAID, on_the_way, recover};
use crate::viewer::watch::{Join, Target, Watch, watch};
use crate::wallet::MintLimits;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use streampay_core::meter::Tariff;
use streampay_core::session::{CloseCode, Name};
use streampay_core::units::Msat;
use streampay_media::peer::PeerConfig;
use tokio::sync::mpsc;

/// Watch a stream and pay only for what reaches you.
#[derive(Parser)]
#[command(name = "viewer", version, after_help = exit::table())]
struct Cli {
    /// The folder with everything you own: ecash, identity, sessions. One process at a time.
    /// Without it the user's data folder, such as ~/.local/share/streampay/viewer.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The settings file. Without it config.toml in the user's folder for settings, such as
    /// ~/.config/streampay, if it is there. `config show` tells what can be set.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch a stream. Ctrl-C settles; on a terminal, `p` pauses and goes on.
    #[command(after_help = exit::table())]
    Watch(WatchArgs),
    #[command(flatten)]
    Money(Money),
    #[command(flatten)]
    Books(Books),
    /// What is set, and where.
    #[command(subcommand)]
    Config(Config),
    #[command(flatten)]
    Shell(Shell),
    /// Look at all that a session rests on: folder, disk, mints, clock, chain, network.
    Doctor(Box<Doctor>),
    #[command(flatten)]
    Vault(Vault),
    /// After a crash: close every session, bring its money home, and account for it.
    Recover {
        #[command(flatten)]
        word: Word,
        /// Wait until every bitcoin channel is home: it is taken back by itself once its time is
        /// over.
        #[arg(long)]
        wait: bool,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// How every bitcoin channel stands.
    Channels {
        /// One channel a line on stdout.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct WatchArgs {
    /// What the streamer gave you, in quotes.
    #[arg(value_name = "LINK")]
    link: StreamLink,
    /// The most that may leave your wallet, fees included, such as 100sat.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    budget: Msat,
    /// The highest price you pay, such as 2sat/10s. Without it you are shown the stream's price,
    /// and asked.
    #[arg(long, value_name = "PRICE")]
    max_price: Option<Price>,
    /// The ways to pay, best first; the first one that the stream takes, and in ecash its mint can do.
    /// btc needs --btc and --refund-to.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "chain,p2pk,swap",
        value_name = "WAYS"
    )]
    pay: Vec<Pay>,
    #[command(flatten)]
    bitcoin: BitcoinArgs,
    /// Where your bitcoin comes back to: an address, or a descriptor without secrets.
    #[arg(long, value_name = "ADDRESS|DESCRIPTOR")]
    refund_to: Option<String>,
    /// The most that the mint may take on top of each payment, in percent of it: ways to pay that
    /// cost more are left out.
    #[arg(long, value_name = "PERCENT", default_value_t = quote::FEE_SHARE)]
    max_fee_share: u64,
    /// The most that a mint may take for a proof, in thousandths of a satoshi: at one that takes more
    /// nothing is paid. URL=PPK is for one mint alone; without it 1000.
    #[arg(long, value_name = "PPK", value_parser = pay::limit_ppk)]
    max_fee_ppk: Vec<pay::Limit<u64>>,
    /// NUTs that a mint must have besides those that each way to pay needs, such as 17,20: at one that
    /// lacks any of them nothing is paid. URL=NUTS is for one mint alone.
    #[arg(long, value_name = "NUTS", value_parser = pay::limit_nuts)]
    need_nuts: Vec<pay::Limit<Vec<u8>>>,
    /// The recording's file: WebM or Matroska, or by its ending .mp4, or .ivf, .h264 or .ogg for one
    /// kind of media alone. Without it, a numbered one in this folder.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// `--out -` writes the recording to stdout, for a player.
    #[arg(long, value_name = "-", value_parser = ["-"])]
    out: Option<String>,
    /// Play in a browser of this machine: a page's address is shown, and while its player runs
    /// this program pays. Nothing is recorded.
    #[arg(long, conflicts_with_all = ["record", "out"])]
    browser: bool,
    /// One event a line on stdout, the last one the summary.
    #[arg(long)]
    json: bool,
    /// Join the streamer's room under this name: chat, and tips by `/tip 5sat`. On a terminal `t`
    /// begins a line; elsewhere each line of stdin is one.
    #[arg(long, value_name = "NAME", value_parser = |name: &str| Name::new(name))]
    name: Option<Name>,
    /// The most that joining may cost, within the budget, such as 5sat.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, requires = "name")]
    max_join_fee: Option<Msat>,
    /// An address to send and receive media at, instead of all interfaces, by IPv4 and IPv6;
    /// several times for several.
    #[arg(long, value_name = "ADDRESS")]
    media_bind: Vec<IpAddr>,
    /// Agree to the stream's price without being asked; the budget holds all the same.
    #[arg(long)]
    yes: bool,
}

/// The program: reads the command line, does it, and says with which code to exit.
pub async fn main() -> ExitCode {
    crate::report::log_to_stderr();
    let cli = match config::parse_this::<Cli>(Program::Viewer) {
        Ok(cli) => cli,
        Err(stop) => return ExitCode::from(stop.told(Program::Viewer)),
    };
    match run(cli).await.and_then(|()| check_output()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Report { json: false }.wipe();
            show_note(format_args!("viewer: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

async fn run(cli: Cli) -> Result<(), AppError> {
    let given = cli.data.clone();
    let data = folder(cli.data, "viewer");
    let patient = MintLimits::default().patient();
    match cli.command {
        Command::Watch(args) => run_watch(&data, args).await,
        Command::Channels { json } => {
            let report = Report { json };
            let home = channel::commands::open(&data, MintLimits::default(), report).await?;
            channel::commands::list(&home, report).await
        }
        Command::Doctor(doctor) => doctor.run(&data).await,
        Command::Shell(shell) => shell.run(Program::Viewer),
        Command::Config(asked) => config::config(Program::Viewer, cli.config, given, asked),
        Command::Books(books) => books.run(&data).await,
        Command::Vault(vault) => vault.run(&data).await,
        Command::Money(money) => money.run(&Home::open_with(&data, patient).await?).await,
        Command::Recover { word, wait, json } => {
            let report = Report { json };
            let home = channel::commands::open(&data, patient, report).await?;
            let settled = recover(&home, report).await?;
            let home_now = channel::commands::settle(&home, report, wait).await?;
            // What was waited for is home: its sessions are over too.
            let settled = match settled {
                false if wait && home_now => recover(&home, report).await?,
                settled => settled && home_now,
            };
            account_for(&home, report, &word, settled).await
        }
    }
}

async fn run_watch(data: &Path, args: WatchArgs) -> Result<(), AppError> {
    let settings = Settings::from(
        data,
        &args.bitcoin,
        args.refund_to.as_deref(),
        "say both: --btc where blocks come from, and --refund-to where your bitcoin comes back to",
    )?;
    let report = Report { json: args.json };
    let setup = match &settings {
        Some(settings) => Some(settings.setup(report, false).await?),
        None if args.pay.contains(&Pay::Btc) => {
            return Err(AppError::Usage(
                "to pay by btc, say --btc where blocks come from, and --refund-to where your \
                 bitcoin comes back to",
            ));
        }
        None => None,
    };
    let limits = MintLimits {
        max_fee_permille: args.max_fee_share.saturating_mul(10),
        ..pay::limits(&args.max_fee_ppk, &[], &args.need_nuts)
    };
    let home = &Home::open_for(data, limits, setup).await?;
    let record = match (&args.out, args.record.clone()) {
        (Some(_), None) if !args.json => Target::Stdout,
        (None, Some(file)) => Target::File(file),
        (None, None) => Target::Numbered,
        _ => {
            return Err(AppError::Usage(
                "use one of --record FILE and --out -, and --out - without --json",
            ));
        }
    };
    record.check()?;
    let (max_tariff, max_tick, pay, budget) = agree(home, &args).await?;
    let browser = match args.browser {
        true => Some(Arc::new(Browser::start(&args.link.url).await?)),
        false => None,
    };
    if let Some(browser) = &browser {
        report.say("page", serde_json::json!({"url": browser.url()}));
        report.tell(&format!("open {} in a browser, and play", browser.url()));
    }
    let mut peer = PeerConfig::for_viewer();
    bind(&mut peer, &args.media_bind);
    let order = Watch {
        link: args.link,
        budget,
        max_tariff,
        pay,
        max_tick,
        record,
        browser,
        stop_after_ms: None,
        interactive: interactive(),
        join: args.name.map(|name| Join {
            name,
            max_fee: args.max_join_fee.unwrap_or_default(),
        }),
        peer,
        report: Report { json: args.json },
    };
    watch_and_tell(home, order).await
}

async fn watch_and_tell(home: &Home, order: Watch) -> Result<(), AppError> {
    let (wishes, from_user) = mpsc::channel(8);
    tokio::spawn(listen(wishes, order.join.is_some()));
    if order.interactive {
        order.report.tell(help(order.join.is_some()));
    }
    let watched = watch(home, &order, from_user).await?;
    let recording = watched.recording.map(|path| path.display().to_string());
    let account = watched.account;
    order.report.say(
        "summary",
        serde_json::json!({
            "paid_msat": account.paid.msat(), "acknowledged_msat": account.acknowledged.msat(),
            "fees_msat": account.fees().msat(), "refunded_msat": account.refunded.msat(),
            "ticks": watched.ticks, "media_ms": watched.media_ms, "recording": recording,
            "packets": watched.packets,
            "on_the_way_msat": watched.on_the_way.map(Msat::msat),
            "locked_until_unix_s": watched.locked_until.map(|until| until.0),
            "unacknowledged_msat": watched.unheard.map(|of| of.amount.msat()),
            "ask_until_unix_s": watched.unheard.map(|of| of.until.0),
        }),
    );
    if let Some(unheard) = watched.unheard {
        order.report.tell(&unheard.words());
    }
    if let Some(until) = watched.locked_until {
        order
            .report
            .tell(&words(until, home.node.clock().now().unix));
    }
    if watched.unpaid {
        order.report.tell(UNPAID);
    }
    if let Some(amount) = watched.on_the_way {
        order.report.tell(&on_the_way(amount));
    }
    if let Some(locked) = &watched.channel_locked {
        order.report.tell(locked);
    }
    let sums = match watched.settled {
        true => account.to_string(),
        false => account.unsettled(),
    };
    order.report.tell(&format!(
        "{sums}; {} payments{}",
        watched.ticks,
        recording.map_or(String::new(), |path| format!("; recorded in {path}")),
    ));
    let done = watched.settled || watched.on_the_way.is_some();
    match (done, watched.record_failed, watched.code) {
        (false, ..) => Err(AppError::Unsettled),
        (true, Some(failed), _) => Err(failed),
        (true, None, None | Some(CloseCode::Done)) => Ok(()),
        (true, None, Some(code)) => Err(AppError::Closed(code)),
    }
}

/// What the user agrees to pay: the stream's own price, within what `--max-price` allows, or
/// shown and asked for. And the budget that is left, where looking at the mint took something.
async fn agree(home: &Home, args: &WatchArgs) -> Result<(Tariff, Msat, Vec<Pay>, Msat), AppError> {
    let terms = quote::ask(&args.link).await?;
    let mut costs = quote::costs(home, &terms, &args.pay, args.budget).await;
    let pay = quote::affordable(&args.pay, &terms, &costs, args.max_fee_share)?;
    costs.retain(|costs| pay.contains(&costs.pay));
    if let Some(allowed) = args.max_price {
        let (asks, allows) = (a_minute(terms.tariff), a_minute(allowed.tariff()));
        if terms.tariff.bytes.is_some() || asks > allows {
            return Err(AppError::TooDear { asks, allows });
        }
    }
    let mut offer = quote::sentence(&terms, &costs);
    if let (Some(channels), Some(asked), true) = (
        &home.channels,
        channel::quote::params(&terms),
        pay.contains(&Pay::Btc),
    ) {
        let (budget, payment) = (args.budget, quote::payment(&terms));
        let needs = channel::quote::needs(&asked, channels, payment);
        if budget < needs && pay == [Pay::Btc] {
            return Err(AppError::SmallBudget { budget, needs });
        }
        offer = format!(
            "{offer}; {}",
            channel::quote::words(&asked, channels.life(), channels.reserve_max())
        );
    }
    if args.max_price.is_some() || args.yes {
        Report { json: args.json }.tell(&offer);
    } else {
        ask(
            &format!("{offer}. Pay, and never more than {} in all?", args.budget),
            "nobody can be asked here: say --max-price 2sat/10s, or --yes to agree to the \
             stream's price",
        )?;
    }
    quote::within(&terms, &costs, args.budget)?;
    quote::check_tick(&terms)?;
    let looking = match costs.first() {
        Some(costs) => before_paying(home, costs, Report { json: args.json }).await?,
        None => Msat::ZERO,
    };
    let budget = args.budget.saturating_minus(looking);
    quote::within(&terms, &costs, budget)?;
    Ok((terms.tariff, quote::payment(&terms), pay, budget))
}
