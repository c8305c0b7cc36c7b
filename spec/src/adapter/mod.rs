//! This implementation behind line-JSON: one request a line, one answer a line. What each command
//! takes and gives is in `conformance.md`.

#[cfg(feature = "cashu")]
mod asked;
mod broken;
#[cfg(feature = "cashu")]
mod cashu;
mod event;
mod host;
mod input;
mod output;
mod room;
mod serve;
mod step;

use serde_json::Value;
use streampay_core::meter::{Grant, PauseReason, Reading};
use streampay_core::session::{
    Binding, ChannelIdentity, Choice, CloseCode, Entropy, Hash, Invitation, Role, Signature,
};
use streampay_core::units::{Msat, SessionId, XOnlyKey};
use streampay_core::wire::{Closed, OfferTerms, Terms, decode, encode};

use self::broken::Faults;
pub use self::broken::{Broken, Found, find};
use self::host::Host;
pub use self::serve::serve;
use self::step::Stepper;
use crate::fields::{
    error_to_json, evidence_from_json, message_from_json, message_to_json, reading_from_json,
    receipt_from_json, schedule_from_json, tariff_from_json, terms_from_json, terms_to_json,
};
use crate::json::{BadJson, Fields, Object, as_int, int, one_line};

/// Why a request has no result.
#[derive(Debug)]
enum Refusal {
    /// No such command.
    Unsupported,
    /// The request makes no sense.
    Bad(BadJson),
}

impl From<BadJson> for Refusal {
    fn from(bad: BadJson) -> Self {
        Self::Bad(bad)
    }
}

type Answered = Result<Value, Refusal>;

/// Answers requests. Holds one session at a time.
#[derive(Debug, Default)]
pub struct Adapter {
    faults: Faults,
    stepper: Option<Stepper>,
    host: Option<Host>,
    #[cfg(feature = "cashu")]
    cashu: Option<cashu::Cashu>,
}

impl Adapter {
    /// One that is right, or wrong in one way.
    #[must_use]
    pub fn new(broken: Option<Broken>) -> Self {
        Self {
            faults: Faults::new(broken),
            ..Self::default()
        }
    }

    /// What the transition tables of session 10 and 11 call the state of the session that it holds; none
    /// where there is none, or its process is dead.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        self.stepper.as_ref()?.state_name()
    }

    /// The answer to a line; none where the process ends instead.
    pub fn answer_line(&mut self, line: &str) -> Option<String> {
        let request: Value = serde_json::from_str(line).unwrap_or_default();
        let command = Fields::new(&request).text("cmd").unwrap_or_default();
        let answer = one_line(&self.answer(&request));
        if self.faults.is_dead() || self.faults.is(Broken::Dies) && command == "verify" {
            return None;
        }
        Some(self.faults.line(command, answer))
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &Value) -> Value {
        let fields = Fields::new(request);
        let answer = Object::new().maybe("id", fields.opt("id").cloned());
        match self.result(fields) {
            Ok(result) => answer.with("ok", result),
            Err(Refusal::Unsupported) => answer.with("unsupported", true),
            Err(Refusal::Bad(bad)) => answer.with("refused", bad.to_string()),
        }
        .done()
    }

    fn result(&mut self, request: Fields<'_>) -> Answered {
        match request.text("cmd")? {
            "decode" => self.decode(request),
            "encode" => encode_fields(request),
            "hash" => self.hash(request),
            "verify" => self.verify(request),
            "price" => self.price(request),
            "step" if !self.faults.is(Broken::NoSteps) => self.step(request),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn decode(&self, request: Fields<'_>) -> Answered {
        let bytes = self.faults.received(request.bytes("hex")?);
        let new = Object::new();
        let result = match request.text("as")? {
            "message" => match decode(&bytes) {
                Ok(Some(message)) => new.with("message", message_to_json(&message)),
                Ok(None) => new.with("ignored", true),
                Err(error) => new.with("error", error_to_json(error)),
            },
            "terms" => match Terms::from_bytes(&bytes) {
                Ok(terms) => new.with("terms", terms_to_json(&terms)),
                Err(error) => new.with("error", error_to_json(error)),
            },
            _ => return Err(Refusal::Unsupported),
        };
        Ok(result.done())
    }

    fn hash(&self, request: Fields<'_>) -> Answered {
        let what = request.text("what")?;
        let fields = request.object("fields")?;
        let hash = match what {
            "terms" => terms_from_json(fields.object("terms")?)?.hash(),
            "binding" => binding(fields)?.hash(),
            "binding_role" => role_hash(fields)?,
            "receipt" => receipt_from_json(fields.object("receipt")?)?.hash(session(fields)?),
            "offer" => offer_hash(fields)?,
            "closed" => closed_hash(fields)?,
            "entropy" => {
                let entropy = Entropy(fields.array("entropy")?);
                Hash(entropy.derive(fields.text("label")?))
            }
            "tcp" => {
                let random = fields.array("random")?;
                Hash(ChannelIdentity::of_tcp(&random, &random).payer)
            }
            "invitation" => {
                let invitation = Invitation::new(fields.bytes("invitation")?);
                invitation.map_err(|_| BadJson("invitation".into()))?.hash()
            }
            "tagged" => tagged(request)?,
            _ => return Err(Refusal::Unsupported),
        };
        let hash = self.faults.hash(hash);
        Ok(Object::new().hex("hash", &hash.0).done())
    }

    fn verify(&self, request: Fields<'_>) -> Answered {
        let key = XOnlyKey(request.array("key")?);
        let signature = Signature(request.array("signature")?);
        let valid = key.verifies(Hash(request.array("hash")?), &signature);
        let valid = self.faults.verify(valid);
        Ok(Object::new().with("valid", valid).done())
    }

    fn price(&self, request: Fields<'_>) -> Answered {
        let fields = request.object("fields")?;
        let result = match request.text("what")? {
            "price" => {
                let (tariff, reading) = (tariff_from_json(fields.object("tariff")?)?, fields);
                let reading = reading_from_json(reading.object("reading")?)?;
                int(self.faults.price(&tariff, reading).msat())
            }
            "used" => {
                let reading = reading_from_json(fields.object("reading")?)?;
                int(schedule_from_json(fields.object("schedule")?)?
                    .used(reading)
                    .msat())
            }
            "tick" => {
                let tick = Msat::new(fields.int("tick")?).unwrap_or(Msat::MAX);
                let quantum = Msat::new(fields.int("quantum")?).unwrap_or(Msat::MAX);
                int(tick.round_up_to(quantum).unwrap_or(Msat::MAX).msat())
            }
            "within" => {
                let cap = tariff_from_json(fields.object("cap")?)?;
                Value::Bool(tariff_from_json(fields.object("tariff")?)?.is_within(&cap))
            }
            "admits" => {
                let reading: Reading = reading_from_json(fields.object("reading")?)?;
                Value::Bool(grant(fields.object("grant")?)?.admits(reading))
            }
            _ => return Err(Refusal::Unsupported),
        };
        Ok(Object::new().with("result", result).done())
    }

    fn step(&mut self, request: Fields<'_>) -> Answered {
        let now = input::now(request.object("now")?)?;
        let take = match request.opt("take") {
            Some(_) => Some(request.int("take")?),
            None => None,
        };
        let said = request.object("input")?;
        let now = self.faults.now(now);
        if let Some(create) = said.opt("create") {
            let create = Fields::new(create);
            (self.host, self.stepper) = (None, None);
            if create.text("role")? == "host" {
                self.host = Some(Host::create(create)?);
            }
            #[cfg(feature = "cashu")]
            {
                let is_cashu = create.text("role")? == "cashu";
                self.cashu = is_cashu.then(|| cashu::Cashu::create(create)).transpose()?;
            }
        }
        #[cfg(feature = "cashu")]
        if let Some(cashu) = &mut self.cashu {
            return cashu.step(now, said, take);
        }
        if let Some(host) = &mut self.host {
            return host.step(&self.faults, now, said, take);
        }
        if let Some(create) = said.opt("create") {
            self.stepper = Some(Stepper::create(Fields::new(create))?);
            self.faults.reset();
        }
        let Some(stepper) = &mut self.stepper else {
            return Err(BadJson("create".into()).into());
        };
        let outcome = if said.opt("create").is_some() {
            stepper.drain(take)
        } else if let Some(restart) = said.opt("restart") {
            stepper.restart(now, Fields::new(restart), take)?
        } else {
            let input = input::input(said, stepper.session())?;
            self.faults.step(stepper, now, input, take)
        };
        Ok(self.faults.answer(outcome, stepper))
    }
}

fn encode_fields(request: Fields<'_>) -> Answered {
    let bytes = match request.text("as")? {
        "message" => encode(&message_from_json(request.value("message")?)?).to_vec(),
        "terms" => terms_from_json(request.object("terms")?)?.to_bytes(),
        _ => return Err(Refusal::Unsupported),
    };
    Ok(Object::new().hex("hex", &bytes).done())
}

fn session(fields: Fields<'_>) -> Result<SessionId, BadJson> {
    fields.array("session").map(SessionId)
}

fn binding(fields: Fields<'_>) -> Result<Binding, BadJson> {
    let version = |value: &Value| {
        let version = as_int(value).and_then(|version| u16::try_from(version).ok());
        version.ok_or_else(|| BadJson("versions".into()))
    };
    let versions = fields.list("versions")?.iter().map(version);
    Ok(Binding {
        choice: Choice {
            versions: versions.collect::<Result<_, _>>()?,
            offered: fields.int("offered_features")?,
            version: fields.int("version")?,
            features: fields.int("features")?,
        },
        session: session(fields)?,
        payer_nonce: fields.array("payer_nonce")?,
        payee_nonce: fields.array("payee_nonce")?,
        payer: XOnlyKey(fields.array("payer")?),
        payee: XOnlyKey(fields.array("payee")?),
        payer_session_key: XOnlyKey(fields.array("payer_session_key")?),
        payee_session_key: XOnlyKey(fields.array("payee_session_key")?),
        channel: ChannelIdentity {
            payer: fields.array("payer_certificate")?,
            payee: fields.array("payee_certificate")?,
        },
        terms: Hash(fields.array("terms")?),
        root: fields.array("root")?,
    })
}

/// The role's hash is over the binding's hash alone, so the parts do not matter here.
fn role_hash(fields: Fields<'_>) -> Result<Hash, BadJson> {
    let role = match fields.text("role")? {
        "payer" => Role::Payer,
        "payee" => Role::Payee,
        _ => return Err(BadJson("role".into())),
    };
    Ok(role.hash(Hash(fields.array("binding")?)))
}

fn closed_hash(fields: Fields<'_>) -> Result<Hash, BadJson> {
    let evidence = fields.maybe("evidence", evidence_from_json)?;
    let closed = Closed {
        code: CloseCode::from_code(fields.int("code")?),
        evidence,
        proof: None,
    };
    Ok(closed.hash(session(fields)?, &fields.array("nonce")?))
}

fn offer_hash(fields: Fields<'_>) -> Result<Hash, BadJson> {
    let offer = OfferTerms {
        terms: terms_from_json(fields.object("terms")?)?,
        from: Msat::new(fields.int("from")?).map_err(|_| BadJson("from".into()))?,
        signature: Signature([0; 64]),
    };
    Ok(offer.hash(session(fields)?))
}

/// A tagged hash over any bytes. Source: BIP 340.
fn tagged(request: Fields<'_>) -> Result<Hash, BadJson> {
    use bitcoin_hashes::{Hash as _, sha256};
    let tag = sha256::Hash::hash(request.text("tag")?.as_bytes()).to_byte_array();
    let whole = [&tag[..], &tag, &request.bytes("preimage")?].concat();
    Ok(Hash(sha256::Hash::hash(&whole).to_byte_array()))
}

fn grant(fields: Fields<'_>) -> Result<Grant, BadJson> {
    if fields.flag("closed") {
        return Ok(Grant::Closed);
    }
    if fields.opt("paused").is_some() {
        let reason = PauseReason::from_code(fields.int("paused")?);
        return reason
            .map(Grant::Paused)
            .ok_or_else(|| BadJson("paused".into()));
    }
    Ok(Grant::Open {
        limit: Msat::new(fields.int("limit")?).map_err(|_| BadJson("limit".into()))?,
        schedule: schedule_from_json(fields.object("schedule")?)?,
    })
}
