//! Media: packets that pass the gate while it is open, counted by both sides, in pieces.

use streampay_core::meter::{Grant, Reading, Schedule};
use streampay_core::session::{Input, PayerSession};
use streampay_core::units::Msat;

use super::world::{Ev, PAYEE, PAYER, World};

/// The media of one slot.
#[derive(Debug, Default)]
pub(super) struct Media {
    /// What is on its way through the gate: since when, and how many packets.
    piece: Option<(u64, u64)>,
    /// Pieces before this one are not looked at any more.
    epoch: u32,
    packet: Reading,
    /// The payer's user has paused, on this connection: what was used then.
    pub(super) still: Option<Msat>,
    /// The connection on which something is sent on.
    sends_on: Option<u32>,
    /// The payer's side of this connection is bound.
    pub(super) bound: bool,
}

/// What a payee that sends on sends at a time, in milliseconds.
const SENT_ON_MS: u64 = 1_000;

pub(super) fn plus(a: Reading, b: Reading) -> Reading {
    Reading {
        media_ms: a.media_ms + b.media_ms,
        bytes: a.bytes + b.bytes,
    }
}

fn times(a: Reading, count: u64) -> Reading {
    Reading {
        media_ms: a.media_ms * count,
        bytes: a.bytes * count,
    }
}

impl World {
    /// The gate was told something.
    pub(super) fn on_gate(&mut self, slot: usize, grant: Grant) {
        let end = &mut self.slots[slot].ends[PAYEE];
        let before = core::mem::replace(&mut end.grant, grant);
        let opened = matches!(before, Grant::Open { .. }) && matches!(grant, Grant::Open { .. });
        if opened && self.slots[slot].media.piece.is_some() {
            // The piece that is under way was within the last grant, and so is within this one.
            return;
        }
        self.stop_piece(slot);
        let epoch = self.slots[slot].media.epoch;
        self.after(0, Ev::Media { slot, epoch });
    }

    /// The connection or the process is gone: what has passed has passed.
    pub(super) fn cut_media(&mut self, slot: usize) {
        self.stop_piece(slot);
    }

    /// Counts what of the piece has passed by now.
    fn stop_piece(&mut self, slot: usize) {
        let (now, packet_ms) = (self.now, self.setting.packet_ms);
        let media = &mut self.slots[slot].media;
        media.epoch += 1;
        let Some((since, count)) = media.piece.take() else {
            return;
        };
        let passed = (now.saturating_sub(since) / packet_ms).min(count);
        if passed == 0 {
            return;
        }
        let grown = times(media.packet, passed);
        let truth = &mut self.slots[slot].truth;
        truth.delivered = plus(truth.delivered, grown);
        let end = &mut self.slots[slot].ends[PAYEE];
        end.reading = plus(end.reading, grown);
        let conn = self.slots[slot].link.conn;
        self.after(15, Ev::Packets { slot, conn, grown });
    }

    /// A piece has passed, or the gate may let another through.
    pub(super) fn on_media(&mut self, slot: usize, epoch: u32) {
        if self.slots[slot].media.epoch != epoch {
            return;
        }
        self.stop_piece(slot);
        let reading = self.slots[slot].ends[PAYEE].reading;
        let truth = &mut self.slots[slot].truth;
        truth.payee_meter = truth.payee_meter.max(reading);
        self.input(slot, PAYEE, Input::Usage(reading));
        self.start_piece(slot);
    }

    /// As many packets as the gate admits, and as a reading may wait for.
    fn start_piece(&mut self, slot: usize) {
        let (setting, now) = (self.setting, self.now);
        if self.slots[slot].media.piece.is_some() || !self.slots[slot].link.up {
            return;
        }
        let bytes = match setting.bytes_msat {
            0 => 0,
            _ => self.below(20_000),
        };
        let slot_ = &mut self.slots[slot];
        slot_.media.packet = Reading {
            media_ms: setting.packet_ms,
            bytes,
        };
        let (reading, packet) = (slot_.ends[PAYEE].reading, slot_.media.packet);
        let grant = slot_.ends[PAYEE].grant;
        let admits = |count: u64| grant.admits(plus(reading, times(packet, count)));
        let (mut low, mut high) = (0, setting.sample_ms / setting.packet_ms);
        if admits(high) {
            low = high;
        }
        while low < high {
            let middle = (low + high).div_ceil(2);
            if admits(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        if low == 0 {
            return;
        }
        slot_.media.piece = Some((now, low));
        slot_.media.epoch += 1;
        let epoch = slot_.media.epoch;
        self.after(low * setting.packet_ms, Ev::Media { slot, epoch });
    }

    /// Packets come to the payer, if it is still there.
    pub(super) fn on_packets(&mut self, slot: usize, conn: u32, grown: Reading) {
        let slot_ = &mut self.slots[slot];
        let here = slot_.link.up && slot_.link.conn == conn;
        if !here || slot_.ends[PAYER].session.is_none() {
            return;
        }
        slot_.truth.received = plus(slot_.truth.received, grown);
        self.meter_payer(slot, grown);
    }

    /// The payer's meter reads so much more.
    fn meter_payer(&mut self, slot: usize, grown: Reading) {
        let before = self.standing(slot);
        let end = &mut self.slots[slot].ends[PAYER];
        end.reading = plus(end.reading, grown);
        let reading = end.reading;
        self.input(slot, PAYER, Input::Usage(reading));
        if let Some(before) = before {
            self.judge_standing(slot, &before);
        }
    }

    /// How a payer that has paused stands.
    fn standing(&self, slot: usize) -> Option<Standing> {
        let (payer, still) = (self.payer(slot)?, self.slots[slot].media.still?);
        let (schedule, booked) = (payer.schedule(), payer.booked());
        let most = self.slots[slot]
            .truth
            .most_while_still(still, payer.bought(), &schedule);
        Some(Standing {
            reading: payer.reading(),
            booked,
            schedule,
            most,
        })
    }

    /// What comes to a payer that has paused counts as far as media on its way may be, by its own meter,
    /// and no further. Spec: pricing 2.3.
    fn judge_standing(&mut self, slot: usize, before: &Standing) {
        let Some(reading) = self.payer(slot).map(PayerSession::reading) else {
            return;
        };
        let used = before.schedule.used(plus(reading, before.booked));
        if reading != before.reading && used > before.most {
            let found = format!("{used} used of {} while it stands still", before.most);
            self.violate(slot, "PayerBound", found);
        }
    }

    /// The payer has paused: a payee that sends on does so from now.
    pub(super) fn begin_to_send_on(&mut self, slot: usize, by_user: bool) {
        let Some(payer) = self.payer(slot) else {
            return;
        };
        let used = payer.schedule().used(plus(payer.reading(), payer.booked()));
        let place = &mut self.slots[slot];
        if place.media.bound && place.link.up && place.sends_on && by_user {
            place.media.still = Some(used);
        }
        if place.media.bound {
            self.go_on_sending(slot, 100);
        }
    }

    /// The same on a new connection, bound or not yet, in the pause that the last one was lost in.
    pub(super) fn go_on_sending(&mut self, slot: usize, ms: u64) {
        let place = &mut self.slots[slot];
        let (conn, media) = (place.link.conn, &mut place.media);
        let sends = place.link.up && place.sends_on && media.packet.media_ms > 0;
        if !sends || !place.truth.asking.is_paused() || media.sends_on == Some(conn) {
            return;
        }
        media.sends_on = Some(conn);
        self.count_sent_on(slot);
        self.after(ms, Ev::SendOn { slot, conn });
    }

    /// Sends more past the gate, as long as the payer has paused. It is not on the payee's own meter.
    pub(super) fn send_on(&mut self, slot: usize, conn: u32) {
        let place = &mut self.slots[slot];
        let here = place.link.up && place.link.conn == conn && place.truth.asking.is_paused();
        if !here || place.ends[PAYEE].session.is_none() {
            place.media.sends_on.take_if(|of| *of == conn);
            return;
        }
        let packets = SENT_ON_MS / self.setting.packet_ms;
        self.after(
            15,
            Ev::Unasked {
                slot,
                conn,
                packets,
            },
        );
        self.after(SENT_ON_MS, Ev::SendOn { slot, conn });
    }

    /// Packets come that nobody asked for. While the payer stands still they are worth what of them it
    /// counts within its rule, and no more: whatever else it pays for, it pays for nothing.
    ///
    /// How many those are is told by its own meter, not by all that ever came. That meter is behind by what a
    /// crash undid, of the one quantity more than of the other, and has so much more room.
    pub(super) fn on_unasked(&mut self, slot: usize, conn: u32, packets: u64) {
        let place = &mut self.slots[slot];
        let here = place.link.up && place.link.conn == conn;
        if !here || place.ends[PAYER].session.is_none() {
            return;
        }
        let (stands, bound) = (place.truth.asking.is_paused(), place.media.bound);
        let grown = times(place.media.packet, packets);
        let received = place.truth.received;
        if stands && !bound {
            self.hold_unasked(slot, grown);
            return self.meter_payer(slot, grown);
        }
        place.truth.received = plus(received, grown);
        self.meter_payer(slot, grown);
        // One that died in the midst of it may have all of it on its disk.
        let after = self.payer(slot).filter(|_| stands);
        if let Some(after) = after.map(PayerSession::reading) {
            self.slots[slot].truth.received = received.max(after);
        }
    }
}

/// A payer that has paused, before something comes: what counts, and up to which price more of it may.
struct Standing {
    reading: Reading,
    booked: Reading,
    schedule: Schedule,
    most: Msat,
}
