//! One side of the pair: a session, its machine, its store, and a crash when it is told to.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::fake::FakeBackend;
use crate::backend::{BackendMachine, Effect, EffectResult, RestoredPurse};
use crate::meter::{Grant, Reading};
use crate::session::{
    ApiMisuse, BackendEvent, Event, Input, Output, PayeeConfig, PayeeSession, PayerConfig,
    PayerSession,
};
use crate::store::{ChangeSet, MemoryStore, Store, purse_prefix};
use crate::units::{Mono, Msat, Now, PurseId, PurseKey, SessionId};

fn machines() -> [FakeBackend; 2] {
    [FakeBackend::default(), FakeBackend::steps()]
}

/// Either machine.
pub(super) enum Session {
    Payer(Box<PayerSession>),
    Payee(Box<PayeeSession>),
}

/// What makes a machine anew after a crash.
pub(super) enum Config {
    Payer(PayerConfig),
    Payee(PayeeConfig),
}

pub(super) struct Side {
    pub(super) config: Config,
    pub(super) session: Option<Session>,
    pub(super) machines: [FakeBackend; 2],
    /// Which purse is of which method.
    methods: BTreeMap<PurseId, String>,
    pub(super) store: MemoryStore,
    /// Which session to look for in the store.
    pub(super) id: Option<SessionId>,
    /// Crash when so many more outputs were taken.
    pub(super) crash_in: Option<u16>,
    pub(super) crashes: u32,
    /// Which life of the process this is.
    pub(super) lives: u32,
    /// The session gave up on the connection.
    pub(super) dropped: bool,
    pub(super) grant: Grant,
    /// What the meter reads: since the session began.
    pub(super) reading: Reading,
    pub(super) events: Vec<Event>,
    /// How many of them the user has read.
    read: usize,
    /// True for a payee that has a room.
    pub(super) has_room: bool,
}

/// What a side wants done after its outputs were taken.
#[derive(Default)]
pub(super) struct Wants {
    pub(super) sends: Vec<Bytes>,
    /// Calls to make, and their methods.
    pub(super) effects: Vec<(String, Effect)>,
    pub(super) crashed: bool,
    /// Which life of the process wants it.
    pub(super) life: u32,
}

impl Side {
    pub(super) fn new(config: Config, session: Session, store: MemoryStore) -> Self {
        Self {
            config,
            id: None,
            session: Some(session),
            machines: machines(),
            methods: BTreeMap::new(),
            store,
            crash_in: None,
            crashes: 0,
            lives: 0,
            dropped: false,
            grant: Grant::Closed,
            reading: Reading::default(),
            events: Vec::new(),
            read: 0,
            has_room: false,
        }
    }

    /// Gives an input and takes every output, or crashes on the way.
    pub(super) fn input(&mut self, now: Now, input: Input) -> Wants {
        let mut wants = self.wants();
        let Some(session) = &mut self.session else {
            return wants;
        };
        let handled = match session {
            Session::Payer(payer) => payer.handle(now, input),
            Session::Payee(payee) => payee.handle(now, input),
        };
        // The simulator is a careless caller: it may still talk to a session that has ended, or
        // whose link has just gone.
        if matches!(
            handled,
            Err(ApiMisuse::Ended | ApiMisuse::NoLink | ApiMisuse::OfferPending)
        ) {
            return wants;
        }
        self.drain(now, &mut wants);
        wants
    }

    fn wants(&self) -> Wants {
        Wants {
            life: self.lives,
            ..Wants::default()
        }
    }

    pub(super) fn drain(&mut self, now: Now, wants: &mut Wants) {
        while let Some(output) = self.next_output() {
            match self.crash_in {
                Some(0) => {
                    self.crash_in = None;
                    self.crashes = self.crashes.saturating_add(1);
                    self.die();
                    wants.crashed = true;
                    return;
                }
                Some(left) => self.crash_in = Some(left.saturating_sub(1)),
                None => {}
            }
            self.act(now, output, wants);
        }
    }

    pub(super) fn timeout(&self) -> Option<Mono> {
        match self.session.as_ref()? {
            Session::Payer(payer) => payer.poll_timeout(),
            Session::Payee(payee) => payee.poll_timeout(),
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        match &self.session {
            None => false,
            Some(Session::Payer(payer)) => payer.is_ended(),
            Some(Session::Payee(payee)) => payee.is_ended(),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        match &self.session {
            None => false,
            Some(Session::Payer(payer)) => payer.is_settled(),
            Some(Session::Payee(payee)) => payee.is_settled(),
        }
    }

    /// Tells the machine how an effect ended, and the session what the machine says.
    pub(super) fn effect_done(&mut self, now: Now, result: EffectResult) -> Wants {
        let purse = result.purse;
        let method = self.methods.get(&purse.purse).cloned().unwrap_or_default();
        let Some(machine) = self.machine(&method) else {
            return self.wants();
        };
        let answer = machine.effect_done(now, result);
        self.input(now, Input::Backend(BackendEvent { purse, answer }))
    }

    /// Comes back from the store alone.
    pub(super) fn restart(
        &mut self,
        now: Now,
        fresh: impl FnOnce(&Config) -> Option<Session>,
    ) -> Wants {
        let mut wants = self.wants();
        self.machines = machines();
        let records = self.id.map(crate::store::session_prefix);
        let records = records
            .and_then(|prefix| self.store.scan(&prefix).ok())
            .unwrap_or_default();
        let restored = self.id.and_then(|id| match &self.config {
            Config::Payer(config) => {
                let PayerConfig {
                    identity, policy, ..
                } = config.clone();
                PayerSession::restore(identity, policy, now, id, &records)
            }
            .ok()
            .map(|payer| Session::Payer(Box::new(payer))),
            Config::Payee(config) => {
                let PayeeConfig {
                    identity,
                    unpaid_ms,
                    ..
                } = config.clone();
                PayeeSession::restore(identity, unpaid_ms, now, id, &records)
            }
            .ok()
            .map(|payee| Session::Payee(Box::new(payee))),
        });
        if let (Some(id), Some(session)) = (self.id, &restored) {
            let purses = match session {
                Session::Payer(payer) => payer.purses(),
                Session::Payee(payee) => payee.purses(),
            };
            self.methods = purses.into_iter().collect();
            wants.effects = self.restore_purses(now, id);
        }
        // What is settled needs no machine; a fresh one tells a peer that comes all the same.
        let over = |session: &Session| match session {
            Session::Payer(_) => false,
            Session::Payee(payee) => payee.is_ended(),
        };
        self.session = restored
            .filter(|session| !over(session))
            .or_else(|| fresh(&self.config));
        self.open_room();
        self.reading = Reading::default();
        self.start_meter();
        self.drain(now, &mut wants);
        wants
    }

    /// A payee's machine is told of its room each time it is made.
    pub(super) fn open_room(&mut self) {
        let has_room = self.has_room;
        self.session = self.session.take().map(|session| match session {
            Session::Payee(payee) if has_room => Session::Payee(Box::new(payee.with_room())),
            other => other,
        });
    }

    fn start_meter(&mut self) {
        let reading = match &self.session {
            Some(Session::Payer(payer)) => payer.reading(),
            Some(Session::Payee(payee)) => payee.reading(),
            None => Reading::default(),
        };
        self.reading = self.reading.max(reading);
    }

    fn restore_purses(&mut self, now: Now, session: SessionId) -> Vec<(String, Effect)> {
        let mut purses: BTreeMap<PurseId, RestoredPurse> = BTreeMap::new();
        let all = self
            .store
            .scan(&crate::store::session_prefix(session))
            .unwrap_or_default();
        for (key, value) in all {
            let id = key
                .get(34..38)
                .and_then(|id| id.try_into().ok())
                .map(u32::from_be_bytes);
            let Some(id) = id.map(PurseId) else { continue };
            let prefix = purse_prefix(PurseKey { session, purse: id });
            if let Some(sub_key) = key.strip_prefix(prefix.as_slice()) {
                purses
                    .entry(id)
                    .or_default()
                    .push((sub_key.to_vec(), value));
            }
        }
        let mut effects = Vec::new();
        for (purse, records) in purses {
            let method = self.methods.get(&purse).cloned().unwrap_or_default();
            let Some(machine) = self.machine(&method) else {
                continue;
            };
            let answer = machine.restore(now, PurseKey { session, purse }, records);
            let found = answer.effects.into_iter();
            effects.extend(found.map(|effect| (method.clone(), effect)));
        }
        effects
    }

    fn next_output(&mut self) -> Option<Output> {
        match self.session.as_mut()? {
            Session::Payer(payer) => payer.poll_output(),
            Session::Payee(payee) => payee.poll_output(),
        }
    }

    fn act(&mut self, now: Now, output: Output, wants: &mut Wants) {
        match output {
            Output::Persist(changes) => self.append(now, changes),
            Output::Send(bytes) => wants.sends.push(bytes),
            Output::Backend {
                method,
                purse,
                id,
                request,
            } => {
                self.methods.insert(purse.purse, method.clone());
                let machine = self.machine(&method);
                let answer = machine.map(|machine| machine.request(now, purse, id, request));
                let answer = answer.unwrap_or_default();
                let event = Input::Backend(BackendEvent { purse, answer });
                let handled = match self.session.as_mut() {
                    Some(Session::Payer(payer)) => payer.handle(now, event),
                    Some(Session::Payee(payee)) => payee.handle(now, event),
                    None => Ok(()),
                };
                debug_assert!(handled.is_ok() || self.is_ended(), "{handled:?}");
            }
            Output::Effect { method, effect } => wants.effects.push((method, effect)),
            Output::Gate(grant) => self.grant = grant,
            Output::Event(event) => {
                self.dropped |= matches!(event, Event::LinkDown);
                if matches!(event, Event::Bound { .. }) {
                    // A receipt that the peer kept may have brought the session forward.
                    self.start_meter();
                }
                self.events.push(event);
            }
        }
    }

    fn machine(&mut self, method: &str) -> Option<&mut FakeBackend> {
        let mut machines = self.machines.iter_mut();
        machines.find(|machine| machine.method() == method)
    }

    fn append(&mut self, now: Now, changes: ChangeSet) {
        if self.store.append(&[changes]).is_err() {
            let _ = match self.session.as_mut() {
                Some(Session::Payer(payer)) => payer.handle(now, Input::PersistFailed),
                Some(Session::Payee(payee)) => payee.handle(now, Input::PersistFailed),
                None => Ok(()),
            };
        }
    }

    /// The process is gone: what is in memory is lost, and the gate is shut.
    pub(super) fn die(&mut self) {
        self.session = None;
        self.grant = Grant::Closed;
        self.lives = self.lives.saturating_add(1);
    }

    /// Ended for good, with money that is not home: `recover` starts it again.
    pub(super) fn needs_recovery(&self) -> bool {
        self.is_ended() && !self.is_settled()
    }

    /// Events that the user has not read yet.
    pub(super) fn unread(&mut self) -> &[Event] {
        let from = core::mem::replace(&mut self.read, self.events.len());
        self.events.get(from..).unwrap_or_default()
    }

    pub(super) fn money(&self) -> (Msat, Msat) {
        match &self.session {
            Some(Session::Payer(payer)) => (payer.paid(), payer.acknowledged()),
            Some(Session::Payee(payee)) => (payee.credited(), payee.credited()),
            None => (Msat::ZERO, Msat::ZERO),
        }
    }
}
