//! What the watch saw, for people and for programs.

use serde_json::{Value, json};
use streampay_btc::bitcoin::OutPoint;
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
        WatchEvent::Refunding { outpoint, txid } if is_besides(channel, *outpoint) => Some((
            "refunding",
            json!({"txid": txid.to_string(), "outpoint": outpoint.to_string()}),
            format!("what was paid to its address besides is taken back by {txid} ({outpoint})"),
        )),
        WatchEvent::Uneconomic {
            outpoint,
            claim,
            fee,
        } if is_besides(channel, *outpoint) => Some((
            "uneconomic",
            json!({
                "claim_sat": claim.to_sat(), "fee_sat": fee.to_sat(), "outpoint": outpoint.to_string(),
            }),
            format!(
                "to take back the {} sat that were paid to its address besides would cost {} sat now: too \
                 much; tried at every block ({outpoint})",
                claim.to_sat(),
                fee.to_sat()
            ),
        )),
        _ => None,
    }
}

/// True where it is not the channel that this is about.
fn is_besides(channel: Option<&ChannelReport>, outpoint: OutPoint) -> bool {
    channel.is_some_and(|own| own.besides.iter().any(|of| of.outpoint == outpoint))
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
        WatchEvent::Refunding { outpoint, txid } => (
            "refunding",
            json!({"txid": txid.to_string(), "outpoint": outpoint.to_string()}),
            format!("its time is over; taken back by {txid}"),
        ),
        WatchEvent::Uneconomic {
            outpoint,
            claim,
            fee,
        } => (
            "uneconomic",
            json!({
                "claim_sat": claim.to_sat(), "fee_sat": fee.to_sat(), "outpoint": outpoint.to_string(),
            }),
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

#[cfg(test)]
mod tests {
    use streampay_btc::bitcoin::hashes::Hash as _;
    use streampay_btc::bitcoin::{Amount, Txid};
    use streampay_btc::machine::PaidBesides;
    use streampay_core::units::{PurseId, SessionId};

    use super::*;

    fn output(byte: u8) -> OutPoint {
        OutPoint::new(Txid::from_byte_array([byte; 32]), 0)
    }

    /// A channel that was settled long ago is not taken back, whatever else its address was paid.
    #[test]
    fn what_was_paid_besides_is_not_told_as_the_channel() {
        let (session, purse) = (SessionId([7; 32]), PurseId(0));
        let channel = ChannelReport {
            purse: PurseKey { session, purse },
            role: Role::Payer,
            state: ChannelState::Settled,
            descriptor: String::new(),
            address: None,
            value: Amount::from_sat(9_000),
            paid: Amount::ZERO,
            reserve: Amount::ZERO,
            funding_fee: Amount::ZERO,
            outpoint: Some(output(1)),
            expiry: 9,
            left: Some(0),
            coming: None,
            settled: Some(Amount::from_sat(9_000)),
            refunded: None,
            short: None,
            besides: vec![PaidBesides {
                outpoint: output(2),
                value: Amount::from_sat(600),
                back: None,
                aside: false,
            }],
            split: Vec::new(),
        };
        let told = |number| {
            let (outpoint, txid) = (output(number), output(3).txid);
            let (claim, fee) = (Amount::from_sat(600), Amount::from_sat(500));
            let short = WatchEvent::Uneconomic {
                outpoint,
                claim,
                fee,
            };
            [WatchEvent::Refunding { outpoint, txid }, short]
                .map(|event| besides(&event, Some(&channel)).map(|(_, _, line)| line))
        };
        assert_eq!(told(1), [None, None]);
        for line in told(2) {
            assert!(line.unwrap().contains("to its address besides"));
        }
    }
}
