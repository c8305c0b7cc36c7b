//! What a scene is made of: openings, ticks, the end.

use serde_json::Value;
use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::transcript::Mint;
use streampay_cashu::{AcceptedMint, LockedParams, SwapMachine, SwapParams};

use super::{ROOT, TICK, Who, World, key_error};
use crate::json::{Fields, Object};
use crate::peer::Played;
use crate::people::key;

impl World {
    /// What the payee's terms say of the method, at this price.
    fn params(&self, price: u64) -> Played<Vec<u8>> {
        let say = |error: streampay_cashu::ParamsError| error.to_string();
        let mint = AcceptedMint::sat(Mint::URL).map_err(say)?;
        let mut mint = mint.with_price_permille(price).map_err(say)?;
        if let Some(most) = self.cast.most {
            mint = mint.with_purse_max(most).map_err(say)?;
        }
        if self.cast.method == SwapMachine::METHOD {
            return Ok(SwapParams::new(vec![mint]).map_err(say)?.encode().to_vec());
        }
        let root = ReceiverKey::from_bytes(&ROOT).ok_or("a fixed key is none")?;
        let params = LockedParams::new(vec![mint], root.public()).map_err(say)?;
        Ok(params.encode().to_vec())
    }

    fn offer(&self, price: u64) -> Played<Object> {
        let public = |name| key(name).map(|key| key.public().0).map_err(key_error);
        Ok(Object::new()
            .hex("params", &self.params(price)?)
            .int("tick", TICK * 1_000)
            .hex("payer_key", &public("payer-session")?)
            .hex("payee_key", &public("payee-session")?))
    }

    /// The payer opens a purse. Gives the opening.
    pub(in crate::transcripts::cashu) fn open(&mut self, purse: u32) -> Played<String> {
        self.ask_open(purse, None)?;
        self.run(Who::Payer)?;
        let opened = self.outcome(Who::Payer, "opened")?;
        let opening = Fields::new(&opened).text("opening");
        opening.map(Into::into).map_err(|bad| bad.to_string())
    }

    pub(in crate::transcripts::cashu) fn ask_open(
        &mut self,
        purse: u32,
        take: Option<u64>,
    ) -> Played {
        let offer = self.offer(self.cast.price)?;
        let open = offer
            .int("capacity", 100_000_u64)
            .int("budget", 150_000_u64);
        self.ask_taking(Who::Payer, purse, ("open", open), take)
    }

    /// The payee is shown an opening, by terms of this price.
    pub(in crate::transcripts::cashu) fn ask_accept(
        &mut self,
        purse: u32,
        opening: &str,
        price: u64,
    ) -> Played {
        let accept = self.offer(price)?.with("opening", opening);
        self.ask(Who::Payee, purse, "accept", accept)
    }

    /// A purse is opened and accepted.
    pub(in crate::transcripts::cashu) fn opened(&mut self, purse: u32) -> Played {
        let opening = self.open(purse)?;
        self.ask_accept(purse, &opening, self.cast.price)?;
        self.run(Who::Payee)?;
        self.outcome(Who::Payee, "accepted").map(|_| ())
    }

    /// The payer pays up to this step. Gives the payload.
    pub(in crate::transcripts::cashu) fn pay(
        &mut self,
        purse: u32,
        seq: u64,
        step: u64,
    ) -> Played<String> {
        self.ask_pay(purse, seq, step)?;
        self.run(Who::Payer)?;
        let paid = self.outcome(Who::Payer, "paid")?;
        let payload = Fields::new(&paid).text("payload");
        payload.map(Into::into).map_err(|bad| bad.to_string())
    }

    pub(in crate::transcripts::cashu) fn ask_pay(
        &mut self,
        purse: u32,
        seq: u64,
        step: u64,
    ) -> Played {
        self.ask(Who::Payer, purse, "pay", ticks(seq, 1, step))
    }

    /// The payee is shown a payload that pays `steps` more, up to `step`.
    pub(in crate::transcripts::cashu) fn receive(
        &mut self,
        purse: u32,
        (seq, steps, step): (u64, u64, u64),
        payload: &str,
    ) -> Played {
        let receive = ticks(seq, steps, step).with("payload", payload);
        self.ask(Who::Payee, purse, "receive", receive)?;
        self.run(Who::Payee)
    }

    pub(in crate::transcripts::cashu) fn acked(
        &mut self,
        purse: u32,
        (seq, step): (u64, u64),
    ) -> Played {
        let acked = Object::new().int("seq", seq);
        let acked = acked.int("cumulative", step.saturating_mul(TICK * 1_000));
        self.ask(Who::Payer, purse, "acked", acked)
    }

    /// A tick is paid, credited and acknowledged.
    pub(in crate::transcripts::cashu) fn tick(
        &mut self,
        purse: u32,
        seq: u64,
        step: u64,
    ) -> Played {
        let payload = self.pay(purse, seq, step)?;
        self.receive(purse, (seq, 1, step), &payload)?;
        self.outcome(Who::Payee, "credited")?;
        self.acked(purse, (seq, step))
    }

    /// The payee settles a purse. Gives what it earned.
    pub(in crate::transcripts::cashu) fn settle(&mut self, purse: u32) -> Played<u64> {
        self.ask(Who::Payee, purse, "settle", Object::new())?;
        self.run(Who::Payee)?;
        amount(&self.outcome(Who::Payee, "settled")?, "settled")
    }

    /// The payer is shown what the payee left for it.
    pub(in crate::transcripts::cashu) fn hand_over(&mut self, purse: u32) -> Played {
        let notes = self.notes(Who::Payee);
        let (_, note) = (notes.into_iter().find(|(of, _)| *of == purse))
            .ok_or("the payee must sign the rest over")?;
        let note = Object::new().hex("bytes", &note);
        self.ask(Who::Payer, purse, "note", note)?;
        self.run(Who::Payer)
    }

    /// The payer brings home what is its own. Gives how much that was.
    pub(in crate::transcripts::cashu) fn release(&mut self, purse: u32) -> Played<u64> {
        self.ask(Who::Payer, purse, "release", Object::new())?;
        self.run(Who::Payer)?;
        amount(&self.outcome(Who::Payer, "released")?, "refunded")
    }
}

fn amount(value: &Value, key: &str) -> Played<u64> {
    let sum: Result<u64, _> = Fields::new(value).int(key);
    sum.map(|msat| msat / 1_000).map_err(|bad| bad.to_string())
}

fn ticks(seq: u64, steps: u64, step: u64) -> Object {
    Object::new()
        .int("seq", seq)
        .int("amount", steps * TICK * 1_000)
        .int("cumulative", step * TICK * 1_000)
}
