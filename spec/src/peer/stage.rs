use serde_json::Value;
use streampay_core::meter::Tariff;
use streampay_core::session::SecretKey;
use streampay_core::units::{PurseId, Seq, SessionId};
use streampay_core::wire::{Message, Terms, decode, encode};

use super::{CHANNEL, Judge, METHOD, Played, opening, payment};
use crate::conformance::{Numbers, Subject, Trouble, is_event};
use crate::fields::{tariff_to_json, terms_to_json};
use crate::json::{BadJson, Fields, Object, int, unhex};
use crate::people::{entropy, key, msat, rate, terms};

/// Where one side plays against a puppet. It tells the side the time, plays its backend, keeps a
/// record, and has a judge look at everything that the side does.
pub struct Stage<'a> {
    subject: &'a mut dyn Subject,
    /// The side's monotonic clock.
    pub mono_ms: u64,
    /// The side's wall clock.
    pub unix_s: u64,
    /// What came of the last step.
    pub outputs: Vec<Value>,
    /// What the side says of itself after it.
    pub state: Value,
    /// Who watches.
    pub judge: Judge,
    steps: Vec<Value>,
    requests: Numbers,
    entropy: u8,
    /// What the side was created with.
    created: u8,
}

/// What a side is created with, where it is not the usual.
#[derive(Clone, Debug)]
pub struct Cast {
    /// A payer's budget, in millisatoshi.
    pub budget: u64,
    /// The most that a payer puts into one purse, in millisatoshi.
    pub max_purse: u64,
    /// What a payee has left of its free preview, in millisatoshi.
    pub preview_left: u64,
    /// A payee's terms.
    pub terms: Terms,
    /// A payer's highest prices.
    pub max_tariff: Tariff,
    /// The ways to pay that a payer has, its favourite first.
    pub methods: Vec<&'static str>,
    /// True for a payee with a room.
    pub room: bool,
}

impl Cast {
    /// The usual.
    ///
    /// # Errors
    /// None.
    pub fn usual() -> Played<Self> {
        Ok(Self {
            budget: 100_000,
            max_purse: 100_000,
            preview_left: 1_000_000,
            terms: terms().map_err(|_| "a fixed key is none")?,
            max_tariff: Tariff {
                time: rate(5_000, 10_000),
                bytes: None,
            },
            methods: vec![METHOD],
            room: false,
        })
    }
}

impl<'a> Stage<'a> {
    /// An empty stage.
    pub fn new(subject: &'a mut dyn Subject) -> Self {
        Self {
            subject,
            mono_ms: 1_000,
            unix_s: 1_800_000_000,
            outputs: Vec::new(),
            state: Value::Null,
            judge: Judge::default(),
            steps: Vec::new(),
            requests: Numbers::default(),
            entropy: 0x80,
            created: 0,
        }
    }

    /// An empty stage for the same implementation: a script of several sessions.
    pub fn anew(&mut self) -> Stage<'_> {
        Stage::new(self.subject)
    }

    /// All steps so far.
    #[must_use]
    pub fn into_steps(self) -> Vec<Value> {
        self.steps
    }

    /// Gives an input.
    ///
    /// # Errors
    /// A text where there is no answer, or the judge objects.
    pub fn step(&mut self, input: Object) -> Played {
        self.step_taking(input, None)
    }

    /// Gives an input; after so many outputs, events left out, the process dies.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn step_taking(&mut self, input: Object, take: Option<u64>) -> Played {
        let now = Object::new()
            .int("mono_ms", self.mono_ms)
            .int("unix_s", self.unix_s)
            .done();
        let input = input.done();
        let request = Object::new()
            .with("cmd", "step")
            .with("now", now.clone())
            .with("input", input.clone())
            .maybe("take", take.map(int));
        let answer = self.subject.ask(request);
        let answer = answer.map_err(|trouble: Trouble| trouble.to_string())?;
        let fields = Fields::new(&answer);
        let outputs = fields.list("outputs").map_err(|bad| bad.to_string())?;
        let mut outputs = outputs.clone();
        self.requests.order(&mut outputs);
        self.outputs = outputs.iter().map(|output| self.numbered(output)).collect();
        self.state = fields.opt("state").cloned().unwrap_or_default();
        self.requests.state(&mut self.state);
        // Whether its user was still told depends on when a side does that.
        let counts = |output: &&Value| take.is_none() || !is_event(output);
        let outputs: Vec<Value> = self.outputs.iter().filter(counts).cloned().collect();
        let step = Object::new()
            .with("now", now)
            .with("input", input.clone())
            .maybe("take", take.map(int))
            .with("outputs", outputs)
            .with("state", self.state.clone());
        self.steps.push(step.done());
        if let Ok(misuse) = fields.text("misuse") {
            return Err(format!("the step is misuse: {misuse}"));
        }
        self.judge.watch(&input, &self.outputs, &self.state)
    }

    fn numbered(&mut self, output: &Value) -> Value {
        let mut output = output.clone();
        self.requests.number(&mut output);
        output
    }

    /// Creates a payer.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn create_payer(&mut self, cast: &Cast) -> Played {
        self.judge.is_payer = true;
        let secret = key("payer").map_err(|_| "a fixed key is none")?;
        let policy = Object::new()
            .int("budget", cast.budget)
            .with("max_tariff", tariff_to_json(&cast.max_tariff))
            .int("max_tick", 4_000_u64)
            .int("max_purse", cast.max_purse)
            .with("methods", cast.methods.clone())
            .int("stall_close_ms", 30_000_u64);
        let config = Object::new()
            .hex("identity", secret.dangerous_bytes())
            .hex("payee", &cast.terms.payee.0)
            .with("policy", policy);
        (self.judge.budget, self.judge.tariff) = (cast.budget, cast.terms.tariff);
        self.create("payer", config)
    }

    /// Creates a payee.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn create_payee(&mut self, cast: &Cast) -> Played {
        let secret = key("payee").map_err(|_| "a fixed key is none")?;
        let config = Object::new()
            .hex("identity", secret.dangerous_bytes())
            .with("terms", terms_to_json(&cast.terms))
            .int("preview_left", cast.preview_left)
            .int("unpaid_ms", 20_000_u64)
            .maybe("room", cast.room.then_some(true));
        self.judge.free = cast.terms.preview.msat() + cast.terms.window.msat();
        self.create("payee", config)
    }

    /// Creates a room: who may join, how many, and how many texts it keeps for who comes.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn create_host(&mut self, admission: &str, members_max: u64, history: u64) -> Played {
        self.judge.is_host = true;
        self.requests = Numbers::of(true);
        let config = Object::new()
            .with("admission", admission)
            .int("members_max", members_max)
            .int("history", history);
        self.create("host", config)
    }

    fn create(&mut self, role: &str, config: Object) -> Played {
        let entropy = self.fresh();
        self.created = self.entropy;
        let create = Object::new()
            .with("role", role)
            .hex("entropy", &entropy.0)
            .with("config", config);
        self.step(Object::new().with("create", create))
    }

    fn fresh(&mut self) -> streampay_core::session::Entropy {
        self.entropy = self.entropy.saturating_add(1);
        entropy(self.entropy)
    }

    /// The side's key of its session: for what it signed before its store went back.
    ///
    /// # Errors
    /// None.
    pub fn own_key(&self) -> Played<SecretKey> {
        let own = SecretKey::derive(&entropy(self.created), "session-key");
        own.map_err(|_| "a fixed key is none".into())
    }

    /// Time passes.
    pub const fn pass_ms(&mut self, ms: u64) {
        self.mono_ms = self.mono_ms.saturating_add(ms);
    }

    /// Time passes, and the side notices.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn wait_ms(&mut self, ms: u64) -> Played {
        self.pass_ms(ms);
        self.step(Object::new().with("timeout", Object::new()))
    }

    /// A connection comes up.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn link_up(&mut self) -> Played {
        let up = Object::new()
            .hex("payer", &CHANNEL.payer)
            .hex("payee", &CHANNEL.payee)
            .hex("entropy", &self.fresh().0);
        self.step(Object::new().with("link_up", up))
    }

    /// The connection goes.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn link_down(&mut self) -> Played {
        self.step(Object::new().with("link_down", Object::new()))
    }

    /// The process begins anew.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn restart(&mut self) -> Played {
        let restart = Object::new().hex("entropy", &self.fresh().0);
        self.mono_ms = 500;
        self.step(Object::new().with("restart", restart))
    }

    /// The puppet says something.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn receive(&mut self, message: &Message) -> Played {
        self.receive_bytes(&encode(message))
    }

    /// The puppet says these bytes.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn receive_bytes(&mut self, bytes: &[u8]) -> Played {
        self.step(Object::new().hex("received", bytes))
    }

    /// The side's own meter reads this.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn usage(&mut self, media_ms: u64) -> Played {
        self.usage_of(media_ms, 0)
    }

    /// The same, with both meters.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn usage_of(&mut self, media_ms: u64, bytes: u64) -> Played {
        let usage = Object::new().int("media_ms", media_ms).int("bytes", bytes);
        self.step(Object::new().with("usage", usage))
    }

    /// The side's user wants something.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn command(&mut self, name: &str, value: impl Into<Value>) -> Played {
        let command = Object::new().with(name, value);
        self.step(Object::new().with("command", command))
    }

    /// The side's backend answers for a purse.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn answer(&mut self, purse: u32, outcome: &str, fields: Object) -> Played {
        let backend = Object::new()
            .int("purse", purse)
            .with("outcome", Object::new().with(outcome, fields));
        self.step(Object::new().with("backend", backend))
    }

    /// The same, with a failure.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn fail(&mut self, purse: u32, kind: &str, fields: Object) -> Played {
        self.answer(purse, "failed", Object::new().with(kind, fields))
    }

    /// What the side's backend is asked in the last step: `name` and its fields.
    #[must_use]
    pub fn asked(&self, name: &str) -> Option<&Value> {
        let mut backends = self
            .outputs
            .iter()
            .filter_map(|output| output.get("backend"));
        backends.find_map(|backend| backend.get(name))
    }

    /// The purse about which the side's backend is asked `name` in the last step.
    #[must_use]
    pub fn asked_purse(&self, name: &str) -> u32 {
        let backends = self
            .outputs
            .iter()
            .filter_map(|output| output.get("backend"));
        let mut named = backends.filter(|backend| backend.get(name).is_some());
        let purse = named.find_map(|backend| Fields::new(backend).int("purse").ok());
        purse.unwrap_or_default()
    }

    /// What the side sent in the last step.
    #[must_use]
    pub fn sent(&self) -> Vec<Message> {
        let sends = self.outputs.iter().filter_map(|output| output.get("send"));
        let bytes = sends.filter_map(|hex| unhex(hex.as_str()?));
        bytes.filter_map(|bytes| decode(&bytes).ok()?).collect()
    }

    /// True where the side told its user so in the last step.
    #[must_use]
    pub fn told(&self, event: &str) -> bool {
        let events = self.outputs.iter().filter_map(|output| output.get("event"));
        events.into_iter().any(|found| found.get(event).is_some())
    }

    /// True once the side's session has ended: it takes no input any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.get("ended") == Some(&Value::Bool(true))
    }

    /// Objects where the side does not do what it must.
    ///
    /// # Errors
    /// `what`, and what it did.
    pub fn must(&self, holds: bool, what: &str) -> Played {
        if holds {
            return Ok(());
        }
        let outputs = Value::from(self.outputs.clone());
        Err(format!("must {what}: {outputs}"))
    }

    /// Opens the purse that the side's backend was asked for, for `capacity` msat.
    ///
    /// # Errors
    /// As [`Stage::step`], and where nothing was asked.
    pub fn open_purse(&mut self, session: SessionId, capacity: u64) -> Played {
        self.must(self.asked("open").is_some(), "ask for a purse")?;
        self.opened(self.asked_purse("open"), session, capacity)
    }

    /// A purse opens, for `capacity` msat.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn opened(&mut self, purse: u32, session: SessionId, capacity: u64) -> Played {
        self.opened_until(purse, session, capacity, None)
    }

    /// The same, with an end of its usable time, in seconds since 1970.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn opened_until(
        &mut self,
        purse: u32,
        session: SessionId,
        capacity: u64,
        until: Option<u64>,
    ) -> Played {
        let bytes = opening(session, PurseId(purse), msat(capacity));
        let opened = Object::new()
            .hex("opening", &bytes)
            .int("capacity", capacity)
            .int("cost", capacity)
            .int("quantum", 1_000_u64)
            .maybe("usable_until", until.map(int));
        self.answer(purse, "opened", opened)
    }

    /// Makes the payment that the side's backend was asked for.
    ///
    /// # Errors
    /// As [`Stage::step`], and where nothing was asked.
    pub fn make_payment(&mut self, session: SessionId) -> Played {
        let paid = self.payment(session)?;
        self.answer(self.asked_purse("pay"), "paid", paid)
    }

    /// The payment that the side's backend was asked for.
    ///
    /// # Errors
    /// A text where nothing was asked.
    pub fn payment(&self, session: SessionId) -> Played<Object> {
        self.must(self.asked("pay").is_some(), "ask for a payment")?;
        let asked = self.asked("pay").cloned().unwrap_or_default();
        let asked = Fields::new(&asked);
        let bad = |bad: BadJson| bad.to_string();
        let seq = Seq(asked.int("seq").map_err(bad)?);
        let cumulative = msat(asked.int("cumulative").map_err(bad)?);
        let payload = payment(session, PurseId(self.asked_purse("pay")), seq, cumulative);
        Ok(Object::new().hex("payload", &payload))
    }
}

impl core::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stage")
            .field("mono_ms", &self.mono_ms)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}
