//! `streamer serve --tui`: a dashboard over the whole terminal, for many sessions at once.

#[cfg(test)]
mod tests;
mod view;

use std::io::{IsTerminal, Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::{mpsc, oneshot};

use self::view::View;
use crate::board::Board;
use crate::error::AppError;
use crate::report::colourless;

/// How often the dashboard is drawn anew, and how soon it sees that it is to end.
const EVERY: Duration = Duration::from_millis(250);
/// The longest line that can be typed, in bytes: what the room takes at once.
const LINE_MAX: usize = 500;

/// A dashboard that is shown. Dropped, it gives the terminal back.
#[derive(Debug)]
pub struct Dashboard {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    board: &'static Board,
    ended: Option<oneshot::Receiver<()>>,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Say(String),
    End,
}

impl Dashboard {
    /// Takes the terminal. `link` is where viewers come.
    ///
    /// # Errors
    /// [`AppError::Usage`] where there is no terminal, [`AppError::Io`] where it cannot be set.
    pub fn start(board: &'static Board, link: String) -> Result<Self, AppError> {
        check_terminal()?;
        let screen = Screen::open().map_err(AppError::io("the terminal cannot be used"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let view = View::new(link, !colourless());
        let stopped = stop.clone();
        let run = move || run(screen, view, board, end, &stopped);
        let thread = std::thread::Builder::new().name("streampay-tui".into());
        let thread = thread.spawn(run).map_err(AppError::io("no thread"))?;
        Ok(Self {
            stop,
            thread: Some(thread),
            board,
            ended: Some(ended),
        })
    }

    /// Done once the user wants to end.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            let _ = ended.await;
            self.ended = None;
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.board.release_terminal();
    }
}

/// Looks whether a dashboard can be shown.
///
/// # Errors
/// [`AppError::Usage`] where there is no terminal.
pub fn check_terminal() -> Result<(), AppError> {
    if stdout().is_terminal() && std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(AppError::Usage("--tui needs a terminal: leave it out here"))
}

/// The terminal, whole and with single keys; as it was when dropped.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn open() -> std::io::Result<Self> {
        enable_raw_mode()?;
        let opened = crossterm::execute!(stdout(), EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        opened.map(Self).inspect_err(|_| close())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        close();
    }
}

/// A terminal that is gone cannot be set back.
fn close() {
    let _ = crossterm::execute!(stdout(), LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

fn run(
    mut screen: Screen,
    mut view: View,
    board: &Board,
    end: oneshot::Sender<()>,
    stop: &AtomicBool,
) {
    let typing = board.typing();
    let mut end = Some(end);
    while !stop.load(Ordering::Relaxed) {
        let shown = board.snapshot();
        view.note(shown.totals.received, Instant::now());
        let drawn = screen
            .0
            .draw(|frame| view.draw(frame, &shown, Instant::now()));
        let asked = match (drawn, next_key()) {
            (Ok(_), Ok(Some(key))) => pressed(&mut view, key, shown.rows.len()),
            (Ok(_), Ok(None)) => Asked::Nothing,
            // The terminal is gone.
            _ => Asked::End,
        };
        carry_out(asked, &typing, &mut view, &mut end);
        if end.is_none() && !stop.load(Ordering::Relaxed) {
            view.ends();
            std::thread::sleep(EVERY);
        }
    }
}

fn carry_out(
    asked: Asked,
    typing: &mpsc::Sender<String>,
    view: &mut View,
    end: &mut Option<oneshot::Sender<()>>,
) {
    match asked {
        Asked::Nothing => {}
        Asked::Say(line) => {
            // What the room has no time for is typed again.
            if let Err(error) = typing.try_send(line) {
                view.input = error.into_inner();
            }
        }
        Asked::End => {
            if let Some(end) = end.take() {
                let _ = end.send(());
            }
        }
    }
}

fn next_key() -> std::io::Result<Option<KeyEvent>> {
    if !event::poll(EVERY)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(key),
        _ => None,
    })
}

fn pressed(view: &mut View, key: KeyEvent, rows: usize) -> Asked {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => return Asked::End,
        KeyCode::Enter if !view.input.trim().is_empty() => {
            return Asked::Say(core::mem::take(&mut view.input));
        }
        KeyCode::Char(key) if !control && view.input.len() < LINE_MAX => view.input.push(key),
        KeyCode::Backspace => drop(view.input.pop()),
        KeyCode::Esc => view.input.clear(),
        KeyCode::Up => view.scroll = view.scroll.saturating_sub(1),
        KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(10),
        KeyCode::Down => view.scroll = view.scroll.saturating_add(1),
        KeyCode::PageDown => view.scroll = view.scroll.saturating_add(10),
        _ => {}
    }
    view.scroll = view.scroll.min(rows.saturating_sub(1));
    Asked::Nothing
}
