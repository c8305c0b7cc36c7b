//! What users may ask of their channels: how each stands, and to wait until all is home.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use streampay_btc::machine::{ChannelReport, ChannelState, PaidOut, Role};

use super::settings::Settings;
use super::{besides, height};
use crate::error::AppError;
use crate::home::Home;
use crate::progress::during;
use crate::report::Report;
use crate::signals::asked_to_end;
use crate::wallet::MintLimits;

/// How often the channels are looked through while somebody waits for them.
const LOOK: Duration = Duration::from_secs(2);

/// The home in `folder`, with its channels where there are any.
///
/// # Errors
/// [`AppError`]: it cannot be opened.
pub async fn open(folder: &Path, limits: MintLimits, report: Report) -> Result<Home, AppError> {
    let setup = match Settings::load(folder)? {
        Some(settings) => {
            let mut setup = settings.setup(report, false).await?;
            // Nobody is served, so that no further channel comes to be closed with; and a command that ends before
            // so many blocks are there would begin to wait anew each time.
            setup.config.payee.batch_wait = 0;
            // Nobody is there who could close together with this side.
            setup.config.payee.mutual_ms = 0;
            Some(setup)
        }
        None => None,
    };
    Home::open_for(folder, limits, setup).await
}

/// Tells how every channel stands.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn list(home: &Home, report: Report) -> Result<(), AppError> {
    let Some(channels) = &home.channels else {
        report.tell("there is no channel here");
        return Ok(());
    };
    if let Err(error) = channels.look().await {
        report.tell(&format!("the chain cannot be seen now: {error}"));
    }
    let book = channels.book(home).await?;
    if book.is_empty() {
        report.tell("there is no channel here");
    }
    for channel in &book {
        tell(report, channel);
    }
    if let Some(wallet) = channels.fee_wallet() {
        super::fees::tell(report, &wallet);
    }
    Ok(())
}

/// Tells how the channels stand whose money is not home; with `wait`, waits until all is, or until
/// the user wants to end. True where nothing is left to do.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn settle(home: &Home, report: Report, wait: bool) -> Result<bool, AppError> {
    let Some(channels) = &home.channels else {
        return Ok(true);
    };
    if let Err(error) = channels.look().await {
        report.tell(&format!("the chain cannot be seen now: {error}"));
    }
    let open = |book: Vec<ChannelReport>| {
        let open = book.into_iter().filter(|channel| !is_home(channel));
        open.collect::<Vec<_>>()
    };
    let left = open(channels.book(home).await?);
    left.iter().for_each(|channel| tell(report, channel));
    if left.is_empty() || !wait {
        return Ok(left.is_empty());
    }
    report.tell("waiting until all of it is home; Ctrl-C ends, and `recover` goes on");
    let waiting = waits_for(&left);
    let done = async {
        while !open(channels.book(home).await?).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    };
    tokio::select! {
        done = during(report, &waiting, done) => done,
        () = asked_to_end() => Ok(false),
    }
}

fn waits_for(left: &[ChannelReport]) -> String {
    match left.len() {
        1 => "waiting for blocks: 1 channel is not home".to_owned(),
        more => format!("waiting for blocks: {more} channels are not home"),
    }
}

/// Tells what a streamer's channels have yet to bring, where there are any. True where that is nothing.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn tell_open(home: &Home, report: Report) -> Result<bool, AppError> {
    let Some(channels) = &home.channels else {
        return Ok(true);
    };
    let mut open = channels.book(home).await?;
    open.retain(|channel| !is_home(channel));
    open.iter().for_each(|channel| tell(report, channel));
    if !open.is_empty() {
        report.tell("`settle` waits until that is home; so does `serve`, while it runs");
    }
    Ok(open.is_empty())
}

/// True where nothing of it is on its way: settled, or never funded or paid from.
fn is_home(channel: &ChannelReport) -> bool {
    let nothing = match channel.role {
        Role::Payer => channel.outpoint.is_none(),
        Role::Payee => channel.paid.to_sat() == 0,
    };
    let besides = channel.besides_open().to_sat();
    (channel.settled.is_some() || nothing) && besides == 0
}

fn tell(report: Report, channel: &ChannelReport) {
    let session = channel.purse.session.to_string();
    let short = session.get(..8).unwrap_or_default();
    let state = match channel.state {
        ChannelState::Unfunded => "not funded",
        ChannelState::Confirming => "waits for confirmations",
        ChannelState::Open => "open",
        ChannelState::Closing => "closing",
        ChannelState::Settled => "settled",
        _ => "unknown",
    };
    let side = match channel.role {
        Role::Payer => "payer",
        Role::Payee => "payee",
    };
    let outpoint = channel.outpoint.map(|outpoint| outpoint.to_string());
    report.say(
        "channel_state",
        json!({
            "session": session, "purse": channel.purse.purse.0, "side": side, "state": state,
            "value_sat": channel.value.to_sat(), "paid_sat": channel.paid.to_sat(),
            "coming_sat": channel.coming.map(|amount| amount.to_sat()),
            "settled_sat": channel.settled.map(|amount| amount.to_sat()),
            "outpoint": outpoint, "expiry": channel.expiry, "blocks_left": channel.left,
            "descriptor": channel.descriptor, "besides_sat": channel.besides_open().to_sat(),
            "split": channel.split.iter().map(part).collect::<Vec<_>>(),
        }),
    );
    let until = match (channel.settled, channel.coming, channel.left) {
        (Some(home), ..) => format!("{} sat came home", home.to_sat()),
        (None, Some(coming), _) => {
            format!("{} sat are on their way home", coming.to_sat())
        }
        (None, None, Some(left)) => format!(
            "until block {}, {left} blocks",
            height(channel.expiry, channel.left)
        ),
        (None, None, None) => format!("until block {}", channel.expiry),
    };
    let split: String = channel.split.iter().map(words).collect();
    let besides = match channel.besides_open().to_sat() {
        0 => String::new(),
        sat => format!("; {}", besides(sat, channel)),
    };
    report.tell(&format!(
        "channel [{short}] {}: {side}, {state}, {} of {} sat signed over, with what closing may cost, {until}{}{split}{besides}",
        channel.purse.purse.0,
        channel.paid.to_sat(),
        channel.value.to_sat(),
        outpoint.map_or(String::new(), |outpoint| format!(", {outpoint}")),
    ));
}

fn to(part: &PaidOut) -> String {
    let address = part.address.as_ref().map(ToString::to_string);
    address.unwrap_or_else(|| part.script.to_hex_string())
}

fn part(part: &PaidOut) -> Value {
    json!({"to": to(part), "amount_sat": part.amount.to_sat()})
}

fn words(part: &PaidOut) -> String {
    format!("; {} sat of it to {}", part.amount.to_sat(), to(part))
}
