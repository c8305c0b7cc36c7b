//! Between the user and a session: what happens is told, what is wished for is passed on.

use std::collections::HashSet;
use std::time::Duration;

use streampay_core::backend::BackendError;
use streampay_core::meter::PauseReason;
use streampay_core::session::{CloseCode, Command, Event, Line, Name};
use streampay_core::units::{Msat, SessionId};
use streampay_media::seal::Keyring;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::status::Status;
use crate::price::amount;
use crate::report::Report;

/// What the user can wish for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Pause, or go on.
    TogglePause,
    /// Agree to what the session waits for: drift is booked, a lost payment written off, a new
    /// price agreed to.
    Consent,
    /// Refuse a new price: the session ends where it would begin.
    Refuse,
    /// Say this to the room; `/tip 5sat` gives so much.
    Say(String),
    /// Settle and end.
    Leave,
}

/// How to be in the streamer's room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The name that others see, with a mark of the identity.
    pub name: Name,
    /// The most that joining may cost.
    pub max_fee: Msat,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attended {
    /// Payments acknowledged.
    pub(crate) ticks: u64,
    /// Why the session ended.
    pub(crate) code: Option<CloseCode>,
    /// When each purse could be paid from.
    pub(crate) openings: Vec<Instant>,
    /// When the session began to close.
    pub(crate) closed: Option<Instant>,
}

/// What those who reconnect must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How often the session was bound.
    pub(crate) bound: u64,
    /// The session is to end.
    pub(crate) leaving: bool,
}

/// One session's user.
pub(crate) struct Attendant {
    pub(crate) report: Report,
    pub(crate) id: SessionId,
    /// What the terminal shows of it.
    pub(crate) status: Status,
    /// Somebody can be asked.
    pub(crate) interactive: bool,
    /// The session ends by itself, so long after the first payment.
    pub(crate) stop_after: Option<Duration>,
    /// The room is joined as soon as the session is bound.
    pub(crate) join: Option<Join>,
    pub(crate) session: mpsc::Sender<Command>,
    pub(crate) standing: watch::Sender<Standing>,
    /// Of sealed media.
    pub(crate) keys: Keyring,
}

impl Attendant {
    /// Runs until the session is gone.
    pub(crate) async fn attend(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut wishes: mpsc::Receiver<Wish>,
    ) -> Attended {
        let mut attended = Attended::default();
        let mut waits = Waits::default();
        let mut deadline: Option<Instant> = None;
        let mut heard = true;
        loop {
            let timeout = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return attended };
                    attended.note(&event);
                    if matches!(event, Event::Bound { .. })
                        && let Some(Join { name, max_fee }) = self.join.take()
                    {
                        let invitation = None;
                        let order = Command::Join { name, invitation, max_fee };
                        let _ = self.session.send(order).await;
                    }
                    if matches!(event, Event::TickPaid { .. })
                        && let Some(stop) = self.stop_after.take()
                    {
                        deadline = Some(Instant::now() + stop);
                    }
                    self.happened(&event, &mut waits).await;
                }
                wish = wishes.recv(), if heard => match wish {
                    Some(wish) => self.pass_on(wish, &mut waits).await,
                    None => heard = false,
                },
                () = timeout => {
                    deadline = None;
                    self.leave(CloseCode::Done).await;
                }
            }
        }
    }

    async fn happened(&mut self, event: &Event, waits: &mut Waits) {
        if let Err(error) = self.keys.note(event) {
            self.report
                .tell(&format!("sealed media cannot be opened: {error}"));
        }
        // Twenty keys a second are nothing to tell.
        if matches!(event, Event::Grant(_)) {
            return;
        }
        if !waits.is_known_trouble(event) {
            let live = self.status.note(event);
            self.report.of_the_session("viewer", self.id, event, live);
        }
        waits.note(event);
        match event {
            Event::Bound { .. } => self.standing.send_modify(|standing| {
                standing.bound = standing.bound.saturating_add(1);
            }),
            Event::Closed { .. } => self
                .standing
                .send_modify(|standing| standing.leaving = true),
            _ => {}
        }
        let Some((question, otherwise)) = waits.question(event) else {
            return;
        };
        if self.interactive {
            return self.report.tell(question);
        }
        // Nobody can be asked.
        match otherwise {
            Command::Close(code) => self.leave(code).await,
            order => {
                let _ = self.session.send(order).await;
            }
        }
    }

    async fn pass_on(&self, wish: Wish, waits: &mut Waits) {
        let leaves = wish == Wish::Leave;
        if let Wish::Say(text) = &wish {
            match said(text) {
                Ok(Some(order)) => drop(self.session.send(order).await),
                Ok(None) => {}
                Err(why) => self.report.tell(why),
            }
        }
        for order in waits.orders(wish) {
            let _ = self.session.send(order).await;
        }
        if leaves {
            self.standing
                .send_modify(|standing| standing.leaving = true);
        }
    }

    async fn leave(&self, code: CloseCode) {
        self.standing
            .send_modify(|standing| standing.leaving = true);
        let _ = self.session.send(Command::Close(code)).await;
    }
}

/// What a typed line asks for; none for an empty one.
fn said(text: &str) -> Result<Option<Command>, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match text.strip_prefix('/') {
        Some(order) => match order.split_once(' ') {
            Some(("tip", sat)) => {
                let tip = amount(sat).map_err(|_| "how much? such as /tip 5sat")?;
                Ok(Some(Command::Tip(tip)))
            }
            _ => Err("only /tip is known, such as /tip 5sat"),
        },
        None => {
            let line = Line::new(text).map_err(|_| "too long to say at once; nothing was said")?;
            Ok(Some(Command::Chat(line)))
        }
    }
}

impl Attended {
    fn note(&mut self, event: &Event) {
        match event {
            Event::TickPaid { .. } => self.ticks = self.ticks.saturating_add(1),
            Event::PurseOpen { .. } => self.openings.push(Instant::now()),
            Event::Closed { code, .. } => {
                self.code = Some(*code);
                self.closed = Some(Instant::now());
            }
            _ => {}
        }
    }
}

/// What the session waits for on this side.
#[derive(Debug, Default)]
struct Waits {
    pauses: HashSet<u8>,
    lost: bool,
    offered: bool,
    /// What was told last to be wrong at the mint or the chain, and has not changed since.
    trouble: Option<BackendError>,
}

const USER: u8 = 0;
const DRIFT: u8 = 1;

impl Waits {
    fn is_known_trouble(&self, event: &Event) -> bool {
        matches!(event, Event::BackendTrouble { error } if self.trouble == Some(*error))
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::BackendTrouble { error } => self.trouble = Some(*error),
            Event::PurseOpen { .. } | Event::TickPaid { .. } => self.trouble = None,
            Event::Paused {
                by_peer: false,
                reason: PauseReason::ByPayer,
            } => {
                self.pauses.insert(USER);
            }
            Event::Paused {
                by_peer: false,
                reason: PauseReason::Drift,
            } => {
                self.pauses.insert(DRIFT);
            }
            Event::Resumed => self.pauses.clear(),
            Event::TickLost { .. } => self.lost = true,
            Event::TermsOffered { .. } => self.offered = true,
            Event::TermsAgreed { .. } | Event::TermsDeclined { .. } => self.offered = false,
            _ => {}
        }
    }

    /// What to ask because of this event, and what to do where nobody can be asked.
    fn question(&self, event: &Event) -> Option<(&'static str, Command)> {
        match event {
            Event::Paused {
                by_peer: false,
                reason: PauseReason::Drift,
            } => Some((
                "the streamer says it has sent more than arrived here; press y to accept that \
                 and go on, or Ctrl-C to settle",
                Command::Close(CloseCode::Drift),
            )),
            Event::TickLost { .. } => Some((
                "press y to write this payment off and go on, or Ctrl-C to settle",
                Command::Close(CloseCode::PaymentLost),
            )),
            Event::TermsOffered { .. } => Some((
                "press y to pay that from then on, or n to end there",
                Command::Decline,
            )),
            _ => None,
        }
    }

    fn orders(&mut self, wish: Wish) -> Vec<Command> {
        match wish {
            Wish::Leave => vec![Command::Close(CloseCode::Done)],
            Wish::TogglePause if self.pauses.remove(&USER) => vec![Command::Resume],
            Wish::TogglePause => vec![Command::Pause],
            Wish::Consent => self.consents(),
            Wish::Refuse if core::mem::take(&mut self.offered) => vec![Command::Decline],
            Wish::Refuse | Wish::Say(_) => vec![],
        }
    }

    /// A session resumes its user's own pause first, and books drift by the next resume.
    fn consents(&mut self) -> Vec<Command> {
        let mut orders = Vec::new();
        if self.pauses.remove(&DRIFT) {
            if self.pauses.remove(&USER) {
                orders.push(Command::Resume);
            }
            orders.push(Command::Resume);
        }
        if core::mem::take(&mut self.lost) {
            orders.push(Command::WriteOff);
        }
        if core::mem::take(&mut self.offered) {
            orders.push(Command::Agree);
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streampay_core::units::Seq;

    fn paused(reason: PauseReason) -> Event {
        Event::Paused {
            by_peer: false,
            reason,
        }
    }

    #[test]
    fn consent_reaches_what_waits_for_it_and_nothing_else() {
        let mut waits = Waits::default();
        assert_eq!(waits.orders(Wish::Consent), []);
        waits.note(&paused(PauseReason::BackendAway));
        assert_eq!(waits.orders(Wish::Consent), []);
        waits.note(&paused(PauseReason::Drift));
        assert_eq!(waits.orders(Wish::Consent), [Command::Resume]);
        assert_eq!(waits.orders(Wish::Consent), []);
        let (seq, amount) = (Seq(1), Msat::ZERO);
        waits.note(&Event::TickLost { seq, amount });
        assert_eq!(waits.orders(Wish::Consent), [Command::WriteOff]);
    }

    #[test]
    fn the_same_trouble_is_told_once_until_something_goes_on() {
        let mut waits = Waits::default();
        let trouble = |error| Event::BackendTrouble { error };
        let (away, unknown) = (BackendError::Transient, BackendError::Unknown);
        assert!(!waits.is_known_trouble(&trouble(away)));
        waits.note(&trouble(away));
        assert!(waits.is_known_trouble(&trouble(away)));
        assert!(!waits.is_known_trouble(&trouble(unknown)));
        waits.note(&Event::TickPaid {
            seq: Seq(1),
            total: Msat::ZERO,
            reading: Default::default(),
        });
        assert!(!waits.is_known_trouble(&trouble(away)));
    }

    #[test]
    fn what_is_typed_is_said_or_given() {
        let line = Line::new("hello").unwrap();
        assert_eq!(said(" hello "), Ok(Some(Command::Chat(line))));
        assert_eq!(said(""), Ok(None));
        let tip = Command::Tip(Msat::from_sat(5).unwrap());
        assert_eq!(said("/tip 5sat"), Ok(Some(tip)));
        for wrong in ["/tip", "/tip x", "/dance now", "/"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_key_pauses_and_goes_on_by_what_the_session_says() {
        let mut waits = Waits::default();
        let pause = [Command::Pause];
        assert_eq!(waits.orders(Wish::TogglePause), pause);
        waits.note(&paused(PauseReason::ByPayer));
        assert_eq!(waits.orders(Wish::TogglePause), [Command::Resume]);
        waits.note(&Event::Resumed);
        assert_eq!(waits.orders(Wish::TogglePause), pause);
    }
}
