//! What became of every session: for people, as JSON and as CSV.

use serde_json::{Value, json};
use streampay_core::session::{PurseLedger, Role, SessionLedger};
use streampay_core::units::{Msat, Unix};

use super::Ledger;
use super::uncollected::{Figures, uncollected};
use crate::report::{Report, plain, show_line};

/// The sums of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Payer: all that left the wallet.
    pub paid: Msat,
    /// Paid to the streamer and acknowledged.
    pub acknowledged: Msat,
    /// What of that the streamer never collected: the viewer has it back.
    pub uncollected: Msat,
    /// What came back (payer) or arrived (payee).
    pub returned: Msat,
    /// What neither side has, of purses that are home.
    pub fees: Msat,
    /// Payee: what came home beyond what was acknowledged: of a channel that it closed alone, what closing
    /// did not take of what the viewer had set aside for it.
    pub reserve: Msat,
    /// What is in purses that are not home yet: less what was acknowledged (payer), or all that
    /// was acknowledged (payee).
    pub out: Msat,
}

impl Sums {
    /// Of a session's rows alone: ecash of a viewer's that came back counts as paid all the same.
    #[must_use]
    pub fn of(session: &SessionLedger) -> Self {
        Self::with(session, &Figures::default())
    }

    /// Of a session's rows, and what other books have of their purses.
    #[must_use]
    pub fn with(session: &SessionLedger, figures: &Figures) -> Self {
        let mut sums = Self::default();
        for row in &session.purses {
            let lost = uncollected(session, row, figures);
            let kept = row.acknowledged.saturating_minus(lost);
            sums.uncollected = sums.uncollected.saturating_plus(lost);
            sums.paid = sums.paid.saturating_plus(row.cost);
            sums.acknowledged = sums.acknowledged.saturating_plus(row.acknowledged);
            sums.returned = sums.returned.saturating_plus(row.returned);
            if session.role == Role::Payee && row.home {
                let beyond = row.returned.saturating_minus(row.acknowledged);
                sums.reserve = sums.reserve.saturating_plus(beyond);
            }
            let rest = match session.role {
                Role::Payer => row.cost.saturating_minus(kept),
                Role::Payee => kept,
            };
            let rest = rest.saturating_minus(row.returned);
            let side = if row.home {
                &mut sums.fees
            } else {
                &mut sums.out
            };
            *side = side.saturating_plus(rest);
        }
        sums
    }

    /// What the streamer has of what it acknowledged, or will.
    #[must_use]
    pub const fn reached(&self) -> Msat {
        self.acknowledged.saturating_minus(self.uncollected)
    }
}

/// One session as programs read it. The fields are documented in `spec/ledger.md`.
#[must_use]
pub fn fields(session: &SessionLedger, figures: &Figures) -> Value {
    let sums = Sums::with(session, figures);
    let unix = |at: Option<Unix>| at.map(|at| at.0);
    json!({
        "session": session.session.to_string(),
        "side": side(session.role),
        "peer": session.peer.to_string(),
        "title": session.terms.title,
        "began_unix_s": unix(session.began),
        "ended_unix_s": unix(session.ended),
        "why": session.code.map(|code| code.to_string()),
        "state": state(session),
        "media_ms": session.reading.media_ms,
        "bytes": session.reading.bytes,
        "paid_msat": sums.paid.msat(),
        "acknowledged_msat": sums.acknowledged.msat(),
        "returned_msat": sums.returned.msat(),
        "fees_msat": sums.fees.msat(),
        "uncollected_msat": sums.uncollected.msat(),
        "reserve_msat": sums.reserve.msat(),
        "out_msat": sums.out.msat(),
        "tips_msat": session.tips.msat(),
        "written_off_msat": session.written_off.msat(),
        "receipt_msat": session.receipt.map(|of| of.receipt.total.msat()),
        "purses": session.purses.iter().map(purse).collect::<Vec<_>>(),
    })
}

fn purse(row: &PurseLedger) -> Value {
    json!({
        "purse": row.purse.0,
        "method": row.method,
        "home": row.home,
        "capacity_msat": row.capacity.msat(),
        "cost_msat": row.cost.msat(),
        "made_msat": row.made.msat(),
        "acknowledged_msat": row.acknowledged.msat(),
        "returned_msat": row.returned.msat(),
    })
}

/// The columns of the CSV, each a field of the JSON. Source: RFC 4180.
const COLUMNS: [&str; 19] = [
    "session",
    "side",
    "peer",
    "title",
    "began_unix_s",
    "ended_unix_s",
    "why",
    "state",
    "media_ms",
    "bytes",
    "paid_msat",
    "acknowledged_msat",
    "returned_msat",
    "fees_msat",
    "uncollected_msat",
    "reserve_msat",
    "out_msat",
    "tips_msat",
    "written_off_msat",
];

/// All sessions, with a line of names first.
#[must_use]
pub fn csv(ledger: &Ledger) -> String {
    let mut lines = vec![COLUMNS.join(",")];
    lines.extend(ledger.sessions.iter().map(|session| {
        let fields = fields(session, &ledger.figures);
        let cells = COLUMNS.map(|name| cell(fields.get(name).unwrap_or(&Value::Null)));
        cells.join(",")
    }));
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

/// Text is quoted always. What a table would take for a formula gets an apostrophe first: a title
/// is somebody else's.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            let text = plain(text);
            let formula = text.starts_with(['=', '+', '-', '@']);
            let mark = if formula { "'" } else { "" };
            format!("\"{mark}{}\"", text.replace('"', "\"\""))
        }
        other => other.to_string(),
    }
}

/// Tells all of it: JSON a line, or CSV, or for people.
pub fn tell(ledger: &Ledger, report: Report, as_csv: bool) {
    if as_csv {
        crate::report::show(csv(ledger));
        return;
    }
    if ledger.sessions.is_empty() {
        report.tell("no session was ever paid here");
    }
    for session in &ledger.sessions {
        report.say("history", fields(session, &ledger.figures));
        if !report.json {
            show_line(line(session, &ledger.figures));
        }
    }
}

fn line(session: &SessionLedger, figures: &Figures) -> String {
    let sums = Sums::with(session, figures);
    let id = session.session.to_string();
    let id = id.get(..8).unwrap_or_default();
    let peer = session.peer.to_string();
    let peer = peer.get(..8).unwrap_or_default();
    let when = match (session.began, session.ended) {
        (None, _) => "at an unknown time".to_owned(),
        (Some(began), None) => format!("{}, not ended", date(began)),
        (Some(began), Some(ended)) => {
            let lasted = ended.0.saturating_sub(began.0);
            format!("{}, {} min {} s", date(began), lasted / 60, lasted % 60)
        }
    };
    let money = money(session, &sums, peer);
    let mut more = String::new();
    if !sums.out.is_zero() {
        more = format!(" + {} not home yet", sums.out);
    }
    if !session.tips.is_zero() {
        more = format!("{more}; {} of it beside the media", session.tips);
    }
    let why = session
        .code
        .map_or(String::new(), |code| format!("; {code}"));
    format!("[{id}] {when}, {money}{more}; {}{why}", state(session))
}

/// What came and what went.
fn money(session: &SessionLedger, sums: &Sums, peer: &str) -> String {
    let title = plain(&session.terms.title);
    let lost = sums.uncollected;
    match session.role {
        Role::Payer => {
            let lost = match lost.is_zero() {
                true => String::new(),
                false => format!(", {lost} of it acknowledged and never collected"),
            };
            format!(
                "watched \"{title}\" of {peer}: {} left the wallet = {} to the streamer + {} of \
                 fees + {} back{lost}",
                sums.paid,
                sums.reached(),
                sums.fees,
                sums.returned
            )
        }
        Role::Payee => {
            let beyond = match sums.reserve.is_zero() {
                true => String::new(),
                false => format!(" + {} that closing the channel did not take", sums.reserve),
            };
            let lost = match lost.is_zero() {
                true => String::new(),
                false => format!(" + {lost} never collected"),
            };
            format!(
                "streamed \"{title}\" to {peer}: {} earned{beyond} = {} arrived + {} of fees{lost}",
                sums.acknowledged, sums.returned, sums.fees
            )
        }
    }
}

const fn side(role: Role) -> &'static str {
    match role {
        Role::Payer => "viewer",
        Role::Payee => "streamer",
    }
}

const fn state(session: &SessionLedger) -> &'static str {
    match (session.settled, session.code) {
        (true, _) => "settled",
        (false, Some(_)) => "closing",
        (false, None) => "open",
    }
}

/// A time in UTC, such as `2026-11-21 18:05`, by the Gregorian calendar.
pub(crate) fn date(at: Unix) -> String {
    let (days, minutes) = (at.0 / 86_400, at.0 % 86_400 / 60);
    // Eras of 400 years from the first of March of the year 0: a leap day is then a year's last.
    let day = days.saturating_add(719_468);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // By `date -u -d @N`.
        for (at, expect) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_709_164_800, "2024-02-29 00:00"),
            (1_798_761_599, "2026-12-31 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(Unix(at)), expect);
        }
    }

    #[test]
    fn cells_are_quoted_and_no_formula() {
        for (value, expect) in [
            (json!(null), ""),
            (json!(5), "5"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"x\"\r\n"), "\"say \"\"x\"\"  \""),
            (json!("=1+1"), "\"'=1+1\""),
            (json!("@x"), "\"'@x\""),
        ] {
            assert_eq!(cell(&value), expect);
        }
    }
}
