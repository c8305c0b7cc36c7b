//! One session, its durable records, and the process that may die at any output.

use std::collections::BTreeMap;

use serde_json::Value;
use streampay_core::session::{
    ApiMisuse, Entropy, Input, Output, PayeeConfig, PayeeSession, PayerConfig, PayerSession,
};
use streampay_core::store::session_prefix;
use streampay_core::units::{Now, SessionId};

use super::host::write;
use super::input::{payee_config, payer_config};
use crate::fields::reading_to_json;
use crate::json::{BadJson, Fields, Object};

/// What makes a machine.
enum Config {
    Payer(PayerConfig),
    /// And whether it has a room.
    Payee(PayeeConfig, bool),
}

/// Either machine.
enum Machine {
    Payer(Box<PayerSession>),
    Payee(Box<PayeeSession>),
}

impl Machine {
    fn payee(payee: PayeeSession, room: bool) -> Self {
        Self::Payee(Box::new(if room { payee.with_room() } else { payee }))
    }
}

/// A session and its store.
pub(super) struct Stepper {
    config: Config,
    /// None while the process is dead.
    machine: Option<Machine>,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    session: SessionId,
}

/// What came of a step.
#[derive(Debug, Default)]
pub(super) struct Stepped {
    pub(super) outputs: Vec<Output>,
    pub(super) misuse: Option<ApiMisuse>,
}

impl Stepper {
    pub(super) fn create(fields: Fields<'_>) -> Result<Self, BadJson> {
        let entropy = Entropy(fields.array("entropy")?);
        let config = fields.object("config")?;
        let config = match fields.text("role")? {
            "payer" => Config::Payer(payer_config(config)?),
            "payee" => Config::Payee(payee_config(config)?, config.flag("room")),
            _ => return Err(BadJson("role".into())),
        };
        let machine = config.fresh(&entropy)?;
        let mut stepper = Self {
            config,
            machine: Some(machine),
            store: BTreeMap::new(),
            session: SessionId([0; 32]),
        };
        stepper.learn_session();
        Ok(stepper)
    }

    /// The session's name, zeros before a payee knows it.
    pub(super) const fn session(&self) -> SessionId {
        self.session
    }

    pub(super) const fn is_payer(&self) -> bool {
        matches!(self.config, Config::Payer(_))
    }

    /// Gives an input and takes every output; or as many as `take` says, events left out, and dies.
    /// No transcript dies between two `persist`s that follow each other.
    pub(super) fn handle(&mut self, now: Now, input: Input, take: Option<usize>) -> Stepped {
        let handled = match &mut self.machine {
            None => Err(ApiMisuse::Ended),
            Some(Machine::Payer(payer)) => payer.handle(now, input),
            Some(Machine::Payee(payee)) => payee.handle(now, input),
        };
        let mut stepped = self.drain(take);
        stepped.misuse = handled.err();
        stepped
    }

    pub(super) fn drain(&mut self, take: Option<usize>) -> Stepped {
        let (mut outputs, mut taken) = (Vec::new(), 0_usize);
        while take.is_none_or(|take| taken < take) {
            let Some(output) = self.next() else { break };
            if let Output::Persist(changes) = &output {
                write(&mut self.store, changes);
            }
            taken += usize::from(!matches!(output, Output::Event(_)));
            outputs.push(output);
        }
        self.learn_session();
        if take.is_some() {
            self.machine = None;
        }
        Stepped {
            outputs,
            misuse: None,
        }
    }

    /// The process begins anew, with what is durable, or with nothing.
    pub(super) fn restart(
        &mut self,
        now: Now,
        fields: Fields<'_>,
        take: Option<usize>,
    ) -> Result<Stepped, BadJson> {
        let prefix = session_prefix(self.session);
        let records = self.store.range(prefix.clone()..);
        let records: Vec<_> = records
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let restored = match &self.config {
            Config::Payer(PayerConfig {
                identity, policy, ..
            }) => {
                let (identity, policy) = (identity.clone(), policy.clone());
                PayerSession::restore(identity, policy, now, self.session, &records)
                    .map(|payer| Machine::Payer(Box::new(payer)))
            }
            Config::Payee(config, room) => {
                let identity = config.identity.clone();
                PayeeSession::restore(identity, config.unpaid_ms, now, self.session, &records)
                    .map(|payee| Machine::payee(payee, *room))
            }
        };
        let machine = match restored {
            Ok(machine) => machine,
            Err(_) => self.config.fresh(&Entropy(fields.array("entropy")?))?,
        };
        self.machine = Some(machine);
        Ok(self.drain(take))
    }

    /// What the transition tables call the session's state; none while the process is dead.
    pub(super) fn state_name(&self) -> Option<&'static str> {
        match self.machine.as_ref()? {
            Machine::Payer(payer) => Some(payer.state_name()),
            Machine::Payee(payee) => Some(payee.state_name()),
        }
    }

    pub(super) fn state(&self) -> Value {
        match &self.machine {
            None => Object::new().with("dead", true).done(),
            Some(Machine::Payer(payer)) => Object::new()
                .int("paid", payer.paid().msat())
                .int("acknowledged", payer.acknowledged().msat())
                .int("written_off", payer.written_off().msat())
                .with("reading", reading_to_json(payer.reading()))
                .with("ended", payer.is_ended())
                .with("settled", payer.is_settled())
                .maybe(
                    "timeout_ms",
                    payer.poll_timeout().map(|at| at.0.to_string()),
                )
                .done(),
            Some(Machine::Payee(payee)) => Object::new()
                .int("credited", payee.credited().msat())
                .with("reading", reading_to_json(payee.reading()))
                .with("ended", payee.is_ended())
                .with("settled", payee.is_settled())
                .maybe(
                    "timeout_ms",
                    payee.poll_timeout().map(|at| at.0.to_string()),
                )
                .done(),
        }
    }

    fn next(&mut self) -> Option<Output> {
        match self.machine.as_mut()? {
            Machine::Payer(payer) => payer.poll_output(),
            Machine::Payee(payee) => payee.poll_output(),
        }
    }

    fn learn_session(&mut self) {
        let named = match &self.machine {
            Some(Machine::Payer(payer)) => Some(payer.session()),
            Some(Machine::Payee(payee)) => payee.session(),
            None => None,
        };
        self.session = named.unwrap_or(self.session);
    }
}

impl Config {
    fn fresh(&self, entropy: &Entropy) -> Result<Machine, BadJson> {
        let bad = |_| BadJson("entropy".into());
        match self {
            Self::Payer(config) => PayerSession::new(config.clone(), entropy)
                .map(|payer| Machine::Payer(Box::new(payer)))
                .map_err(bad),
            Self::Payee(config, room) => PayeeSession::new(config.clone(), entropy)
                .map(|payee| Machine::payee(payee, *room))
                .map_err(|error| BadJson(error.to_string())),
        }
    }
}

impl core::fmt::Debug for Stepper {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stepper")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
