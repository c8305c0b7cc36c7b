//! Who has a seat, where they are counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streampay_core::driver::Link;
use streampay_core::session::CloseCode;
use streampay_core::wire::{Close, Message, encode};
use streampay_media::peer::ViewerConnection;
use streampay_media::whep::{Seat, Seats, UnboundPlace};
use tokio::task::AbortHandle;

/// How long a viewer that paid and lost its connection keeps its seat.
const SEAT_KEPT: Duration = Duration::from_secs(60);
/// How long hanging up may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// A session's seat: its own while it has a connection, and for a while afterwards where it paid.
#[derive(Default)]
pub(super) struct Seated {
    seat: Arc<Mutex<Option<Seat>>>,
    timer: Option<AbortHandle>,
}

impl Seated {
    fn lock(&self) -> MutexGuard<'_, Option<Seat>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where all seats are taken.
    pub(super) fn sit(&mut self, seats: &Seats) -> bool {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let mut seat = self.lock();
        *seat = seat.take().or_else(|| seats.take());
        seat.iter_mut().for_each(|seat| seat.set_away(false));
        seat.is_some()
    }

    /// The connection is gone.
    pub(super) fn leave(&mut self, keeps: bool) {
        if !keeps {
            *self.lock() = None;
            return;
        }
        self.lock().iter_mut().for_each(|seat| seat.set_away(true));
        let seat = self.seat.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(SEAT_KEPT).await;
            *seat.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
        self.timer = Some(timer.abort_handle());
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// Says that there is no seat, and hangs up.
pub(super) async fn turn_away(link: Link, (media, place): (ViewerConnection, UnboundPlace)) {
    let busy = Message::Close(Close {
        code: CloseCode::Busy,
    });
    let _ = link.end.outgoing.send(encode(&busy)).await;
    let closer = media.closer();
    // What was said last still leaves: then the link closes the connection.
    drop(link);
    let _ = tokio::time::timeout(GOODBYE, closer.closed()).await;
    drop((media, place));
}
