//! What a streamer's process knows of its sessions, for those who look: metrics and the dashboard.
//! Fed by the same events that are told; nothing in it is secret.

mod rows;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use streampay_core::session::{CloseCode, Event};
use streampay_core::units::{Msat, SessionId};
use tokio::sync::mpsc;

pub use rows::{Row, Stands};

/// Lines that are kept for the dashboard.
const LINES_MAX: usize = 200;
/// Sessions that are over and still shown. Those that are not over are bounded by what the process
/// serves.
const OVER_MAX: usize = 100;

/// Of this process, where somebody looks.
static BOARD: OnceLock<Board> = OnceLock::new();

/// Sums since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions that were bound for the first time.
    pub begun: u64,
    /// Connections that took up an earlier session.
    pub resumed: u64,
    /// Connections that were lost.
    pub lost: u64,
    /// Payments accepted.
    pub ticks: u64,
    /// Payments refused.
    pub refused: u64,
    /// What was accepted.
    pub received: Msat,
    /// What was given beside the media.
    pub tips: Msat,
    /// Times that a session waited for anything.
    pub pauses: u64,
    /// Times that a mint or the chain could not do something.
    pub troubles: u64,
    /// Times that the other side broke the protocol.
    pub misbehaved: u64,
    /// Sessions that settled.
    pub settled: u64,
    /// Sessions that ended, by why: names of [`CloseCode`], of which there are few.
    pub closed: BTreeMap<String, u64>,
}

/// What is known.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
    /// When the process began.
    pub began: SystemTime,
    /// What the user of the dashboard types.
    typed: (mpsc::Sender<String>, Mutex<Option<mpsc::Receiver<String>>>),
    /// Lines come here, not to stderr: the terminal is the dashboard's.
    takes_lines: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<SessionId, Row>,
    /// Those that are over, oldest first.
    over: VecDeque<SessionId>,
    lines: VecDeque<String>,
    totals: Totals,
}

/// What there is to show, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sessions that are not over, and the last that are.
    pub rows: Vec<(SessionId, Row)>,
    /// What was told last, oldest first.
    pub lines: Vec<String>,
    /// The sums.
    pub totals: Totals,
}

impl Board {
    /// One of its own. `takes_lines` where what is told is not to go to stderr.
    #[must_use]
    pub fn new(takes_lines: bool) -> Self {
        let (to, from) = mpsc::channel(8);
        Self {
            inner: Mutex::default(),
            began: SystemTime::now(),
            typed: (to, Mutex::new(Some(from))),
            takes_lines: AtomicBool::new(takes_lines),
        }
    }

    /// The process's, from now on; the first call decides what it takes.
    pub fn put_up(takes_lines: bool) -> &'static Self {
        BOARD.get_or_init(|| Self::new(takes_lines))
    }

    /// The process's, where there is one.
    #[must_use]
    pub fn of_this_process() -> Option<&'static Self> {
        BOARD.get()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened in a session.
    pub fn note(&self, session: SessionId, event: &Event) {
        self.lock().note(session, event, Instant::now());
    }

    /// Takes a line that is told; false where it is to go to stderr.
    pub fn line(&self, line: &str) -> bool {
        let takes = self.has_terminal();
        if takes {
            let mut inner = self.lock();
            while inner.lines.len() >= LINES_MAX {
                inner.lines.pop_front();
            }
            inner.lines.push_back(line.to_owned());
        }
        takes
    }

    /// True where the terminal is the dashboard's.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.takes_lines.load(Ordering::Relaxed)
    }

    /// From now on lines go to stderr again.
    pub fn release_terminal(&self) {
        self.takes_lines.store(false, Ordering::Relaxed);
    }

    /// What there is to show now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            rows: inner
                .rows
                .iter()
                .map(|(id, row)| (*id, row.clone()))
                .collect(),
            lines: inner.lines.iter().cloned().collect(),
            totals: inner.totals.clone(),
        }
    }

    /// Where the dashboard sends what is typed into it.
    #[must_use]
    pub fn typing(&self) -> mpsc::Sender<String> {
        self.typed.0.clone()
    }

    /// What is typed into the dashboard, once; none where there is none.
    #[must_use]
    pub fn typed(&self) -> Option<mpsc::Receiver<String>> {
        let mut typed = self.typed.1.lock().unwrap_or_else(PoisonError::into_inner);
        typed.take().filter(|_| self.has_terminal())
    }
}

impl Inner {
    fn note(&mut self, session: SessionId, event: &Event, now: Instant) {
        self.totals.note(event);
        if let Event::Bound { resumed, .. } = event {
            let row = self.rows.entry(session);
            row.or_insert_with(|| Row::new(*resumed, now));
        }
        // A stranger that is not bound has no row.
        let Some(row) = self.rows.get_mut(&session) else {
            return;
        };
        let was_over = row.stands.is_over();
        let received = row.note(event, now);
        let is_over = row.stands.is_over();
        self.totals.received = self.totals.received.saturating_plus(received);
        if is_over && !was_over {
            self.over.push_back(session);
        }
        while self.over.len() > OVER_MAX {
            let Some(oldest) = self.over.pop_front() else {
                break;
            };
            if self
                .rows
                .get(&oldest)
                .is_some_and(|row| row.stands.is_over())
            {
                self.rows.remove(&oldest);
            }
        }
    }
}

impl Totals {
    fn note(&mut self, event: &Event) {
        let count = match event {
            Event::Bound { resumed: false, .. } => &mut self.begun,
            Event::Bound { resumed: true, .. } => &mut self.resumed,
            Event::LinkDown => &mut self.lost,
            Event::TickReceived { .. } => &mut self.ticks,
            Event::TickRefused { .. } => &mut self.refused,
            Event::Paused { .. } => &mut self.pauses,
            Event::BackendTrouble { .. } | Event::Unredeemed { .. } | Event::Unsettled { .. } => {
                &mut self.troubles
            }
            Event::Misbehaved { .. } => &mut self.misbehaved,
            Event::Settled { .. } => &mut self.settled,
            Event::Closed { code, .. } => self.closed.entry(named(*code)).or_default(),
            Event::TipReceived { amount, .. } => {
                self.tips = self.tips.saturating_plus(*amount);
                return;
            }
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

fn named(code: CloseCode) -> String {
    format!("{code:?}")
}
