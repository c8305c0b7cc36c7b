//! The streamer: offers media for money, tick by tick.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::accounting::{Word, account_for};
use crate::backup::commands::Vault;
use crate::board::Board;
use crate::channel;
use crate::channel::cli::ChannelCommand;
use crate::channel::fees::{self, FeeWalletArgs};
use crate::channel::settings::{BitcoinArgs, Settings};
use crate::channel::shares;
use crate::cli::shell::Shell;
use crate::config::{self, Config, Program};
use crate::doctor::Doctor;
use crate::error::AppError;
use crate::exit;
use crate::home::{Home, folder};
use crate::ledger::commands::Books;
use crate::metrics::{self, MetricsAt};
use crate::mint::{EmbeddedMint, Storage};
use crate::money::Money;
use crate::pay::{self, Pay};
use crate::price::{Price, amount};
use crate::report::{Report, check_output, show_link, show_note};
use crate::secret;
use crate::signals::asked_to_end;
use crate::split::commands::Split;
use crate::streamer::demo::{Demo, demo};
use crate::streamer::host::HELP;
use crate::streamer::media::{Media, stream_key};
use crate::streamer::network::Network;
use crate::streamer::serve::{FreePreview, Offer, leave, recover, serve};
use crate::trust::{before_serving, fit};
use crate::tui::{self, Dashboard};
use crate::wallet::MintLimits;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use streampay_cashu::AcceptedMint;
use streampay_core::units::Msat;
use streampay_media::whep::TrustedProxy;

/// Offer a stream and be paid while it flows.
#[derive(Parser)]
#[command(name = "streamer", version, after_help = exit::table())]
struct Cli {
    /// The folder with everything you own: ecash, identity, sessions. One process at a time.
    /// Without it the user's data folder, such as ~/.local/share/streampay/streamer (`mint`: .../mint;
    /// `demo` keeps nothing).
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
    /// Mint, streamer and viewer in one process: see it work, with play money.
    Demo {
        /// How long to watch, 2 to 3600 s.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
        seconds: u64,
        /// How the viewer pays.
        #[arg(long, default_value = "chain", value_name = "WAY")]
        pay: Pay,
        /// One event a line on stdout, the last one the summary.
        #[arg(long)]
        json: bool,
        /// The recording's file. Without it, a numbered one in this folder.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// With `--pay btc`: a node in regtest, http://127.0.0.1:18443/?cookie=FILE, or env:NAME or
        /// file:PATH where http://user:password@127.0.0.1:18443 is. Without it the chain is simulated.
        #[arg(long, value_name = "URL", value_parser = secret::address)]
        bitcoind: Option<String>,
    },
    /// Stream to everybody who pays: a file, looped, or what comes by WHIP or RTP. Ctrl-C closes
    /// every session and ends.
    ///
    /// What you type goes to all viewers who joined the room; /kick NAME, /ban NAME, /unban NAME,
    /// /mute NAME and /unmute NAME act on one.
    #[command(after_help = exit::table())]
    Serve(Box<ServeArgs>),
    #[command(flatten)]
    Money(Box<Money>),
    /// Pay out what you earned to several Lightning addresses, by shares.
    Split(Split),
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
    /// While `serve` does not run: close every session, settle it, and account for the money.
    Recover {
        #[command(flatten)]
        word: Word,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Channels(ChannelCommand),
    /// A mint with play money alone, for trying things out.
    Mint {
        /// Where to listen, such as 127.0.0.1:3338.
        #[arg(long, default_value = "127.0.0.1:3338", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct ServeArgs {
    /// IVF (VP8, VP9, AV1), H.264 Annex B or Ogg Opus; sound or picture of the same name beside it
    /// goes along.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["whip", "rtp"])]
    media: Option<PathBuf>,
    /// Stream what is published with WHIP, from a browser, OBS, ffmpeg or GStreamer: VP8, VP9, AV1
    /// or H.264, and Opus. Who publishes needs the key in the folder's file `stream-key`.
    #[arg(long, conflicts_with_all = ["media", "rtp"])]
    whip: bool,
    /// Stream RTP that comes over UDP as this SDP file says, such as what ffmpeg sends with
    /// `-f rtp -sdp_file FILE`: at an address of this machine or of a protected network.
    #[arg(long, value_name = "FILE.sdp", conflicts_with = "media")]
    rtp: Option<PathBuf>,
    /// What the stream is called, if not as its file.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Seal it: VP8 and Opus that nobody plays who carries it and does not pay. Only `viewer`
    /// opens it: players without a session and pages that do not open it are turned away.
    #[arg(long)]
    seal: bool,
    /// What a payment is and how long it lasts, 1 to 60 s, such as 2sat/10s.
    #[arg(long, value_name = "PRICE")]
    price: Price,
    /// A mint whose ecash you take: you trust it with what you earn until you take it out. Name
    /// several, best first; a viewer uses one that it holds. What its ecash costs you can go into
    /// your price there, as in URL@104.5%, and so can the most that you take at once, as in
    /// URL@100%,5000sat.
    #[arg(long, required_unless_present = "btc", value_name = "URL", value_parser = pay::accepted_mint)]
    mint: Vec<AcceptedMint>,
    /// The ways to pay that you take, best first; a viewer uses the first one that works for it.
    /// Without it chain,p2pk,swap where there is a mint, and btc where `--btc` is said.
    #[arg(long, value_delimiter = ',', value_name = "WAYS")]
    pay: Vec<Pay>,
    #[command(flatten)]
    bitcoin: BitcoinArgs,
    /// Where your bitcoin goes: an address, or a descriptor without secrets.
    #[arg(long, value_name = "ADDRESS|DESCRIPTOR")]
    payout: Option<String>,
    /// Give a part of what channels bring to somebody else, by each close, such as bcrt1q..=12.5%; said once for
    /// each. --payout has the rest, and every part below 1000 sat. Closing costs what the outputs take, and is
    /// never done together with a viewer, which has room for one. Kept for next time; `none` ends it.
    #[arg(long, value_name = "ADDRESS=PERCENT", value_parser = shares::said)]
    payout_share: Vec<shares::Said>,
    /// Take channels of up to so much before their funding is in a block, such as 5000sat: until it
    /// is, the viewer can take that back. Without it none is. Only fundings of version 3 with
    /// segwit inputs alone (BIP 431) are taken so; others wait for one confirmation.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    zero_conf_max: Option<Msat>,
    #[command(flatten)]
    fee_wallet: FeeWalletArgs,
    /// The most that a mint may take for redeeming a proof, in thousandths of a satoshi: a mint that
    /// takes more is left out. URL=PPK is for one mint alone; without it 1000.
    #[arg(long, value_name = "PPK", value_parser = pay::limit_ppk)]
    max_fee_ppk: Vec<pay::Limit<u64>>,
    /// NUTs that a mint must have besides those that each way to pay needs, such as 17,20: one that lacks
    /// any of them is left out. URL=NUTS is for one mint alone.
    #[arg(long, value_name = "NUTS", value_parser = pay::limit_nuts)]
    need_nuts: Vec<pay::Limit<Vec<u8>>>,
    /// The most that you let one mint hold of what you earned and have not redeemed yet, such as
    /// 5000sat: from half of it on it is redeemed at once, beyond it nobody is served until it is.
    /// URL=AMOUNT is for one mint alone.
    #[arg(long, value_name = "AMOUNT", value_parser = pay::limit_amount)]
    max_exposure: Vec<pay::Limit<Msat>>,
    /// What a viewer pays once to be seen by name and to chat; watching does not need it.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    join_fee: Option<Msat>,
    /// The most viewers at once; further ones are told to come again. Who waits for a channel of
    /// bitcoin to confirm does not count until it pays, and is let in then.
    #[arg(long, value_name = "NUMBER")]
    max_viewers: Option<usize>,
    /// What a viewer may watch before it pays, such as 2sat: so much of your price. Without it everybody
    /// pays first. Not with `--seal`.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, conflicts_with = "seal")]
    preview: Option<Msat>,
    /// The most that one household gets in a day by `--preview`. Without it four times that.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, requires = "preview")]
    preview_household: Option<Msat>,
    /// The most that all get in a day by `--preview`. Without it a hundred times that.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, requires = "preview")]
    preview_all: Option<Msat>,
    /// Record what you stream: a file whose name ends in .webm, .mkv or .mp4, or for one kind of
    /// media alone .ivf, .h264 or .ogg. It plays also with `--seal`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where to listen, such as 127.0.0.1:8080.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where viewers reach you, if not there.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// A reverse proxy is in front, nobody else reaches `--listen`, and it says with this header
    /// where a viewer comes from.
    #[arg(long, value_name = "HEADER", value_parser = ["x-forwarded-for", "forwarded"])]
    trusted_proxy: Option<String>,
    #[command(flatten)]
    network: Network,
    /// Serve /metrics for Prometheus, and /healthz, at this port of this machine, or at an address
    /// and a port: for those whom you let see what you earn.
    #[arg(long, value_name = "PORT|ADDRESS:PORT")]
    metrics: Option<MetricsAt>,
    /// A dashboard over the whole terminal: all sessions, what they pay, what is said.
    #[arg(long, conflicts_with = "json")]
    tui: bool,
    /// One event a line on stdout.
    #[arg(long)]
    json: bool,
}

/// The program: reads the command line, does it, and says with which code to exit.
pub async fn main() -> ExitCode {
    crate::report::log_to_stderr();
    let cli = match config::parse_this::<Cli>(Program::Streamer) {
        Ok(cli) => cli,
        Err(stop) => return ExitCode::from(stop.told(Program::Streamer)),
    };
    match run(cli).await.and_then(|()| check_output()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Report { json: false }.wipe();
            show_note(format_args!("streamer: {error}"));
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
    let data = || folder(cli.data.clone(), "streamer");
    let patient = MintLimits::default().patient();
    match cli.command {
        Command::Demo {
            seconds,
            pay,
            json,
            record,
            bitcoind,
        } => {
            let order = Demo {
                seconds,
                pay,
                record,
                report: Report { json },
            };
            run_demo(order, bitcoind).await
        }
        Command::Serve(args) => run_serve(&data(), *args).await,
        Command::Channels(command) => command.run(&data()).await,
        Command::Doctor(doctor) => doctor.run(&data()).await,
        Command::Shell(shell) => shell.run(Program::Streamer),
        Command::Config(asked) => config::config(Program::Streamer, cli.config, cli.data, asked),
        Command::Split(split) => split.run(&Home::open_with(&data(), patient).await?).await,
        Command::Books(books) => books.run(&data()).await,
        Command::Vault(vault) => vault.run(&data()).await,
        Command::Money(money) => money.run(&Home::open_with(&data(), patient).await?).await,
        Command::Recover { word, json } => {
            let report = Report { json };
            let home = channel::commands::open(&data(), patient, report).await?;
            let settled = recover(&home, report).await?;
            let settled = channel::commands::settle(&home, report, false).await? && settled;
            account_for(&home, report, &word, settled).await
        }
        Command::Mint { listen } => run_mint(&folder(cli.data, "mint"), listen).await,
    }
}

async fn run_demo(order: Demo, bitcoind: Option<String>) -> Result<(), AppError> {
    let folder = tempfile::tempdir().map_err(AppError::io("no temporary folder"))?;
    match (order.pay, bitcoind) {
        (Pay::Btc, bitcoind) => {
            channel::demo::demo(folder.path(), order, bitcoind.as_deref()).await
        }
        (_, None) => demo(folder.path(), order).await,
        (_, Some(_)) => Err(AppError::Usage("--bitcoind goes with --pay btc")),
    }
}

async fn run_serve(data: &Path, args: ServeArgs) -> Result<(), AppError> {
    let report = Report { json: args.json };
    pay::check_limits(&args.mint, &args.max_fee_ppk, &args.max_exposure)?;
    let pay = match args.pay.as_slice() {
        [] => {
            let ecash = if args.mint.is_empty() { &[] } else { Pay::ALL };
            let channels = args.bitcoin.is_said().then_some(Pay::Btc);
            ecash.iter().copied().chain(channels).collect()
        }
        said => said.to_vec(),
    };
    let settings = Settings::from(
        data,
        &args.bitcoin,
        args.payout.as_deref(),
        "say both: --btc where blocks come from, and --payout where your bitcoin goes",
    )?;
    let settings = Settings::with_shares(settings, &args.payout_share)?;
    let settings = Settings::with_fee_wallet(settings, &args.fee_wallet)?;
    let earns = pay.contains(&Pay::Btc);
    if args.zero_conf_max.is_some() && !earns {
        return Err(AppError::Usage(
            "--zero-conf-max is for channels: say --btc too",
        ));
    }
    let mut setup = match settings {
        Some(settings) => Some(settings.setup(report, earns).await?),
        None => None,
    };
    let limits = pay::limits(&args.max_fee_ppk, &args.max_exposure, &args.need_nuts);
    if let (Some(setup), Some(most)) = (&mut setup, args.zero_conf_max) {
        setup.take_unconfirmed(most)?;
    }
    if args.tui {
        tui::check_terminal()?;
    }
    let home = &Home::open_for(data, limits, setup).await?;
    let mints = before_serving(home, args.mint, &pay, report).await?;
    let shown = |path: &Path| path.display().to_string();
    let (media, what, key_file) = match (args.media, args.rtp) {
        (Some(path), _) => (Media::File(path.clone()), shown(&path), None),
        (None, Some(path)) => (Media::Rtp(path.clone()), shown(&path), None),
        (None, None) => {
            let (key, file) = stream_key(data)?;
            (Media::Whip(key), "what is published".to_owned(), Some(file))
        }
    };
    let offer = Offer {
        media,
        seal: args.seal,
        title: args.title,
        peer: args.network.config()?,
        price: args.price,
        mints,
        pay,
        join_fee: args.join_fee.unwrap_or_default(),
        max_viewers: args.max_viewers,
        preview: args.preview.map(|each| FreePreview {
            each,
            household: (args.preview_household).unwrap_or_else(|| times(each, 4)),
            in_all: args.preview_all.unwrap_or_else(|| times(each, 100)),
        }),
        unpaid: None,
        record: args.record,
        typing: true,
        listen: args.listen,
        public_url: args.public_url,
        trusted_proxy: match args.trusted_proxy.as_deref() {
            Some("x-forwarded-for") => TrustedProxy::XForwardedFor,
            Some(_) => TrustedProxy::Forwarded,
            None => TrustedProxy::None,
        },
        report,
    };
    let line = format!(
        "serving {} at {}{}{}{}; Ctrl-C ends",
        what,
        offer.price,
        if offer.mints.is_empty() {
            String::new()
        } else {
            format!(", in ecash of {}", pay::words(&fit(&offer.mints)))
        },
        if earns { ", in bitcoin" } else { "" },
        args.zero_conf_max.map_or(String::new(), |most| {
            format!(", unconfirmed up to {most} a channel")
        }),
    );
    fees::tell_of(home.channels.as_deref(), report).await;
    let board = (args.tui || args.metrics.is_some()).then(|| Board::put_up(args.tui));
    if let (Some(at), Some(board)) = (args.metrics, board) {
        let address = metrics::serve(at, home.node.clone(), board).await?;
        report.tell(&format!("metrics at http://{address}/metrics"));
        report.say(
            "metrics",
            serde_json::json!({"address": address.to_string()}),
        );
    }
    let mut serving = serve(home, offer).await?;
    // Nothing is served before somebody listens.
    report.tell(&line);
    let link = serving.link.to_string();
    show_link(report, &link);
    if let (Some(whip), Some(file)) = (&serving.whip, key_file) {
        let file = file.display();
        report.tell(&format!("publish to {whip} with the stream key in {file}"));
    }
    report.tell(HELP);
    let whip = serving.whip.clone();
    report.say("serving", serde_json::json!({"link": link, "whip": whip}));
    let mut dashboard = match board.filter(|_| args.tui) {
        Some(board) => Some(Dashboard::start(board, link)?),
        None => None,
    };
    let dismissed = async {
        match &mut dashboard {
            Some(dashboard) => dashboard.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serving.wait() => return Err(AppError::Failed("the server stopped; start it again")),
        () = asked_to_end() => {}
        () = dismissed => {}
    }
    drop(dashboard);
    report.tell("closing the sessions");
    leave(home, serving, report).await
}

fn times(amount: Msat, factor: u64) -> Msat {
    Msat::new(amount.msat().saturating_mul(factor)).unwrap_or(Msat::MAX)
}

async fn run_mint(folder: &Path, listen: SocketAddr) -> Result<(), AppError> {
    let storage = Storage::Folder(folder.to_owned());
    let mint = EmbeddedMint::start(listen, storage, EmbeddedMint::INPUT_FEE_PPK).await?;
    show_note(format_args!(
        "a mint with play money runs at {}; Ctrl-C ends",
        mint.url()
    ));
    asked_to_end().await;
    mint.stop().await;
    Ok(())
}
