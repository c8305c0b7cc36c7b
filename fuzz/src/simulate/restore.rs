//! How sessions come back from the store.

use std::collections::BTreeMap;

use streampay_core::backend::{BackendMachine, RestoredPurse};
use streampay_core::planted::dangerous_set_restarted;
use streampay_core::session::{PayeeSession, PayerConfig, PayerSession};
use streampay_core::store::{Key, purse_prefix};
use streampay_core::units::{PurseId, PurseKey};

use super::kinds::Kind;
use super::machine::Method;
use super::store::Opened;
use super::world::{Ev, PAYEE, PAYER, Session, World};

impl World {
    /// The process is back: its sessions come from the store.
    pub(super) fn come_back(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.log(|| format!("n{node} xx back"));
        let dies = self.nodes[node].store.is_redb()
            && self.switches.crashes
            && self.rough
            && self.one_in(8);
        match self.nodes[node].store.open(&mut self.rng, dies) {
            Opened::Ready => {}
            Opened::Died => {
                self.count(0, Kind::DoubleCrash);
                self.note_cut(node);
                self.order_disk();
                let away_ms = self.between(50, 3_000);
                return self.after(away_ms, Ev::Back { node });
            }
            Opened::Broken => {
                return self.violate(0, "Disk", "the store cannot be opened again".into());
            }
        }
        let machines = self.machines();
        let mono = self.below(1_000_000_000);
        let again = self.switches.crashes && self.rough && self.one_in(8);
        let node_ = &mut self.nodes[node];
        (node_.up, node_.machines, node_.mono) = (true, machines, mono);
        node_.again = again;
        let torn = core::mem::take(&mut node_.torn) && node_.store.is_redb();
        for slot in 0..self.slots.len() {
            for side in [PAYER, PAYEE] {
                let mine = self.slots[slot].ends[side].node == node;
                if !mine || self.slots[slot].over || !self.nodes[node].up {
                    continue;
                }
                if torn {
                    self.count(slot, Kind::TornOpened);
                }
                self.slots[slot].ends[side].timer = None;
                if !self.restore(slot, side) {
                    self.count(slot, Kind::DoubleCrash);
                    let away_ms = self.between(50, 3_000);
                    return self.die(node, away_ms, None);
                }
                if core::mem::take(&mut self.nodes[node].again) && self.one_in(2) {
                    self.count(slot, Kind::DoubleCrash);
                    let away_ms = self.between(50, 3_000);
                    return self.die(node, away_ms, None);
                }
            }
        }
    }

    /// A session comes back from the store alone, its purses with it.
    /// False where the disk does not give it back.
    pub(super) fn restore(&mut self, slot: usize, side: usize) -> bool {
        let Some(records) = self.restored_records(slot, side) else {
            return false;
        };
        let node = self.slots[slot].ends[side].node;
        let (now, id) = (self.clock(node), self.slots[slot].id);
        dangerous_set_restarted(true);
        if side == PAYER {
            self.slots[slot].truth.asking.goes_on();
        }
        let place = &self.slots[slot];
        let session = if side == PAYER {
            let PayerConfig {
                identity, policy, ..
            } = place.payer.clone();
            PayerSession::restore(identity, policy, now, id, &records)
                .ok()
                .map(|payer| Session::Payer(Box::new(payer)))
        } else {
            let (identity, unpaid_ms) = (place.payee.identity.clone(), place.payee.unpaid_ms);
            PayeeSession::restore(identity, unpaid_ms, now, id, &records)
                .ok()
                .map(|payee| Session::Payee(Box::new(payee)))
        };
        let Some(session) = session else {
            self.fresh(slot, side);
            self.reconnect(slot, 500);
            // Its peer may be over: nothing else would ever happen to it.
            self.look_after(slot);
            return true;
        };
        self.count(
            slot,
            if side == PAYER {
                Kind::PayerRestored
            } else {
                Kind::PayeeRestored
            },
        );
        let (purses, reading) = match &session {
            Session::Payer(payer) => (payer.purses(), payer.reading()),
            Session::Payee(payee) => (payee.purses(), payee.reading()),
        };
        let end = &mut self.slots[slot].ends[side];
        let known = purses.into_iter().filter_map(|(purse, name)| {
            let method = Method::ALL.into_iter().find(|of| of.name() == name);
            method.map(|method| (purse, method))
        });
        end.methods = known.collect();
        (end.session, end.restarted, end.reload) = (Some(session), true, false);
        end.failed = false;
        (end.reading, end.timer, end.dropped) = (reading, None, false);
        self.restore_purses(slot, side, records);
        self.drain(slot, side);
        self.reconnect(slot, 500);
        true
    }

    fn restored_records(&self, slot: usize, side: usize) -> Option<Vec<(Key, Vec<u8>)>> {
        let node = self.slots[slot].ends[side].node;
        self.nodes[node].store.scan(&self.prefix(slot))
    }

    /// The machines of a process that died know nothing but what is in the store.
    fn restore_purses(&mut self, slot: usize, side: usize, records: Vec<(Key, Vec<u8>)>) {
        let session = self.slots[slot].id;
        let node = self.slots[slot].ends[side].node;
        let mut purses: BTreeMap<PurseId, RestoredPurse> = BTreeMap::new();
        for (key, value) in records {
            let id = key.get(34..38).and_then(|id| id.try_into().ok());
            let Some(purse) = id.map(u32::from_be_bytes).map(PurseId) else {
                continue;
            };
            let prefix = purse_prefix(PurseKey { session, purse });
            if let Some(sub_key) = key.strip_prefix(prefix.as_slice()) {
                let found = purses.entry(purse).or_default();
                found.push((sub_key.to_vec(), value));
            }
        }
        let now = self.clock(node);
        for (purse, records) in purses {
            let Some(method) = self.slots[slot].ends[side].methods.get(&purse).copied() else {
                continue;
            };
            let mut machines = self.nodes[node].machines.iter_mut();
            let Some(machine) = machines.find(|machine| machine.method == method) else {
                continue;
            };
            if machine.knows(PurseKey { session, purse }) {
                continue;
            }
            let answer = machine.restore(now, PurseKey { session, purse }, records);
            for effect in answer.effects {
                self.make_call(slot, side, effect);
            }
        }
    }

    /// A payee that is over, or that never was, is stood in for by one that tells a payer so.
    pub(super) fn stand_in(&mut self, slot: usize) {
        let missing = self.slots[slot].ends[PAYEE].session.is_none();
        if missing || self.is_ended(slot, PAYEE) {
            self.slots[slot].leaving = false;
            let _ = self.restore(slot, PAYEE);
        }
    }

    pub(super) fn on_reload(&mut self, slot: usize, side: usize, generation: u32) {
        let end = &mut self.slots[slot].ends[side];
        if !end.reload || self.slots[slot].generation != generation {
            return;
        }
        self.slots[slot].ends[side].reload = false;
        let node = self.slots[slot].ends[side].node;
        if self.is_ended(slot, side) && self.nodes[node].up {
            self.count(slot, Kind::Recovered);
            self.disconnect(slot, 1_500);
            let _ = self.restore(slot, side);
        }
    }
}
