//! What must hold whatever the peer does.

use std::collections::BTreeMap;

use serde_json::Value;
use streampay_core::wire::{Message, Tick, decode};

use super::Played;
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
    /// Payee: preview and window, in millisatoshi.
    pub free: u64,
    /// Payer: the most that it may spend, in millisatoshi.
    pub budget: u64,
    /// Payer: the price of 10 s that both agreed to last, where it is not that of the first terms.
    pub price: Option<u64>,
    bound: bool,
    /// Payee: what its backend said is good, by purse and tick.
    credited: BTreeMap<(u64, u64), u64>,
    receiving: BTreeMap<u64, (u64, u64)>,
    /// Payer: the payments made, by purse and tick; what each said on the wire.
    made: BTreeMap<(u64, u64), u64>,
    paying: BTreeMap<u64, (u64, u64)>,
    said: BTreeMap<(u64, u64), Vec<u8>>,
    refused: Option<(u64, u64)>,
    used_ms: u64,
    opened: u64,
}

impl Judge {
    /// A refused payment was acknowledged after all.
    pub const fn forgive(&mut self) {
        self.refused = None;
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
        bounded(outputs)?;
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
        if let Some(ms) = input.pointer("/usage/media_ms").and_then(as_int) {
            self.used_ms = self.used_ms.max(ms);
        }
        // What is lost by consent is no longer at stake.
        if input.pointer("/command/write_off").is_some()
            && let Some(lost) = self.refused.take()
        {
            self.made.remove(&lost);
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
        }
        if said("reclaimed").is_some()
            && let Some(refused) = self.refused.take()
        {
            self.made.remove(&refused);
            self.said.remove(&refused);
        }
        if let Some(opened) = said("opened") {
            let cost: u64 = Fields::new(opened).int("cost").unwrap_or_default();
            self.opened = self.opened.saturating_add(cost);
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
            self.paying(purse, seq, amount)?;
        }
        if let Some((seq, _)) = tick("reclaim") {
            self.refused = Some((purse, seq));
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

    fn paying(&mut self, purse: u64, seq: u64, amount: u64) -> Played {
        if self.made.contains_key(&(purse, seq)) {
            return Err(format!("tick {seq} is paid a second time"));
        }
        if self.refused.is_some() {
            return Err(format!("tick {seq} is paid while a refused one is out"));
        }
        self.paying.insert(purse, (seq, amount));
        let out: u64 = self.made.values().sum::<u64>() + amount;
        let price = self.price.unwrap_or(TICK).max(TICK);
        let used = self.used_ms * price / 10_000;
        // One tick, a lead of a fifth of one, and the drift of one tick that is tolerated.
        let most = used + 2 * TICK + TICK / 5;
        if out > most {
            return Err(format!("{out} msat are paid, {used} used"));
        }
        Ok(())
    }

    fn gate(&self, output: &Value) -> Played {
        let Some(limit) = output.pointer("/gate/limit").and_then(as_int) else {
            return Ok(());
        };
        let good: u64 = self.credited.values().sum();
        if limit > good + self.free {
            return Err(format!("the gate is open to {limit} with {good} credited"));
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
        let bytes = [&tick.cumulative.msat().to_be_bytes()[..], &tick.payload].concat();
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
