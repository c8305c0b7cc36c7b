//! Viewers that have not paid: what they hold, and for how long.
//!
//! Where bitcoin is taken a viewer may wait for somebody to pay to its address, and then for blocks,
//! for hours. Whoever waits so does it in a room of its own: it takes no place of those who come, and
//! no seat.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streampay_core::session::{CloseCode, Command, Event};
use streampay_core::units::Msat;
use streampay_media::whep::{Place, Places, Preview, Previews, Seats, UnboundPlace};
use tokio::sync::{mpsc, watch};

use super::seated::Seated;
use super::serve::FreePreview;
use crate::price::Price;

/// How long a bound viewer may stay without paying, in milliseconds.
pub(super) const UNPAID_MS: u64 = 10_000;
/// The same where it may wait for its channel of bitcoin: for somebody to pay to its address. Sessions
/// let it stay three times as long once its purse is shown: 12 h, for blocks may be slow.
const WAITING_MS: u64 = 4 * 3_600_000;
/// Who waits connected, of one household and in all. Each costs 0.4 MB and two file descriptors.
const WAITING: [usize; 2] = [4, 64];
/// Who waits without a connection, although nothing was paid yet. A record of each is on disk.
const AWAY: [usize; 2] = [8, 1_000];

/// What a stream allows strangers.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Where seats are counted.
    pub(super) seats: Seats,
    /// A viewer may be waiting for a channel before it pays.
    pub(super) waits: bool,
    /// What may be watched before anything is paid, and at which price.
    pub(super) preview: Option<(FreePreview, Price)>,
    /// How long who does not pay has a seat; none takes [`UNPAID_MS`].
    pub(super) unpaid: Option<Duration>,
}

/// How long who may wait, and where.
#[derive(Debug)]
pub(super) struct Patience {
    /// Where nobody may wait, there are no places.
    here: Option<Places>,
    away: Option<Places>,
    seats: Seats,
    previews: Option<Previews>,
    /// How long a preview lasts, in milliseconds.
    preview_ms: u64,
    /// How long who does not pay may stay beyond that.
    unpaid_ms: u64,
}

/// One session's viewer, over all its connections, until it pays.
#[derive(Debug)]
pub(super) struct Stranger {
    place: Mutex<Option<UnboundPlace>>,
    step: watch::Sender<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Came,
    Bound,
    Paid,
}

impl Patience {
    pub(super) fn new(strangers: Strangers) -> Self {
        let Strangers {
            seats,
            waits,
            preview,
            unpaid,
        } = strangers;
        let room = |[household, in_all]: [usize; 2]| waits.then(|| Places::new(household, in_all));
        let budgets = preview.map(|(preview, _)| Previews::new(preview.household, preview.in_all));
        Self {
            here: room(WAITING),
            away: room(AWAY),
            seats,
            previews: budgets,
            preview_ms: preview.map_or(0, |(preview, price)| price.lasts_ms(preview.each)),
            unpaid_ms: unpaid.map_or(UNPAID_MS, |unpaid| {
                u64::try_from(unpaid.as_millis()).unwrap_or(WAITING_MS)
            }),
        }
    }

    /// What a new session of a viewer at `address` may show of `each` before anything is paid.
    pub(super) fn preview(&self, address: IpAddr, each: Msat) -> Option<Preview> {
        let previews = self.previews.as_ref();
        previews.map(|previews| previews.take(address, each))
    }

    /// How long a viewer may stay that does not pay: as long as it may watch, and so much more.
    const fn unpaid(&self) -> u64 {
        self.unpaid_ms.saturating_add(self.preview_ms)
    }

    /// How long a session lets its viewer stay that pays nothing, in milliseconds.
    pub(super) const fn unpaid_ms(&self) -> u64 {
        match self.here {
            Some(_) => WAITING_MS,
            None => self.unpaid(),
        }
    }

    /// Where seats are counted.
    pub(super) const fn seats(&self) -> &Seats {
        &self.seats
    }

    /// A place for a session that lost its connection before anything was paid, of a viewer at
    /// `address`, and how long it may have that.
    pub(super) fn wait_away(&self, address: IpAddr) -> Option<(Place, Duration)> {
        let place = self.away.as_ref()?.take(address).ok()?;
        Some((place, Duration::from_millis(WAITING_MS.saturating_mul(3))))
    }

    /// Minds one connection for as long as it lasts; never ends. Who has not paid in time leaves its
    /// seat and its place to others, and waits where there is room for its household; else its
    /// session is closed.
    pub(super) async fn mind(
        &self,
        address: IpAddr,
        stranger: &Stranger,
        seated: &mut Seated,
        session: &mpsc::Sender<Command>,
    ) {
        if let Some(here) = &self.here {
            self.mind_in(here, address, stranger, seated, session).await;
        }
        std::future::pending().await
    }

    async fn mind_in(
        &self,
        here: &Places,
        address: IpAddr,
        stranger: &Stranger,
        seated: &mut Seated,
        session: &mpsc::Sender<Command>,
    ) {
        let limit = Duration::from_millis(self.unpaid());
        let in_time = tokio::time::timeout(limit, stranger.paid()).await;
        // Who is not bound is closed by whoever let it in.
        if in_time.is_ok() || !stranger.is_bound() {
            return;
        }
        let Ok(_place) = here.take(address) else {
            let _ = session.send(Command::Close(CloseCode::TimedOut)).await;
            return;
        };
        stranger.steps_aside();
        seated.leave(false);
        stranger.paid().await;
        // Its money is in the channel: it is served also where no seat is free now.
        seated.sit(&self.seats);
    }
}

impl Stranger {
    /// `paid` where it is none any more.
    pub(super) fn new(paid: bool) -> Self {
        let step = if paid { Step::Paid } else { Step::Came };
        Self {
            place: Mutex::default(),
            step: watch::Sender::new(step),
        }
    }

    /// It comes, in a place for strangers: every connection is bound anew.
    pub(super) fn comes(&self, place: UnboundPlace) {
        *self.lock() = Some(place);
        self.step.send_if_modified(|at| {
            let was_bound = *at == Step::Bound;
            if was_bound {
                *at = Step::Came;
            }
            was_bound
        });
    }

    /// What its session says of it.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Bound { .. } => {
                self.lock().iter().for_each(UnboundPlace::bound);
                self.goes_to(Step::Bound);
            }
            Event::TickReceived { .. } => {
                self.steps_aside();
                self.goes_to(Step::Paid);
            }
            _ => {}
        }
    }

    fn goes_to(&self, step: Step) {
        self.step.send_if_modified(|at| {
            let goes = *at != step && *at != Step::Paid;
            if goes {
                *at = step;
            }
            goes
        });
    }

    fn is_bound(&self) -> bool {
        *self.step.borrow() != Step::Came
    }

    async fn paid(&self) {
        let mut step = self.step.subscribe();
        // The sender is ours: it does not go away meanwhile.
        let _ = step.wait_for(|step| *step == Step::Paid).await;
    }

    /// It does not count among those who come any more.
    fn steps_aside(&self) {
        self.lock().take().into_iter().for_each(UnboundPlace::paid);
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnboundPlace>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use streampay_core::units::Seq;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// A viewer that sits and is bound, minded for as long as the test runs.
    async fn comes(patience: &Arc<Patience>) -> (Arc<Stranger>, mpsc::Receiver<Command>) {
        let stranger = Arc::new(Stranger::new(false));
        stranger.goes_to(Step::Bound);
        let (session, closed) = mpsc::channel(1);
        let (patience, minded) = (patience.clone(), stranger.clone());
        tokio::spawn(async move {
            let mut seated = Seated::default();
            seated.sit(patience.seats());
            patience.mind(HOME, &minded, &mut seated, &session).await;
        });
        tokio::task::yield_now().await;
        (stranger, closed)
    }

    fn waiting(waits: bool, seats: usize) -> Patience {
        Patience::new(Strangers {
            seats: Seats::new(seats),
            waits,
            ..Strangers::default()
        })
    }

    /// One that does not pay has watched it all before it is asked to leave.
    #[test]
    fn a_preview_lasts_as_long_as_its_price_says_and_its_budget_is_kept() {
        let sat = |sat| Msat::from_sat(sat).unwrap();
        let preview = FreePreview {
            each: sat(6),
            household: sat(10),
            in_all: sat(100),
        };
        let patience = Patience::new(Strangers {
            preview: Some((preview, "2sat/10s".parse().unwrap())),
            ..Strangers::default()
        });
        assert_eq!(patience.unpaid_ms(), UNPAID_MS + 30_000);
        let given = [sat(6), sat(4), Msat::ZERO].map(|given| {
            let preview = patience.preview(HOME, sat(6)).unwrap();
            assert_eq!(preview.given(), given);
            preview
        });
        drop(given);
        assert!(waiting(false, 1).preview(HOME, sat(6)).is_none());
    }

    async fn after(ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_household_hold_no_seat_beyond_their_time_and_few_may_wait() {
        let patience = Arc::new(waiting(true, WAITING[0] + 2));
        let mut all = Vec::new();
        for _ in 0..WAITING[0] + 2 {
            all.push(comes(&patience).await);
        }
        assert!(patience.seats().turns_away());
        after(UNPAID_MS - 1).await;
        assert!(patience.seats().turns_away());
        after(2).await;
        let mut closed = Vec::new();
        for (_, commands) in &mut all {
            closed.extend(commands.try_recv().ok());
        }
        assert_eq!(closed, [const { Command::Close(CloseCode::TimedOut) }; 2]);
        // The seats of those who wait are free; whoever is told to close has its own until then.
        let free: Vec<_> = (0..WAITING[0])
            .map(|_| patience.seats().take().unwrap())
            .collect();
        assert!(patience.seats().take().is_none());
        // One pays, once its channel has confirmed: it sits where it can, and another one may wait.
        drop(free);
        all[0].0.hear(&paid());
        after(1).await;
        let free: Vec<_> = std::iter::from_fn(|| patience.seats().take()).collect();
        assert_eq!(free.len(), WAITING[0] - 1);
        drop(free);
        let (_waits, mut commands) = comes(&patience).await;
        after(UNPAID_MS + 1).await;
        assert!(commands.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_pays_in_time_is_left_alone_and_so_is_everybody_where_nothing_confirms() {
        for waits in [true, false] {
            let patience = Arc::new(waiting(waits, 1));
            assert_eq!(patience.unpaid_ms() == UNPAID_MS, !waits);
            assert_eq!(patience.wait_away(HOME).is_some(), waits);
            let (stranger, mut commands) = comes(&patience).await;
            if waits {
                stranger.hear(&paid());
            }
            after(WAITING_MS).await;
            assert!(commands.try_recv().is_err());
            assert!(patience.seats().turns_away());
        }
    }

    fn paid() -> Event {
        Event::TickReceived {
            seq: Seq(1),
            total: Msat::ZERO,
        }
    }
}
