//! What a session says, for a person on stderr and for a program on stdout.

use std::io::Write;

use serde_json::{Value, json};
use streampay_core::session::Event;

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
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// A session's event, both ways.
    pub fn event(self, who: &str, event: &Event) {
        let (name, fields, line) = describe(event);
        let mut fields = fields;
        if let Some(object) = fields.as_object_mut() {
            object.insert("side".into(), who.into());
        }
        self.say(name, fields);
        if let Some(line) = line {
            self.tell(&format!("{who}: {line}"));
        }
    }
}

fn describe(event: &Event) -> (&'static str, Value, Option<String>) {
    let text = |line: String| Some(line);
    match event {
        Event::Bound {
            session, resumed, ..
        } => {
            let how = if *resumed { "resumed" } else { "connected" };
            (
                "bound",
                json!({"session": session.to_string(), "resumed": resumed}),
                text(how.into()),
            )
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
            "tick",
            json!({"seq": seq.0, "total_msat": total.msat(), "media_ms": reading.media_ms}),
            text(format!(
                "paid {total} for {:.1} s",
                seconds(reading.media_ms)
            )),
        ),
        Event::TickReceived { seq, total } => (
            "tick",
            json!({"seq": seq.0, "total_msat": total.msat()}),
            text(format!("received {total}")),
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
            text(format!("paused: {reason}")),
        ),
        Event::Resumed => ("resumed", json!({}), text("goes on".into())),
        Event::Stalled { ms } => ("stalled", json!({"ms": ms}), text("no media comes".into())),
        Event::BackendTrouble { error } => (
            "trouble",
            json!({"why": error.to_string()}),
            text(error.to_string()),
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
            text(format!("closed {code}")),
        ),
        Event::Settled { total, returned } => (
            "settled",
            json!({"total_msat": total.msat(), "returned_msat": returned.msat()}),
            text(format!("settled: {total}")),
        ),
        Event::Unsettled { error, .. } => (
            "unsettled",
            json!({"why": error.to_string()}),
            text(format!("not settled: {error}")),
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

/// Logs to stderr: warnings, or what `RUST_LOG` says. The media stack's driver logs whole packets
/// as errors and is left out.
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let filter = match "webrtc::peer_connection::driver=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// The link on stdout, with a QR code on a terminal.
pub fn show_link(link: &str) {
    use std::io::IsTerminal;
    println!("{link}");
    if std::io::stdout().is_terminal()
        && let Ok(code) = qrcode::QrCode::new(link)
    {
        println!(
            "{}",
            code.render::<qrcode::render::unicode::Dense1x2>().build()
        );
    }
}

/// A wallet's balance, for a person.
pub fn show_balance(balances: &[crate::wallet::MintBalance]) {
    if balances.is_empty() {
        println!("0 sat");
    }
    for balance in balances {
        println!(
            "{} spendable, {} pending at {}",
            balance.spendable, balance.pending, balance.mint
        );
    }
}
