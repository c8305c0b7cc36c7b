//! What must hold whatever the peer does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use streampay_core::backend::RefusalCode;
use streampay_core::meter::{Reading, Tariff};
use streampay_core::wire::{Message, RoomCode, Tick, decode};

use super::Played;
use crate::fields::reading_from_json;
use crate::json::{Fields, as_int, unhex};

/// The most that one input may bring about, in outputs.
const OUTPUTS_MAX: usize = 24;
/// And in bytes sent.
const BYTES_MAX: usize = 64 * 1024;
/// One tick of all scripts, in millisatoshi.
const TICK: u64 = 2_000;

/// Watches one side through its steps.
#[derive(Debug, Default)]
pub struct Judge {
    /// Which side it is.
    pub is_payer: bool,
    /// True where it is no side but a room.
    pub is_host: bool,
    /// Payee: preview and window, in millisatoshi.
    pub free: u64,
    /// Payer: the most that it may spend, in millisatoshi.
    pub budget: u64,
    /// The first terms' prices.
    pub tariff: Tariff,
    /// Payer: the prices that both agreed to last, where it is not those.
    pub next: Option<Tariff>,
    bound: bool,
    /// Payee: what its backend said is good, by purse and tick.
    credited: BTreeMap<(u64, u64), u64>,
    receiving: BTreeMap<u64, (u64, u64)>,
    /// Payer: the payments made, by purse and tick; what each said on the wire.
    made: BTreeMap<(u64, u64), u64>,
    paying: BTreeMap<u64, (u64, u64)>,
    said: BTreeMap<(u64, u64), Vec<u8>>,
    refused: Option<(u64, u64)>,
    /// What that payment was to bring the purse to, where it is outstanding: the next number may pay it.
    outstanding: Option<u64>,
    /// Payer: what each payment was asked to bring its purse to.
    cumulative: BTreeMap<(u64, u64), u64>,
    /// Payer: the ticks of purses that the payee does not know.
    disowned: BTreeSet<(u64, u64)>,
    used: Reading,
    opened: u64,
    /// Payee: the ticks that are tips.
    tips: BTreeSet<(u64, u64)>,
    /// Payer: what its user consented to give besides the media, and to pay for joining.
    given: u64,
    max_fee: u64,
}

impl Judge {
    /// A refused payment was acknowledged after all.
    pub const fn forgive(&mut self) {
        (self.refused, self.outstanding) = (None, None);
    }

    /// A payment that a payee's backend said is good, and of which the payee's own store does not know.
    pub fn knew(&mut self, purse: u64, seq: u64, msat: u64) {
        self.credited.insert((purse, seq), msat);
    }

    /// Looks at one step.
    ///
    /// # Errors
    /// What does not hold.
    pub fn watch(&mut self, input: &Value, outputs: &[Value], state: &Value) -> Played {
        // What a process that died did not write down was never said.
        let written = outputs.iter().any(|output| output.get("persist").is_some());
        if written || input.get("backend").is_none() {
            self.learn(input);
        }
        self.hear(input, outputs);
        bounded(outputs)?;
        if self.is_host {
            return host_durable_first(outputs);
        }
        durable_first(input, outputs)?;
        for output in outputs {
            if output.pointer("/event/bound").is_some() {
                self.bound = true;
            }
            self.request(output)?;
            self.gate(output)?;
            if let Some(bytes) = output.get("send").and_then(|hex| unhex(hex.as_str()?)) {
                self.message(&bytes)?;
            }
        }
        self.state(state)
    }

    /// What the runner itself said.
    fn learn(&mut self, input: &Value) {
        let usage = input.get("usage").map(Fields::new);
        if let Some(Ok(reading)) = usage.map(reading_from_json) {
            self.used = self.used.max(reading);
        }
        if let Some(tip) = input.pointer("/command/tip").and_then(as_int) {
            self.given = self.given.saturating_add(tip);
        }
        if let Some(fee) = input.pointer("/command/join/max_fee").and_then(as_int) {
            self.max_fee = fee;
        }
        // What is lost by consent is no longer at stake.
        if input.pointer("/command/write_off").is_some()
            && let Some(lost) = self.refused.take()
        {
            self.made.remove(&lost);
            self.outstanding = None;
        }
        let Some(backend) = input.get("backend") else {
            return;
        };
        let purse = Fields::new(backend).int("purse").unwrap_or_default();
        let said = |name: &str| backend.pointer(&format!("/outcome/{name}"));
        if said("credited").is_some()
            && let Some((seq, amount)) = self.receiving.remove(&purse)
        {
            self.credited.insert((purse, seq), amount);
        }
        if said("paid").is_some()
            && let Some((seq, amount)) = self.paying.remove(&purse)
        {
            self.made.insert((purse, seq), amount);
            // The same money, by another number.
            if self.outstanding.take().is_some()
                && let Some(before) = self.refused.take()
            {
                self.made.remove(&before);
            }
        }
        if said("outstanding").is_some()
            && let Some(refused) = self.refused
            && !self.disowned.contains(&refused)
        {
            self.outstanding = self.cumulative.get(&refused).copied();
        }
        let for_good =
            |failed: &Value| failed.get("fatal").is_some() || failed.get("rejected").is_some();
        if said("failed").is_some_and(for_good) {
            self.outstanding = None;
        }
        if said("reclaimed").is_some()
            && let Some(refused) = self.refused.take()
        {
            self.made.remove(&refused);
            self.said.remove(&refused);
        }
        if let Some(released) = said("released") {
            let refunded: u64 = Fields::new(released).int("refunded").unwrap_or_default();
            self.opened = self.opened.saturating_sub(refunded);
        }
        if let Some(opened) = said("opened") {
            let cost: u64 = Fields::new(opened).int("cost").unwrap_or_default();
            self.opened = self.opened.saturating_add(cost);
        }
    }

    /// What the runner said as the peer.
    fn hear(&mut self, input: &Value, outputs: &[Value]) {
        let bytes = input.get("received").and_then(|hex| unhex(hex.as_str()?));
        match bytes.and_then(|bytes| decode(&bytes).ok()?) {
            Some(Message::RoomRefused(refused)) if refused.code == RoomCode::Unpaid => {
                self.given = self.given.saturating_add(self.max_fee);
                self.max_fee = 0;
            }
            Some(Message::Nack(nack)) if nack.code == RefusalCode::OutOfOrder => {
                self.disowned.insert((nack.purse.0.into(), nack.seq.0));
            }
            Some(Message::Tick(tick)) if tick.tips.is_some() => {
                let mut taken = outputs.iter();
                if taken.any(|output| output.pointer("/backend/receive").is_some()) {
                    self.tips.insert((u64::from(tick.purse.0), tick.seq.0));
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, output: &Value) -> Played {
        let Some(backend) = output.get("backend") else {
            return Ok(());
        };
        let purse: u64 = Fields::new(backend).int("purse").unwrap_or_default();
        let tick = |name: &str| {
            let fields = Fields::new(backend.get(name)?);
            let seq: u64 = fields.int("seq").ok()?;
            Some((seq, fields.int("amount").unwrap_or(0)))
        };
        if let Some((seq, amount)) = tick("receive") {
            if self.credited.contains_key(&(purse, seq)) {
                return Err(format!("tick {seq} is taken a second time"));
            }
            self.receiving.insert(purse, (seq, amount));
        }
        if let Some((seq, amount)) = tick("pay") {
            let pay = backend.get("pay").map(Fields::new);
            let cumulative = pay.and_then(|pay| pay.int("cumulative").ok());
            self.paying(purse, seq, amount, cumulative.unwrap_or_default())?;
        }
        if let Some((seq, _)) = tick("reclaim") {
            (self.refused, self.outstanding) = (Some((purse, seq)), None);
        }
        if let Some(open) = backend.get("open") {
            let budget: u64 = Fields::new(open).int("budget").unwrap_or_default();
            let left = self.budget.saturating_sub(self.opened);
            if budget > left {
                return Err(format!("a purse for {budget} with {left} left"));
            }
        }
        Ok(())
    }

    fn paying(&mut self, purse: u64, seq: u64, amount: u64, cumulative: u64) -> Played {
        if self.made.contains_key(&(purse, seq)) {
            return Err(format!("tick {seq} is paid a second time"));
        }
        let again = |of: (u64, u64)| {
            let next = (of.0, of.1.saturating_add(1));
            self.outstanding == Some(cumulative) && next == (purse, seq)
        };
        let is_again = self.refused.map(again);
        if is_again == Some(false) {
            return Err(format!("tick {seq} is paid while a refused one is out"));
        }
        self.paying.insert(purse, (seq, amount));
        self.cumulative.insert((purse, seq), cumulative);
        if is_again.is_some() {
            return Ok(());
        }
        let out: u64 = self.made.values().sum::<u64>() + amount;
        let prices = [Some(self.tariff), self.next].into_iter().flatten();
        let used = prices.map(|tariff| tariff.price(self.used).msat()).max();
        let used = used.unwrap_or_default();
        // One tick, a lead of a fifth of one, the drift of one tick that is tolerated, and tips.
        let most = used + 2 * TICK + TICK / 5 + self.given;
        if out > most {
            return Err(format!("{out} msat are paid, {used} used"));
        }
        Ok(())
    }

    fn gate(&self, output: &Value) -> Played {
        let Some(limit) = output.pointer("/gate/limit").and_then(as_int) else {
            return Ok(());
        };
        let bought = |(at, amount): (&(u64, u64), &u64)| match self.tips.contains(at) {
            true => 0,
            false => *amount,
        };
        let good: u64 = self.credited.iter().map(bought).sum();
        if limit > good + self.free {
            return Err(format!("the gate is open to {limit} with {good} bought"));
        }
        if !self.bound && self.is_payer {
            return Err("a payer has no gate".into());
        }
        Ok(())
    }

    fn message(&mut self, bytes: &[u8]) -> Played {
        match decode(bytes) {
            Ok(Some(Message::Tick(tick))) => self.tick(&tick),
            Ok(Some(Message::Ack(ack))) => {
                let good: u64 = self.credited.values().sum();
                let said = ack.evidence.receipt.total.msat();
                if said > good {
                    return Err(format!("{said} acknowledged, {good} credited"));
                }
                Ok(())
            }
            Ok(Some(_)) => Ok(()),
            other => Err(format!("it sent what is no message: {other:?}")),
        }
    }

    fn tick(&mut self, tick: &Tick) -> Played {
        let at = (u64::from(tick.purse.0), tick.seq.0);
        let tips = tick.tips.unwrap_or_default().msat();
        if tips > self.given {
            return Err(format!("{tips} msat are given, {} wanted", self.given));
        }
        let sums = [tick.cumulative.msat(), tips];
        let mut bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        bytes.extend_from_slice(&tick.payload);
        let first = self.said.entry(at).or_insert_with(|| bytes.clone());
        if *first != bytes {
            return Err(format!("another payment for tick {}", tick.seq.0));
        }
        if !self.made.contains_key(&at) {
            return Err(format!("tick {} was never made", tick.seq.0));
        }
        Ok(())
    }

    fn state(&self, state: &Value) -> Played {
        let good: u64 = self.credited.values().sum();
        match state.get("credited").and_then(as_int) {
            Some(said) if said > good => Err(format!("it counts {said}, {good} are credited")),
            _ => Ok(()),
        }
    }
}

/// No input may be answered at any length: else a stranger can make a side work for nothing.
fn bounded(outputs: &[Value]) -> Played {
    let sent = outputs
        .iter()
        .filter_map(|output| output.get("send")?.as_str());
    let bytes: usize = sent.map(|hex| hex.len() / 2).sum();
    if outputs.len() > OUTPUTS_MAX || bytes > BYTES_MAX {
        return Err(format!(
            "{} outputs, {bytes} bytes for one input",
            outputs.len()
        ));
    }
    Ok(())
}

/// A backend's answer is durable before anything is said, done or let through for it.
fn durable_first(input: &Value, outputs: &[Value]) -> Played {
    let answered = input.get("backend").is_some();
    let mut durable = false;
    for output in outputs {
        durable |= output.get("persist").is_some();
        let acts = ["send", "effect", "gate"];
        if answered && !durable && acts.iter().any(|act| output.get(act).is_some()) {
            return Err("it acts on an answer before that is durable".into());
        }
    }
    Ok(())
}

/// What a room writes down is durable before anybody hears of it or is sent out.
fn host_durable_first(outputs: &[Value]) -> Played {
    let is = |output: &Value, name: &str| output.get(name).is_some();
    let last = outputs.iter().rposition(|output| is(output, "persist"));
    let mut acts = outputs.iter();
    let first = acts.position(|output| is(output, "tell") || is(output, "close"));
    match (last, first) {
        (Some(last), Some(first)) if first < last => {
            Err("it acts before what it wrote is durable".into())
        }
        _ => Ok(()),
    }
}
