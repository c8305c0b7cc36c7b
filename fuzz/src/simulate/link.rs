//! Links: what is sent arrives later, never, twice, or in another order, or the connection is
//! gone.

use bytes::Bytes;
use streampay_core::session::{
    ChannelIdentity, Entropy, Event, Input, LinkEvent, Output, PayeeSession,
};
use streampay_core::wire::{Hello, Message, encode};

use super::drive::NACK;
use super::kinds::Kind;
use super::messages::{Aimed, Mishap, kind_of};
use super::world::{Ev, PAYEE, PAYER, STREAMER, World};

/// One way, in milliseconds, in fair weather.
const DELAY_MS: u64 = 20;

/// The link of one slot.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) up: bool,
    /// Which connection this is.
    pub(super) conn: u32,
    pub(super) trying: bool,
    /// What happens to the next messages.
    pub(super) lose: u64,
    /// What befalls the next of one kind.
    pub(super) aimed: Aimed,
    pub(super) repeat: u64,
    pub(super) overtake: u64,
    pub(super) delay: u64,
    /// Nothing comes through before then.
    pub(super) dark_until: u64,
    /// Nacks that came through on this connection, where nothing comes twice.
    nacks: Vec<Bytes>,
}

fn take(count: &mut u64) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}

impl World {
    /// Sends, as the weather is.
    pub(super) fn send(&mut self, slot: usize, from: usize, bytes: &Bytes) {
        let (now, to) = (self.now, 1 - from);
        let link = &mut self.slots[slot].link;
        if !link.up || now < link.dark_until {
            return;
        }
        let conn = link.conn;
        let kind = kind_of(bytes);
        let lost = link.aimed.take(kind, Mishap::Lost) || take(&mut link.lose);
        self.counts.messages.add_sent(kind);
        if lost {
            self.counts.messages.add(kind, Mishap::Lost);
            return self.count(slot, Kind::Lost);
        }
        let link = &mut self.slots[slot].link;
        let repeat = link.aimed.take(kind, Mishap::Repeated) || take(&mut link.repeat);
        let aimed = link.aimed.take(kind, Mishap::Late);
        let (mut overtake, mut delay) = (take(&mut link.overtake), take(&mut link.delay));
        if aimed {
            let by_little = self.one_in(2);
            (overtake, delay) = (overtake || by_little, delay || !by_little);
        }
        if overtake || delay {
            self.counts.messages.add(kind, Mishap::Late);
        }
        let mut late = DELAY_MS;
        if overtake {
            self.count(slot, Kind::Reordered);
            late += self.below(3_000);
        }
        if delay {
            self.count(slot, Kind::Delayed);
            late += self.below(90_000);
        }
        let arrive = |bytes: &Bytes| Ev::Arrive {
            slot,
            to,
            conn,
            bytes: bytes.clone(),
        };
        if repeat {
            self.counts.messages.add(kind, Mishap::Repeated);
            self.count(slot, Kind::Repeated);
            let again = DELAY_MS
                + if self.one_in(2) {
                    self.below(500)
                } else {
                    self.below(20_000)
                };
            self.after(again, arrive(bytes));
        }
        self.after(late, arrive(bytes));
    }

    pub(super) fn on_arrival(&mut self, slot: usize, to: usize, conn: u32, bytes: Bytes) {
        let repeats = self.switches.repeats;
        let link = &mut self.slots[slot].link;
        if !link.up || link.conn != conn {
            return;
        }
        // The payer asks again where an answer is long in coming: the second is a repeat as well.
        if !repeats && bytes.get(2) == Some(&NACK) {
            if link.nacks.contains(&bytes) {
                return;
            }
            link.nacks.push(bytes.clone());
        }
        self.input(slot, to, Input::Received(bytes));
    }

    /// Tries to connect, unless that is on its way.
    pub(super) fn reconnect(&mut self, slot: usize, ms: u64) {
        let link = &mut self.slots[slot].link;
        if !link.up && !link.trying {
            link.trying = true;
            self.after(ms, Ev::Connect { slot });
        }
    }

    pub(super) fn connect(&mut self, slot: usize) {
        self.slots[slot].link.trying = false;
        if self.slots[slot].link.up || self.slots[slot].over {
            return;
        }
        let nodes = [PAYER, PAYEE].map(|side| self.slots[slot].ends[side].node);
        let up = nodes.iter().all(|node| self.nodes[*node].up);
        if !up || self.now < self.slots[slot].link.dark_until {
            return self.reconnect(slot, 700);
        }
        self.stand_in(slot);
        let ready = |side: usize| self.slots[slot].ends[side].session.is_some();
        if !ready(PAYER) || !ready(PAYEE) || self.is_ended(slot, PAYER) {
            return self.reconnect(slot, 900);
        }
        let link = &mut self.slots[slot].link;
        (link.up, link.conn) = (true, link.conn + 1);
        link.nacks.clear();
        let media = &mut self.slots[slot].media;
        (media.still, media.bound) = (None, false);
        self.go_on_sending(slot, 5);
        let identity = ChannelIdentity {
            payer: self.rng.bytes(),
            payee: self.rng.bytes(),
        };
        self.log(|| format!("s{slot} == connected"));
        let conn = self.slots[slot].link.conn;
        for side in [PAYEE, PAYER] {
            let entropy = Entropy(self.rng.bytes());
            self.slots[slot].ends[side].dropped = false;
            let link = &self.slots[slot].link;
            if link.up && link.conn == conn {
                self.input(slot, side, Input::Link(LinkEvent::Up { identity, entropy }));
            }
        }
    }

    /// The connection is gone; another is tried after a while.
    pub(super) fn disconnect(&mut self, slot: usize, ms: u64) {
        if self.slots[slot].link.up {
            self.slots[slot].link.up = false;
            self.log(|| format!("s{slot} == disconnected"));
            self.cut_media(slot);
            for side in [PAYER, PAYEE] {
                self.input(slot, side, Input::Link(LinkEvent::Down));
                self.slots[slot].ends[side].dropped = false;
            }
        }
        self.reconnect(slot, ms);
    }

    /// Somebody who knows all that is public says hello in the payer's name, chained to nothing.
    pub(super) fn meet_stranger(&mut self, slot: usize) {
        let node = self.slots[slot].ends[PAYEE].node;
        let Some(records) = self.nodes[node].store.scan(&self.prefix(slot)) else {
            return;
        };
        let (config, now) = (&self.slots[slot].payee, self.clock(STREAMER));
        let id = self.slots[slot].id;
        let Some(hello) = self.slots[slot].truth.hello.clone() else {
            return;
        };
        let unpaid = config.unpaid_ms;
        let identity = config.identity.clone();
        let Ok(mut payee) = PayeeSession::restore(identity, unpaid, now, id, &records) else {
            return;
        };
        let hello = Message::Hello(Hello {
            nonce: [7; 32],
            root: Some([9; 32]),
            evidence: None,
            ..hello
        });
        let identity = ChannelIdentity {
            payer: [1; 32],
            payee: [2; 32],
        };
        let entropy = Entropy([3; 32]);
        let _ = payee.handle(now, Input::Link(LinkEvent::Up { identity, entropy }));
        let _ = payee.handle(now, Input::Received(encode(&hello)));
        let mut greeted = false;
        while let Some(output) = payee.poll_output() {
            greeted |= matches!(&output, Output::Send(bytes) if bytes.get(2) == Some(&2));
            debug_assert!(!matches!(output, Output::Event(Event::Bound { .. })));
        }
        self.count(slot, Kind::Stranger);
        if greeted {
            self.violate(slot, "Root", "a hello with another root is welcomed".into());
        }
    }
}
