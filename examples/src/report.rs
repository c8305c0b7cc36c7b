//! What a session says, for a person on stderr and for a program on stdout.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use streampay_core::backend::BackendError;
use streampay_core::meter::PauseReason;
use streampay_core::session::{Event, RoomNews};
use streampay_core::units::SessionId;
use streampay_core::wire::Terms;

use crate::error::AppError;
use crate::wallet::MintBalance;

/// The terminal's last line is a live one, not ended yet.
static LIVE: AtomicBool = AtomicBool::new(false);

/// Where events go.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// One JSON object a line on stdout.
    pub json: bool,
}

impl Report {
    /// One event under `name`. Its fields are added to `{"event": name}`.
    pub fn say(self, name: &str, mut fields: Value) {
        if !self.json {
            return;
        }
        if let Some(object) = fields.as_object_mut() {
            object.insert("event".into(), name.into());
        }
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the session goes on all the same.
        let _ = writeln!(out, "{fields}").and_then(|()| out.flush());
    }

    /// A line for a person.
    pub fn tell(self, line: &str) {
        let end = if LIVE.swap(false, Ordering::Relaxed) {
            "\n"
        } else {
            ""
        };
        let _ = writeln!(std::io::stderr().lock(), "{end}{line}");
    }

    /// A line for a person that the next of its kind takes the place of, on a terminal.
    fn live(self, line: &str) {
        let mut out = std::io::stderr().lock();
        if !out.is_terminal() {
            drop(out);
            return self.tell(line);
        }
        LIVE.store(true, Ordering::Relaxed);
        let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
    }

    /// A session's event, both ways: `side` is `viewer` or `streamer`.
    pub fn of_session(self, side: &str, session: SessionId, event: &Event) {
        let session = session.to_string();
        let short = session.get(..8).unwrap_or_default();
        self.event(side, &session, &format!("{side} [{short}]"), event);
    }

    /// The same of the only session that there is.
    pub fn of_the_session(self, side: &str, session: SessionId, event: &Event) {
        self.event(side, &session.to_string(), side, event);
    }

    fn event(self, side: &str, session: &str, who: &str, event: &Event) {
        let (name, mut fields, line) = describe(event);
        if let Some(object) = fields.as_object_mut() {
            object.insert("side".into(), side.into());
            object.insert("session".into(), session.into());
        }
        self.say(name, fields);
        let Some(line) = line else { return };
        let line = format!("{who}: {line}");
        match event {
            Event::TickPaid { .. } | Event::TickReceived { .. } => self.live(&line),
            _ => self.tell(&line),
        }
    }
}

/// Text of somebody else, fit for a terminal: one line, no control characters, at most 1 000
/// characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(1_000).collect()
}

fn describe(event: &Event) -> (&'static str, Value, Option<String>) {
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
            text(format!("purse refused: {code}")),
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
            text(format!("payment refused: {code}")),
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
            text(format!("settled: {total}")),
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

/// Logs to stderr what `RUST_LOG` says; nothing without it, for what a user must know is told
/// otherwise. The media stack's driver logs whole packets as errors and is left out.
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let filter = match "webrtc::peer_connection::driver=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// The link on stdout, with a QR code on a terminal. With JSON, stdout is for that alone.
pub fn show_link(report: Report, link: &str) {
    show_code(report, link, link);
}

/// `text` on stdout, and on a terminal `code` as a QR code. With JSON, stdout is for that alone.
pub fn show_code(report: Report, text: &str, code: &str) {
    if report.json {
        return report.tell(text);
    }
    println!("{text}");
    if std::io::stdout().is_terminal()
        && let Ok(code) = qrcode::QrCode::new(code)
    {
        println!(
            "{}",
            code.render::<qrcode::render::unicode::Dense1x2>().build()
        );
    }
}

/// Asks the user, on a terminal.
///
/// # Errors
/// [`AppError::Declined`] for anything but yes; [`AppError::Usage`] with `otherwise` where nobody
/// can be asked.
pub fn ask(question: &str, otherwise: &'static str) -> Result<(), AppError> {
    if !std::io::stdin().is_terminal() {
        return Err(AppError::Usage(otherwise));
    }
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
    drop(out);
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim().eq_ignore_ascii_case("y") => Ok(()),
        _ => Err(AppError::Declined),
    }
}

/// A wallet's balance on stdout.
pub fn show_balance(balances: &[MintBalance]) {
    lines(balances).for_each(|line| println!("{line}"));
}

/// A wallet's balance for a person, beside what else is told.
pub fn show_balance_of(report: Report, balances: &[MintBalance]) {
    lines(balances).for_each(|line| report.tell(&line));
}

fn lines(balances: &[MintBalance]) -> impl Iterator<Item = String> {
    let nothing = balances.is_empty().then(|| "0 sat".to_owned());
    let each = balances.iter().map(|balance| {
        format!(
            "{} spendable, {} pending at {}",
            balance.spendable, balance.pending, balance.mint
        )
    });
    nothing.into_iter().chain(each)
}
