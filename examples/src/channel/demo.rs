//! Streamer and viewer in one process, paid over a channel: on a simulated chain, or on a node in
//! regtest.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction, WPubkeyHash};
use streampay_btc::chain::{ChainSource as _, Watch as Output};
use streampay_btc::machine::{ChannelReport, ChannelState, Role};
use streampay_core::driver::entropy;
use streampay_core::units::Msat;
use tokio::sync::mpsc;

use super::lab::Lab;
use super::{Channels, Setup, sat};
use crate::error::AppError;
use crate::home::Home;
use crate::pay::Pay;
use crate::price::Price;
use crate::report::Report;
use crate::streamer::demo::{Demo, verdict};
use crate::streamer::serve::serve;
use crate::viewer::watch::watch;
use crate::wallet::MintLimits;

/// A tick: what a channel is worth on the chain is more than its close costs after the first ones.
const TICK_SAT: u64 = 500;
/// What a tick buys, in milliseconds.
const TICK_MS: u64 = 2_000;
/// What may be spent beside the ticks: the settle reserve, the funding's fee, an output's worth.
const BESIDE_SAT: u64 = 15_000;
/// How often a block may come. The demo's time is short.
const BLOCK: Duration = Duration::from_millis(250);
/// How long it may take until all money is where it belongs.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs it in `folder`, which is empty, and checks its sums; on the node in regtest at `bitcoind`
/// where one is named.
///
/// # Errors
/// [`AppError`]: what failed, or [`AppError::Unbalanced`].
pub async fn demo(folder: &Path, demo: Demo, bitcoind: Option<&str>) -> Result<(), AppError> {
    let report = demo.report;
    let lab = match bitcoind {
        Some(url) => Lab::node(url).await?,
        None => Lab::sim(),
    };
    let payee = open(folder, "streamer", &lab, Report { json: false }).await?;
    let payer = open(folder, "viewer", &lab, report).await?;
    let (payee_side, payer_side) = (channels(&payee)?, channels(&payer)?);
    let miner = tokio::spawn(mine(lab.clone(), [payee_side.clone(), payer_side.clone()]));
    let price = Price {
        tick: sat(TICK_SAT),
        per_ms: TICK_MS,
    };
    let offer = demo.offer(folder, price, Vec::new())?;
    let serving = serve(&payee, offer).await?;
    report.tell(&format!(
        "the stream costs {price}; it is at {}",
        serving.link
    ));
    let ticks = demo.seconds.saturating_mul(1000).div_ceil(TICK_MS);
    let in_ticks = ticks.saturating_add(4).saturating_mul(TICK_SAT);
    let budget = sat(in_ticks.saturating_add(BESIDE_SAT));
    let (_wishes, from_user) = mpsc::channel(1);
    let watched = watch(&payer, &demo.order(&serving.link, price, budget), from_user).await?;
    let books = async {
        let payee = settled_book(&payee, &payee_side).await?;
        Ok((payee, settled_book(&payer, &payer_side).await?))
    };
    let books = tokio::time::timeout(SETTLED, books).await;
    miner.abort();
    // Nothing comes after the summary.
    payee_side.end_watch().await;
    payer_side.end_watch().await;
    let (payee_book, payer_book) = books.unwrap_or(Err(AppError::Unsettled))?;
    let sums = Sums::of(&lab, &payee_book, &payer_book).await?;
    let recording = watched
        .recording
        .as_ref()
        .map(|path| path.display().to_string());
    report.say("summary", json!({
        "paid_msat": sums.paid.msat(), "settled_msat": sums.settled.msat(), "fees_msat": sums.fees.msat(),
        "refunded_msat": sums.refunded.msat(), "ticks": watched.ticks,
        "media_ms": watched.media_ms, "recording": recording, "packets": watched.packets,
        "pay": Pay::Btc.method(), "mint_calls": 0,
        "close_vbytes": sums.close_vbytes, "txids": sums.txids,
    }));
    report.tell(&format!(
        "{} left the wallet = {} to the streamer + {} of fees to miners + {} back; closing took \
         {} vB\nwatch it again: {}",
        sums.paid,
        sums.settled,
        sums.fees,
        sums.refunded,
        sums.close_vbytes,
        recording.unwrap_or_default(),
    ));
    let parts = sums.settled.saturating_plus(sums.fees);
    let balanced = sums.paid == parts.saturating_plus(sums.refunded) && !sums.settled.is_zero();
    verdict(balanced, watched.code)
}

async fn open(folder: &Path, name: &str, lab: &Lab, report: Report) -> Result<Home, AppError> {
    let nobody = entropy().map_err(AppError::io("no randomness"))?;
    // A key that nobody has: what comes home stays there, to be counted.
    let own = ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&nobody.0));
    let mut setup = Setup::new(Network::Regtest, &own, lab.source(), report);
    setup.wallet = Some(lab.wallet());
    setup.every = BLOCK / 2;
    setup.config.payee.batch_wait = 0;
    let limits = MintLimits::default();
    Home::open_for(&folder.join(name), limits, Some(setup)).await
}

fn channels(home: &Home) -> Result<Arc<Channels>, AppError> {
    let channels = home.channels.clone();
    channels.ok_or(AppError::Failed("no channels"))
}

/// A block whenever somebody waits for one.
async fn mine(lab: Lab, sides: [Arc<Channels>; 2]) {
    loop {
        let mut channels = sides.iter().flat_map(|side| side.report());
        let waits = channels.any(|channel| {
            matches!(
                channel.state,
                ChannelState::Confirming | ChannelState::Closing
            )
        });
        if waits && let Err(error) = lab.mine().await {
            tracing::warn!(%error, "no block");
        }
        tokio::time::sleep(BLOCK).await;
    }
}

async fn settled_book(home: &Home, side: &Channels) -> Result<Vec<ChannelReport>, AppError> {
    loop {
        let book = side.book(home).await?;
        let mut channels = book.iter();
        if !book.is_empty() && channels.all(|channel| channel.settled.is_some()) {
            return Ok(book);
        }
        tokio::time::sleep(BLOCK).await;
    }
}

/// Each from its own books: what left the wallet from the viewer's, what arrived from the
/// streamer's, fees from the transactions.
struct Sums {
    paid: Msat,
    settled: Msat,
    fees: Msat,
    refunded: Msat,
    close_vbytes: u64,
    txids: Vec<String>,
}

impl Sums {
    async fn of(
        lab: &Lab,
        payee: &[ChannelReport],
        payer: &[ChannelReport],
    ) -> Result<Self, AppError> {
        let mut sums = Self {
            paid: Msat::ZERO,
            settled: settled(payee, Role::Payee),
            fees: Msat::ZERO,
            refunded: settled(payer, Role::Payer),
            close_vbytes: 0,
            txids: Vec::new(),
        };
        for channel in payer {
            let Some(outpoint) = channel.outpoint else {
                continue;
            };
            let funding_fee = sat(channel.funding_fee.to_sat());
            let value = sat(channel.value.to_sat());
            sums.paid = sums
                .paid
                .saturating_plus(value)
                .saturating_plus(funding_fee);
            let close = spender(lab, channel, outpoint).await?;
            let outputs = close.output.iter().map(|output| output.value.to_sat());
            let outputs = sat(outputs.fold(0, u64::saturating_add));
            let fee = value.saturating_minus(outputs);
            sums.fees = sums.fees.saturating_plus(funding_fee).saturating_plus(fee);
            let size = u64::try_from(close.vsize()).unwrap_or(u64::MAX);
            sums.close_vbytes = sums.close_vbytes.saturating_add(size);
            sums.txids.push(outpoint.txid.to_string());
            sums.txids.push(close.compute_txid().to_string());
        }
        Ok(sums)
    }
}

fn settled(channels: &[ChannelReport], role: Role) -> Msat {
    let own = channels.iter().filter(|channel| channel.role == role);
    let amounts = own.map(|channel| channel.settled.unwrap_or(Amount::ZERO).to_sat());
    sat(amounts.fold(0, u64::saturating_add))
}

async fn spender(
    lab: &Lab,
    channel: &ChannelReport,
    outpoint: OutPoint,
) -> Result<Transaction, AppError> {
    let script = channel
        .address
        .as_ref()
        .map(|address| address.script_pubkey());
    let output = Output {
        outpoint,
        script: script.unwrap_or_default(),
        since: 0,
    };
    let view = lab.source().view(&[output]).await?;
    let mut seen = view.outputs.into_iter().filter_map(|state| state.seen);
    let spend = seen.next().and_then(|seen| seen.spend);
    let spend = spend.ok_or(AppError::Failed("the close is not on the chain"))?;
    Ok(spend.tx)
}
