//! What the watch saw, for people and for programs.

use serde_json::{Value, json};
use streampay_btc::machine::{ChannelReport, ChannelState, Role, WatchEvent};
use streampay_core::units::PurseKey;

use super::height;
use crate::report::Report;

/// Tells one thing that happened to a channel.
pub(super) fn event(
    report: Report,
    purse: PurseKey,
    channel: Option<&ChannelReport>,
    event: &WatchEvent,
) {
    let session = purse.session.to_string();
    let short = session.get(..8).unwrap_or_default();
    let (what, mut fields, line) = besides(event, channel).unwrap_or_else(|| described(event));
    if let Some(object) = fields.as_object_mut() {
        object.insert("what".into(), what.into());
        object.insert("session".into(), session.as_str().into());
        object.insert("purse".into(), purse.purse.0.into());
    }
    report.say("channel", fields);
    let who = channel.map_or("", |channel| own(channel.role));
    report.tell(&format!("{who}channel [{short}] {}: {line}", purse.purse.0));
}

/// Tells what a channel waits for.
pub(super) fn state(report: Report, channel: &ChannelReport) {
    let line = match (channel.state, channel.role) {
        (ChannelState::Confirming, Role::Payer) => {
            "funded; it waits for the confirmations that the streamer asks for"
        }
        (ChannelState::Open, Role::Payer) => "open; it pays from now on",
        _ => return,
    };
    let session = channel.purse.session.to_string();
    let short = session.get(..8).unwrap_or_default();
    let (who, number) = (own(channel.role), channel.purse.purse.0);
    report.tell(&format!("{who}channel [{short}] {number}: {line}"));
}

/// Whose channel it is, for a process with both sides.
const fn own(side: Role) -> &'static str {
    match side {
        Role::Payer => "viewer's ",
        Role::Payee => "streamer's ",
    }
}

/// Of what was paid to a channel's address and is not the channel.
fn besides(
    event: &WatchEvent,
    channel: Option<&ChannelReport>,
) -> Option<(&'static str, Value, String)> {
    match event {
        WatchEvent::PaidBesides { outpoint, value } => Some((
            "paid_besides",
            json!({"outpoint": outpoint.to_string(), "value_sat": value.to_sat()}),
            format!(
                "{} sat were paid to its address, which are not what was asked for: they open nothing and \
                 buy nothing, and come back by themselves{}, whenever this folder is in use ({outpoint})",
                value.to_sat(),
                channel.map_or(String::new(), |own| {
                    format!(" after block {}", height(own.expiry, own.left))
                }),
            ),
        )),
        WatchEvent::Returned { outpoint, amount } => Some((
            "returned",
            json!({"outpoint": outpoint.to_string(), "amount_sat": amount.to_sat()}),
            format!(
                "of what was paid to its address besides, {} sat came home ({outpoint})",
                amount.to_sat()
            ),
        )),
        _ => None,
    }
}

fn described(event: &WatchEvent) -> (&'static str, Value, String) {
    match event {
        WatchEvent::FundingGone => (
            "funding_gone",
            json!({}),
            "its funding is in no block and waits for none any more; nothing is paid until it is back"
                .to_owned(),
        ),
        WatchEvent::Spent { txid, height } => (
            "spent",
            json!({"txid": txid.to_string(), "height": height}),
            match height {
                Some(height) => format!("closed by {txid} in block {height}"),
                None => format!("{txid}, which closes it, waits for a block"),
            },
        ),
        WatchEvent::Closing { txid, fee } => (
            "closing",
            json!({"txid": txid.to_string(), "fee_sat": fee.to_sat()}),
            format!("closing by {txid}, for a fee of {} sat", fee.to_sat()),
        ),
        WatchEvent::Refunding { txid } => (
            "refunding",
            json!({"txid": txid.to_string()}),
            format!("its time is over; taken back by {txid}"),
        ),
        WatchEvent::Uneconomic { claim, fee } => (
            "uneconomic",
            json!({"claim_sat": claim.to_sat(), "fee_sat": fee.to_sat()}),
            format!(
                "to collect its {} sat would cost {} sat now: too much; tried at every block",
                claim.to_sat(),
                fee.to_sat()
            ),
        ),
        WatchEvent::Settled { amount } => (
            "settled",
            json!({"amount_sat": amount.to_sat()}),
            format!("settled: {} sat came home", amount.to_sat()),
        ),
        _ => ("other", json!({}), "something happened".to_owned()),
    }
}
