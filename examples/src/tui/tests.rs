use std::time::Duration;

use ratatui::backend::TestBackend;
use streampay_core::units::{Msat, SessionId};

use super::*;
use crate::board::{Row, Snapshot, Stands};

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn row(now: Instant, stands: Stands, paid: Option<u64>, ago: u64) -> Row {
    Row {
        stands,
        why: None,
        paid: paid.map(sat),
        tips: Msat::ZERO,
        ticks: paid.unwrap_or(0) / 2,
        since: now - Duration::from_secs(ago),
        last: now - Duration::from_secs(3),
    }
}

fn snapshot(now: Instant) -> Snapshot {
    let rows = [
        row(now, Stands::Streaming, Some(48), 240),
        Row {
            why: Some("the mint or the chain does not answer".into()),
            ..row(now, Stands::Paused, Some(6), 35)
        },
        row(now, Stands::Away, None, 4_000),
        row(now, Stands::Settled, Some(20), 90),
    ];
    let rows = rows.into_iter().zip(1_u8..);
    let mut shown = Snapshot {
        rows: rows
            .map(|(row, n)| (SessionId([n * 17; 32]), row))
            .collect(),
        lines: vec!["ann#0707 joined".into(), "<ann#0707> hello".into()],
        ..Snapshot::default()
    };
    shown.totals.received = sat(74);
    shown.totals.tips = sat(5);
    (shown.totals.begun, shown.totals.settled) = (4, 1);
    shown
}

fn view(now: Instant) -> View {
    let link = "http://192.0.2.1:8080/whep#key=0707".to_owned();
    let mut view = View::new(link, true).begun_at(now - Duration::from_secs(3_725));
    view.note(sat(50), now - Duration::from_secs(61));
    view.note(sat(60), now - Duration::from_secs(59));
    view.note(sat(74), now);
    view
}

fn drawn(view: &View, shown: &Snapshot, now: Instant, size: (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| view.draw(frame, shown, now)).unwrap();
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_dashboard_shows_sessions_sums_and_news() {
    let now = Instant::now();
    let mut view = view(now);
    view.input = "welcome".into();
    let text = drawn(&view, &snapshot(now), now, (100, 18));
    assert_eq!(text, include_str!("dashboard.txt").trim_end());
}

#[test]
fn a_small_terminal_is_drawn_on_and_rows_scroll_away() {
    let now = Instant::now();
    let mut view = view(now);
    view.scroll = 2;
    for size in [(1, 1), (20, 5), (40, 9), (300, 80)] {
        drawn(&view, &snapshot(now), now, size);
    }
    let text = drawn(&view, &snapshot(now), now, (100, 18));
    assert!(
        !text.contains("22222222 paused") && text.contains("33333333 away"),
        "{text}"
    );
}

#[test]
fn without_colours_nothing_is_coloured() {
    use ratatui::style::Color;
    let now = Instant::now();
    for (colours, expect) in [(true, true), (false, false)] {
        let view = View::new(String::new(), colours);
        let mut terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
        terminal
            .draw(|frame| view.draw(frame, &snapshot(now), now))
            .unwrap();
        let cells = terminal.backend().buffer().content.iter();
        let mut coloured = cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured.next().is_some(), expect);
    }
}

#[test]
fn keys_type_scroll_and_end() {
    let mut view = View::new(String::new(), false);
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    for key in "hix".chars() {
        assert_eq!(
            pressed(&mut view, plain(KeyCode::Char(key)), 3),
            Asked::Nothing
        );
    }
    pressed(&mut view, plain(KeyCode::Backspace), 3);
    let said = Asked::Say("hi".into());
    assert_eq!(pressed(&mut view, plain(KeyCode::Enter), 3), said);
    assert_eq!(
        pressed(&mut view, plain(KeyCode::Enter), 3),
        Asked::Nothing,
        "nothing typed"
    );
    pressed(&mut view, plain(KeyCode::PageDown), 3);
    assert_eq!(view.scroll, 2);
    pressed(&mut view, plain(KeyCode::Up), 3);
    assert_eq!(view.scroll, 1);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(pressed(&mut view, control, 3), Asked::End);
    for _ in 0..LINE_MAX + 9 {
        pressed(&mut view, plain(KeyCode::Char('x')), 3);
    }
    assert_eq!(view.input.len(), LINE_MAX);
}
