//! One event of a session, as a name and fields for programs and a line for people.

use serde_json::{Value, json};
use streampay_core::backend::{BackendError, RefusalCode};
use streampay_core::meter::PauseReason;
use streampay_core::session::{Event, RoomNews};
use streampay_core::wire::Terms;

pub(super) fn describe(event: &Event) -> (&'static str, Value, Option<String>) {
    let text = |line: String| Some(line);
    match event {
        Event::Bound { resumed, .. } => {
            let how = if *resumed { "resumed" } else { "connected" };
            ("bound", json!({"resumed": resumed}), text(how.into()))
        }
        Event::PurseOpen { capacity, .. } => {
            let line = format!("a purse of {capacity} is open");
            (
                "purse_open",
                json!({"capacity_msat": capacity.msat()}),
                text(line),
            )
        }
        Event::PurseRefused { code, .. } => (
            "purse_refused",
            json!({"why": code.to_string()}),
            text(format!("purse refused: {code}; another one is tried")),
        ),
        Event::TickPaid {
            seq,
            total,
            reading,
        } => (
            "tick_paid",
            json!({"seq": seq.0, "total_msat": total.msat(), "media_ms": reading.media_ms}),
            text(format!(
                "{:.1} s seen, {total} paid so far",
                seconds(reading.media_ms)
            )),
        ),
        Event::TickReceived { seq, total } => (
            "tick_received",
            json!({"seq": seq.0, "total_msat": total.msat()}),
            text(format!("{total} received so far")),
        ),
        Event::TickRefused { code, .. } => (
            "refused",
            json!({"why": code.to_string()}),
            text(format!(
                "payment refused: {code}; it is taken back or shown again"
            )),
        ),
        Event::TickReclaimed { .. } => ("reclaimed", json!({}), text("payment taken back".into())),
        Event::TickLost { amount, .. } => {
            let line = format!("{amount} is spent and not acknowledged");
            ("lost", json!({"amount_msat": amount.msat()}), text(line))
        }
        Event::Paused { by_peer, reason } => (
            "paused",
            json!({"by_peer": by_peer, "why": reason.to_string()}),
            text(match (by_peer, reason) {
                (false, PauseReason::ByPayer | PauseReason::ByPayee) => "you paused".into(),
                (_, PauseReason::BackendAway) => "paused: nothing can be paid right now".into(),
                _ => format!("paused: {reason}"),
            }),
        ),
        Event::Resumed => ("resumed", json!({}), text("goes on".into())),
        Event::Stalled { ms } => ("stalled", json!({"ms": ms}), text("no media comes".into())),
        Event::BackendTrouble { error } => (
            "trouble",
            json!({"why": error.to_string()}),
            text(waiting(*error)),
        ),
        Event::Dropped { error } => ("dropped", json!({"why": error.to_string()}), None),
        Event::Misbehaved { how } => (
            "misbehaved",
            json!({"how": how.to_string()}),
            text(format!("the other side: {how}")),
        ),
        Event::LinkDown => (
            "link_down",
            json!({}),
            text("the connection is down".into()),
        ),
        Event::Closed { code, by_peer } => (
            "closed",
            json!({"why": code.to_string(), "by_peer": by_peer}),
            text(format!("the session ends: {code}")),
        ),
        Event::Settled { total, returned } => (
            "settled",
            json!({"total_msat": total.msat(), "returned_msat": returned.msat()}),
            text(format!("settled: {total} in all; {returned} came home")),
        ),
        Event::Unredeemed { error, .. } => (
            "unredeemed",
            json!({"why": error.to_string()}),
            text(match *error {
                BackendError::Rejected(RefusalCode::AlreadySpent, _) => {
                    "some of what was paid here is spent by somebody else: it is lost, the rest is \
                     redeemed"
                        .to_owned()
                }
                error => format!(
                    "what was paid cannot be redeemed now: {}; it is tried again",
                    waiting(error)
                ),
            }),
        ),
        Event::Unsettled { error, .. } => (
            "unsettled",
            json!({"why": error.to_string()}),
            text(format!("not settled yet: {}", waiting(*error))),
        ),
        Event::News(news) => describe_news(news),
        Event::TipPaid { tips } => (
            "tip_paid",
            json!({"tips_msat": tips.msat()}),
            text(format!("given: {tips} in all")),
        ),
        Event::TipRefused {
            amount,
            least,
            most,
        } => (
            "tip_refused",
            json!({"amount_msat": amount.msat(), "least_msat": least.msat(), "most_msat": most.msat()}),
            text(format!("not given: {amount}; it can be {least} to {most}")),
        ),
        Event::TipReceived { amount, tips } => (
            "tip_received",
            json!({"amount_msat": amount.msat(), "tips_msat": tips.msat()}),
            text(format!("{amount} beside the media, {tips} in all")),
        ),
        Event::CommandRefused(misuse) => (
            "command_refused",
            json!({"why": misuse.to_string()}),
            text(format!("this cannot be done now: {misuse}")),
        ),
        other => describe_terms(other),
    }
}

/// What is wrong at the mint or the chain. A confirmation that is not there yet is nothing wrong.
fn waiting(error: BackendError) -> String {
    match error {
        BackendError::Transient => "waiting for the mint or the chain".to_owned(),
        error => error.to_string(),
    }
}

/// What the streamer's room says to a viewer.
fn describe_news(news: &RoomNews) -> (&'static str, Value, Option<String>) {
    match news {
        RoomNews::Joined { name } => (
            "joined",
            json!({"name": name}),
            Some(format!("you are in the room as {name}")),
        ),
        RoomNews::Refused { code } => (
            "join_refused",
            json!({"why": code.to_string()}),
            Some(format!("you are not in the room: {code}")),
        ),
        RoomNews::Presence { viewers, .. } => (
            "viewers",
            json!({"viewers": viewers}),
            Some(format!("{viewers} watching")),
        ),
        RoomNews::Chat { sender, text } => {
            let who = sender.as_deref().unwrap_or("streamer");
            (
                "chat",
                json!({"name": sender, "text": text.as_str()}),
                Some(format!("<{who}> {}", text.as_str())),
            )
        }
        RoomNews::Tip { sender, amount } => (
            "tip",
            json!({"name": sender, "amount_msat": amount.msat()}),
            Some(format!("{sender} gave {amount}")),
        ),
        _ => ("other", json!({}), None),
    }
}

/// A change of price, one line for people and the figures for programs.
fn describe_terms(event: &Event) -> (&'static str, Value, Option<String>) {
    let minute = |terms: &Terms| crate::quote::a_minute(terms.tariff);
    match event {
        Event::TermsOffered { terms, from } => (
            "terms_offered",
            json!({"minute_msat": minute(terms).msat(), "from_msat": from.msat()}),
            Some(format!(
                "once {from} are used, a minute is to cost {}",
                minute(terms)
            )),
        ),
        Event::TermsAgreed { terms, from } => (
            "terms_agreed",
            json!({"minute_msat": minute(terms).msat(), "from_msat": from.msat()}),
            Some(format!("agreed: {} a minute from {from} on", minute(terms))),
        ),
        Event::TermsDeclined { from } => (
            "terms_declined",
            json!({"from_msat": from.msat()}),
            Some(format!("the new price is refused: ends at {from}")),
        ),
        Event::TermsBegan { terms } => (
            "terms_began",
            json!({"minute_msat": minute(terms).msat()}),
            Some(format!("{} a minute from here on", minute(terms))),
        ),
        _ => ("other", json!({}), None),
    }
}

/// For people only.
#[expect(
    clippy::as_conversions,
    reason = "a number to be read, not to be computed with"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
