mod place;

use std::{sync::Arc, time::Duration};

use streampay_core::meter::Reading;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{Gate, MeteredTrack, Verdict};
use crate::{
    packet::{Kind, MediaPacket, PacketCount},
    peer::asks_for_key_frame,
    source::{Lagged, Ring},
};
use place::Place;

/// The tracks of one viewer.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    pub(crate) video: Option<MeteredTrack>,
    pub(crate) audio: Option<MeteredTrack>,
}

/// Where the outcome of delivery shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) reading: watch::Sender<Reading>,
    pub(crate) sent: watch::Sender<PacketCount>,
}

/// Packets that are sent in a row before others get a turn. What was held goes out at up to
/// 32 packets each [`BURST_PAUSE`], 75 Mbit/s: a receiver drops more than 256 packets at once.
const BATCH: usize = 32;
const BURST_PAUSE: Duration = Duration::from_millis(4);
/// So long after a packet is due the source is waited for, which wakes all viewers at once; then its own
/// timer wakes the viewer.
const LATE: Duration = Duration::from_millis(2);

/// Delivers one source to one viewer until the session or the connection is gone.
pub(crate) async fn deliver(ring: Arc<Ring>, mut gate: Gate, mut tracks: Tracks, shown: Shown) {
    let mut requests = KeyFrameRequests::of(tracks.video.as_ref());
    let mut head = ring.head();
    let mut grants = gate.grants.clone();
    let mut place = Place::new(&ring, &tracks);
    let mut packets = Vec::with_capacity(BATCH);
    let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
    loop {
        let mut due = None;
        if gate.is_open() {
            due = place.opened(&ring, &mut gate, &mut tracks);
        } else {
            place.held();
        }
        if !place.is_outside() && due.is_none() {
            match ring.pull_due(place.next, BATCH, place.delay, &mut packets) {
                Err(Lagged) if gate.is_open() => {
                    place.lost(&ring, &mut gate, &mut tracks);
                    continue;
                }
                Err(Lagged) => {}
                // What came while these are sent is a change of `head`, and what became due meanwhile
                // is due: nothing is looked up again only to learn that nothing is left.
                Ok(next_due) => {
                    match send(&packets, &mut place, &mut gate, &mut tracks, &shown).await {
                        Sent::KeyWanted => {
                            ring.want_key();
                            continue;
                        }
                        Sent::All if packets.len() == BATCH => {
                            tokio::time::sleep(BURST_PAUSE).await;
                            continue;
                        }
                        Sent::All => due = next_due.map(|due| due + LATE),
                        Sent::Held => {
                            place.held();
                            if grants.changed().await.is_err() {
                                return;
                            }
                            requests.forget();
                            continue;
                        }
                        Sent::Closed => return,
                    }
                }
            }
        }
        // While it flows the gate looks at the newest grant before each packet.
        let flows = place.flows() && gate.is_open();
        if let Some(due) = due
            && alarm.deadline() != due
        {
            alarm.as_mut().reset(due);
        }
        tokio::select! {
            changed = head.changed(), if flows => if changed.is_err() { return },
            () = &mut alarm, if due.is_some() => {}
            changed = grants.changed(), if !flows => if changed.is_err() { return },
            Some(()) = requests.asked.recv() => if gate.has_credit() { ring.want_key() },
        }
    }
}

/// The viewer's requests for a key frame; several that wait are one.
struct KeyFrameRequests {
    asked: mpsc::Receiver<()>,
    reader: Option<AbortHandle>,
}

impl KeyFrameRequests {
    fn of(track: Option<&MeteredTrack>) -> Self {
        let (ask, asked) = mpsc::channel(1);
        let reader = track.map(|track| {
            let track = track.out();
            let reading = tokio::spawn(async move {
                while let Some(packets) = track.reports().await {
                    if packets.iter().any(|it| asks_for_key_frame(it.as_ref())) {
                        // Full: one waits already.
                        let _ = ask.try_send(());
                    }
                }
            });
            reading.abort_handle()
        });
        Self { asked, reader }
    }

    /// What was asked without credit is not answered later.
    fn forget(&mut self) {
        while self.asked.try_recv().is_ok() {}
    }
}

impl Drop for KeyFrameRequests {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

enum Sent {
    All,
    /// The picture has to wait for a key frame.
    KeyWanted,
    Held,
    Closed,
}

async fn send(
    packets: &[Arc<MediaPacket>],
    place: &mut Place,
    gate: &mut Gate,
    tracks: &mut Tracks,
    shown: &Shown,
) -> Sent {
    let mut passed = Passed::new(shown);
    for packet in packets {
        let track = match packet.kind {
            Kind::Video => &mut tracks.video,
            Kind::Audio => &mut tracks.audio,
        };
        // A kind that this viewer does not take is not counted either.
        if let Some(track) = track {
            match gate.offer(packet) {
                Verdict::Pass => {
                    // First the key, then what it opens.
                    #[cfg(feature = "e2ee")]
                    if !gate.hand_over().await {
                        return Sent::Closed;
                    }
                    passed.add(gate.reading(), packet.kind);
                    place.sent(packet);
                    if track.write(packet).await.is_err() {
                        return Sent::Closed;
                    }
                }
                Verdict::Skip if gate.has_credit() => {
                    place.next = packet.index + 1;
                    return Sent::KeyWanted;
                }
                Verdict::Skip => {}
                Verdict::Hold => return Sent::Held,
                Verdict::Dead => return Sent::Closed,
            }
        }
        place.next = packet.index + 1;
    }
    Sent::All
}

/// What passed and does not show yet: it is told once for all packets that are sent in a row, for
/// each time wakes a session. Told when dropped, so that delivery that is cut off tells it, too.
struct Passed<'a> {
    shown: &'a Shown,
    reading: Option<Reading>,
    sent: PacketCount,
}

impl<'a> Passed<'a> {
    const fn new(shown: &'a Shown) -> Self {
        Self {
            shown,
            reading: None,
            sent: PacketCount { video: 0, audio: 0 },
        }
    }

    const fn add(&mut self, reading: Reading, kind: Kind) {
        self.reading = Some(reading);
        self.sent.add(kind);
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if let Some(reading) = self.reading {
            let all = self.shown.sent.borrow().plus(self.sent);
            self.shown.sent.send_replace(all);
            self.shown.reading.send_replace(reading);
        }
    }
}

impl Gate {
    /// Whether a grant is there at all; the limit may still hold every packet.
    fn is_open(&self) -> bool {
        self.grants.has_changed().is_ok()
            && matches!(
                *self.grants.borrow(),
                streampay_core::meter::Grant::Open { .. }
            )
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_pace;
