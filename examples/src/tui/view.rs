//! What the dashboard looks like.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as TableRow, Table};
use streampay_core::units::{Msat, SessionId};

use crate::board::{Row, Snapshot, Stands};

/// Over which time the rate is reckoned.
const RATE_OVER: Duration = Duration::from_secs(60);
/// The most figures that are kept for it: four a second.
const FIGURES_MAX: usize = 256;
const HELP: &str =
    "Enter says it to all; /kick NAME, /ban NAME, /mute NAME; arrows scroll; Ctrl-C ends";

/// The dashboard between two drawings.
#[derive(Debug)]
pub(super) struct View {
    link: String,
    colours: bool,
    began: Instant,
    pub(super) input: String,
    /// How many sessions are scrolled away.
    pub(super) scroll: usize,
    figures: VecDeque<(Instant, Msat)>,
    ending: bool,
}

impl View {
    pub(super) fn new(link: String, colours: bool) -> Self {
        Self {
            link,
            colours,
            began: Instant::now(),
            input: String::new(),
            scroll: 0,
            figures: VecDeque::new(),
            ending: false,
        }
    }

    /// The sessions are being closed.
    pub(super) const fn ends(&mut self) {
        self.ending = true;
    }

    #[cfg(test)]
    pub(super) const fn begun_at(mut self, began: Instant) -> Self {
        self.began = began;
        self
    }

    /// What was received by now.
    pub(super) fn note(&mut self, received: Msat, now: Instant) {
        self.figures.push_back((now, received));
        let old = |(at, _): &(Instant, Msat)| now.saturating_duration_since(*at) > RATE_OVER;
        while self.figures.len() > FIGURES_MAX || self.figures.front().is_some_and(old) {
            self.figures.pop_front();
        }
    }

    /// What came in the last minute.
    fn minute(&self) -> Msat {
        let of = |figure: Option<&(Instant, Msat)>| figure.map_or(Msat::ZERO, |(_, sum)| *sum);
        of(self.figures.back()).saturating_minus(of(self.figures.front()))
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, shown: &Snapshot, now: Instant) {
        let area = frame.area();
        let lines = (area.height / 3).min(12);
        let parts = Layout::vertical([
            Constraint::Length(3),
            Constraint::Min(4),
            Constraint::Length(lines),
            Constraint::Length(2),
        ]);
        let [head, table, log, input] = parts.areas(area);
        frame.render_widget(self.head(shown, now), head);
        self.sessions(frame, table, shown, now);
        let block = Block::default().borders(Borders::TOP).title(" news ");
        let room = usize::from(log.height.saturating_sub(1));
        let from = shown.lines.len().saturating_sub(room);
        let last = shown.lines.iter().skip(from);
        let last: Vec<_> = last.map(|line| Line::from(line.as_str())).collect();
        frame.render_widget(Paragraph::new(last).block(block), log);
        frame.render_widget(self.input(), input);
    }

    fn head(&self, shown: &Snapshot, now: Instant) -> Paragraph<'static> {
        let count = |wanted: &[Stands]| {
            let rows = shown.rows.iter();
            rows.filter(|(_, row)| wanted.contains(&row.stands)).count()
        };
        let here = [Stands::Connected, Stands::Streaming, Stands::Paused];
        let totals = &shown.totals;
        let up = clock(now.saturating_duration_since(self.began));
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let money = format!("{} received", totals.received);
        let rest = format!(
            ", {} in the last minute, {} of tips    up {up}",
            self.minute(),
            totals.tips
        );
        let sessions = format!(
            "{} watching: {} paying, {} paused; {} away, {} closing, {} not settled; {} of {} settled",
            count(&here),
            count(&[Stands::Streaming]),
            count(&[Stands::Paused]),
            count(&[Stands::Away]),
            count(&[Stands::Closing]),
            count(&[Stands::Unsettled]),
            totals.settled,
            totals.begun,
        );
        Paragraph::new(vec![
            Line::from(self.link.clone()),
            Line::from(vec![Span::styled(money, bold), Span::raw(rest)]),
            Line::from(sessions),
        ])
    }

    fn sessions(&self, frame: &mut Frame<'_>, area: Rect, shown: &Snapshot, now: Instant) {
        let mut rows: Vec<&(SessionId, Row)> = shown.rows.iter().collect();
        // Those that are over come last, and of the others the newest first.
        rows.sort_by_key(|(id, row)| {
            let since = now.saturating_duration_since(row.since);
            (row.stands == Stands::Settled, since, *id)
        });
        let each = rows.iter().skip(self.scroll);
        let each = each.map(|(id, row)| self.row(*id, row, now));
        let widths = [
            Constraint::Length(8),
            Constraint::Length(10),
            Constraint::Length(14),
            Constraint::Length(6),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Min(10),
        ];
        let names = ["session", "state", "paid", "ticks", "for", "last", ""];
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let table = Table::new(each, widths)
            .header(TableRow::new(names).style(bold))
            .block(Block::default().borders(Borders::TOP).title(" sessions "));
        frame.render_widget(table, area);
    }

    fn row(&self, id: SessionId, row: &Row, now: Instant) -> TableRow<'static> {
        let name: String = id.to_string().chars().take(8).collect();
        let paid = row
            .paid
            .map_or_else(|| "?".to_owned(), |paid| paid.to_string());
        let ago = |at: Instant| clock(now.saturating_duration_since(at));
        let stands = Cell::from(row.stands.word()).style(self.style(row.stands));
        TableRow::new(vec![
            Cell::from(name),
            stands,
            Cell::from(paid),
            Cell::from(row.ticks.to_string()),
            Cell::from(ago(row.since)),
            Cell::from(ago(row.last)),
            Cell::from(row.why.clone().unwrap_or_default()),
        ])
    }

    fn style(&self, stands: Stands) -> Style {
        let style = Style::default();
        let colour = match stands {
            Stands::Streaming => Color::Green,
            Stands::Connected | Stands::Paused | Stands::Away | Stands::Closing => Color::Yellow,
            Stands::Unsettled => Color::Red,
            Stands::Settled => Color::DarkGray,
        };
        match (self.colours, stands) {
            (true, _) => style.fg(colour),
            (false, Stands::Unsettled) => style.add_modifier(Modifier::BOLD),
            (false, _) => style,
        }
    }

    fn input(&self) -> Paragraph<'static> {
        let dim = Style::default().add_modifier(Modifier::DIM);
        let help = match self.ending {
            true => "closing the sessions",
            false => HELP,
        };
        Paragraph::new(vec![
            Line::from(format!("> {}", self.input)),
            Line::from(Span::styled(help, dim)),
        ])
    }
}

/// `1:02:03`, or `2:03` below an hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}
