//! What a session says, for a person on stderr and for a program on stdout.

mod describe;
mod next;

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use streampay_core::session::Event;
use streampay_core::store::StoreError;
use streampay_core::units::SessionId;

use crate::board::Board;
use crate::error::AppError;
use crate::events;
use crate::ledger::tell_unreadable;
use crate::wallet::MintBalance;
use describe::describe;

pub use next::Next;

/// The terminal's last line is a live one, not ended yet.
static LIVE: AtomicBool = AtomicBool::new(false);

/// Something that was shown did not get to where stdout goes.
static LOST: AtomicBool = AtomicBool::new(false);

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
            debug_assert!(events::is_known(name, object), "{name} {object:?}");
            object.insert("event".into(), name.into());
        }
        let mut out = std::io::stdout().lock();
        // Where nobody reads any more, the session goes on all the same.
        if let Err(error) = writeln!(out, "{fields}").and_then(|()| out.flush()) {
            note_lost(&error);
        }
    }

    /// A line for a person.
    pub fn tell(self, line: &str) {
        if Board::of_this_process().is_some_and(|board| board.line(line)) {
            return;
        }
        let end = if LIVE.swap(false, Ordering::Relaxed) {
            "\n"
        } else {
            ""
        };
        let _ = writeln!(std::io::stderr().lock(), "{end}{line}");
    }

    /// A line for a person that the next of its kind takes the place of, on a terminal.
    pub(crate) fn live(self, line: &str) {
        if Board::of_this_process().is_some_and(Board::has_terminal) {
            return;
        }
        let mut out = std::io::stderr().lock();
        if !out.is_terminal() {
            drop(out);
            return self.tell(line);
        }
        LIVE.store(true, Ordering::Relaxed);
        // A line that wraps could not be taken back.
        let said = crossterm::terminal::size().ok();
        let cut = line.chars().take(room(said.map(|(columns, _)| columns)));
        let line: String = cut.collect();
        let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
    }

    /// Takes a live line away that nobody needs any more.
    pub(crate) fn wipe(self) {
        if LIVE.swap(false, Ordering::Relaxed) {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }

    /// A session that cannot be taken up, both ways: its records cannot be read, or written. `side` is
    /// `viewer` or `streamer`.
    pub(crate) fn unusable(self, side: &str, session: SessionId, error: &StoreError) {
        let next = Next::after_unusable(*error);
        match next {
            Next::Restore => tell_unreadable(&[session], self),
            _ => self.tell(&format!("session {session}: {error}")),
        }
        let next = next.name();
        self.say(
            "unusable",
            json!({
                "side": side, "session": session.to_string(), "why": error.to_string(),
                "next": next,
            }),
        );
    }

    /// A session's event, both ways: `side` is `viewer` or `streamer`, `next` what happens then.
    pub fn of_session(self, side: &str, session: SessionId, event: &Event, next: Option<Next>) {
        if let Some(board) = Board::of_this_process() {
            board.note(session, event);
        }
        let session = session.to_string();
        let short = session.get(..8).unwrap_or_default();
        let who = format!("{side} [{short}]");
        self.event((side, &session), &who, (event, next), None);
    }

    /// The same of the only session that there is. `live` is what a terminal shows in place of the
    /// line before it.
    pub fn of_the_session(
        self,
        side: &str,
        session: SessionId,
        event: &Event,
        live: Option<String>,
    ) {
        let next = Next::after(event);
        self.event((side, &session.to_string()), side, (event, next), live);
    }

    fn event(
        self,
        (side, session): (&str, &str),
        who: &str,
        (event, next): (&Event, Option<Next>),
        live: Option<String>,
    ) {
        let (name, mut fields, line) = describe(event);
        if let Some(object) = fields.as_object_mut() {
            if let Some(next) = next {
                object.insert("next".into(), next.name().into());
            }
            object.insert("side".into(), side.into());
            object.insert("session".into(), session.into());
        }
        self.say(name, fields);
        let Some(line) = line else { return };
        let again = match next {
            Some(Next::Retries) => "; it is tried again each minute",
            _ => "",
        };
        let line = format!("{who}: {line}{again}");
        match event {
            Event::TickPaid { .. } | Event::TickReceived { .. } => {
                let shown = live.filter(|_| std::io::stderr().is_terminal());
                self.live(&shown.unwrap_or(line));
            }
            _ => self.tell(&line),
        }
    }
}

/// True where the user wants no colours (no-color.org), or the terminal knows none.
#[must_use]
pub fn colourless() -> bool {
    let says = |name: &str| std::env::var_os(name);
    wants_none(says("NO_COLOR").as_deref(), says("TERM").as_deref())
}

/// The same of what the two variables say.
fn wants_none(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_some_and(|value| !value.is_empty()) || term.is_some_and(|term| term == "dumb")
}

/// Text of somebody else, fit for a terminal: one line, no control characters, at most 1 000
/// characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(1_000).collect()
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
        .with_ansi(std::io::stderr().is_terminal() && !colourless())
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
    show_line(text);
    if std::io::stdout().is_terminal()
        && let Some(code) = drawn(code, !colourless())
    {
        show_line(code);
    }
}

/// A QR code of half blocks, two rows a line, white on black whatever the terminal's own colours are: on a dark
/// one what is drawn in its colours is inverted, which not every camera reads. In the terminal's own where
/// no other ones are wanted: it is dark, as a rule.
fn drawn(text: &str, in_colors: bool) -> Option<String> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::new(text).ok()?;
    let mut image = code.render::<Dense1x2>();
    image
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark);
    let lines = image.build();
    if !in_colors {
        return Some(lines);
    }
    let lines = lines
        .lines()
        .map(|line| format!("{WHITE_ON_BLACK}{line}{OWN_COLORS}"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Source: ECMA-48, select graphic rendition.
const WHITE_ON_BLACK: &str = "\u{1b}[97;40m";
const OWN_COLORS: &str = "\u{1b}[0m";

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

/// How much of a line is shown on a terminal that says how wide it is; some say 0, or nothing.
fn room(said: Option<u16>) -> usize {
    let wide = said.filter(|columns| *columns > 0).unwrap_or(80);
    usize::from(wide).saturating_sub(1)
}

/// A line on stdout. Whoever reads it may have read enough and be gone, as `head` is: what was done is done all
/// the same. Anything else that cannot be written is told in the end.
pub fn show_line(line: impl core::fmt::Display) {
    show(format_args!("{line}\n"));
}

/// The same of text that ends its own lines.
pub(crate) fn show(text: impl core::fmt::Display) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
        note_lost(&error);
    }
}

fn note_lost(error: &std::io::Error) {
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// What was shown on stdout got there.
///
/// # Errors
/// [`AppError::Failed`] where a part of it did not, as on a full disk.
pub(crate) fn check_output() -> Result<(), AppError> {
    match LOST.load(Ordering::Relaxed) {
        true => Err(AppError::Failed(
            "what was to be shown could not be written to the end: free space, and ask for it again",
        )),
        false => Ok(()),
    }
}

/// The same on stderr.
pub fn show_note(line: impl core::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A wallet's balance on stdout.
pub fn show_balance(balances: &[MintBalance]) {
    lines(balances).for_each(show_line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_shown_where_the_terminal_does_not_say_how_wide_it_is() {
        assert_eq!([room(None), room(Some(0)), room(Some(40))], [79, 79, 39]);
    }

    /// Source: no-color.org; an empty value says nothing.
    #[test]
    fn no_colours_where_the_user_wants_none_or_the_terminal_has_none() {
        for (no_color, term, expect) in [
            (None, None, false),
            (Some(""), Some("xterm-256color"), false),
            (Some("1"), Some("xterm-256color"), true),
            (Some("0"), None, true),
            (None, Some("dumb"), true),
        ] {
            let none = wants_none(no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(none, expect, "{no_color:?} {term:?}");
        }
    }

    /// By the patterns in three of its corners a camera finds it. Source: ISO/IEC 18004.
    #[test]
    fn address_and_amount_are_drawn_as_a_code_that_a_camera_finds() {
        let address = "bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqvg32hk";
        let uri = format!("bitcoin:{address}?amount=0.00100000");
        let bare = drawn(&uri, false).unwrap();
        let drawn = drawn(&uri, true).unwrap();
        assert!(!bare.contains('\u{1b}'), "{bare}");
        let mut rows: Vec<Vec<bool>> = Vec::new();
        for (line, bare) in drawn.lines().zip(bare.lines()) {
            let line = line.strip_prefix(WHITE_ON_BLACK).unwrap();
            let line = line.strip_suffix(OWN_COLORS).unwrap();
            assert_eq!(line, bare, "the same without colours");
            let half = |upper| line.chars().map(move |sign| lit(sign, upper)).collect();
            rows.extend([half(true), half(false)]);
        }
        let wide = rows[0].len();
        // Four of margin on each side, lit; 41 modules are version 6, which holds so much.
        assert_eq!((wide, rows.len() / 2), (41 + 8, (41 + 9) / 2), "{drawn}");
        let dark = |x: usize, y: usize| !rows[y][x];
        let is_ring = |at: usize| at == 0 || at == 6;
        for (left, top) in [(4, 4), (wide - 11, 4), (4, wide - 11)] {
            for (x, y) in (0..7).flat_map(|x| (0..7).map(move |y| (x, y))) {
                let ring = is_ring(x) || is_ring(y);
                let heart = (2..5).contains(&x) && (2..5).contains(&y);
                assert_eq!(dark(left + x, top + y), ring || heart, "{x} {y}\n{drawn}");
            }
        }
        assert!((0..wide).all(|at| !dark(at, 0) && !dark(0, at)), "{drawn}");
    }

    fn lit(sign: char, upper: bool) -> bool {
        match sign {
            '█' => true,
            '▀' => upper,
            '▄' => !upper,
            ' ' => false,
            other => panic!("{other}"),
        }
    }
}
