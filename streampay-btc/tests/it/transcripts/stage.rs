//! Both sides of a channel on a simulated chain, each written down step by step.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network, ScriptBuf};
use serde_json::{Value, json};
use streampay_btc::keys::{ChannelSecret, NodeKeys, Seed};
use streampay_btc::machine::ChannelConfig;
use streampay_btc::script::{FundingOutput, OutputType};
use streampay_btc::sim::{Reject, SimChain, sim_config};
use streampay_btc::tx::Contract;
use streampay_core::backend::PurseOffer;
use streampay_core::units::{Msat, XOnlyKey};

use super::json::{bytes, config_json, hex, int, number, offer_json, one, view_json};
use super::side::{Side, purse};

pub(crate) const PAYER: u8 = 1;
pub(crate) const PAYEE: u8 = 2;
pub(crate) const TOWER: u8 = 3;
/// One tick in satoshi.
pub(crate) const STEP: u64 = 500;

/// One side and its steps.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) side: Side,
    pub(crate) steps: Vec<Value>,
    draws: u8,
}

pub(crate) struct Stage {
    pub(crate) chain: SimChain,
    pub(crate) payer: Told,
    pub(crate) payee: Told,
    pub(crate) tower: Told,
    /// The purse that is asked about.
    pub(crate) purse: u32,
    /// Both sides' clock, in seconds.
    pub(crate) time: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Both sides just started, the payee's limits as `change` leaves them.
    pub(crate) fn with(change: impl Fn(&mut ChannelConfig)) -> Self {
        let mut stage = Self {
            chain: SimChain::new(),
            payer: Told::default(),
            payee: Told::default(),
            tower: Told::default(),
            purse: 0,
            time: 0,
        };
        for number in [PAYER, PAYEE] {
            let mut config = sim_config(number);
            if number == PAYEE {
                change(&mut config);
            }
            let keys = NodeKeys::new(&Seed([number; 32]), config.network).unwrap();
            let payer = NodeKeys::new(&Seed([PAYER; 32]), config.network).unwrap();
            let payer = payer.payer(purse(0)).unwrap();
            let secret = match number {
                PAYER => payer.dangerous_bytes(),
                _ => keys
                    .payee(&payer.public(), purse(0))
                    .unwrap()
                    .dangerous_bytes(),
            };
            let role = if number == PAYER { "payer" } else { "payee" };
            let create = json!({"create": {
                "role": role,
                "session": hex(&[7; 32]),
                "seed": hex(&[number; 32]),
                "secret": hex(&secret),
                "config": config_json(&config),
            }});
            stage.tell(number, create);
        }
        stage
    }

    pub(crate) fn told(&mut self, who: u8) -> &mut Told {
        match who {
            PAYER => &mut self.payer,
            PAYEE => &mut self.payee,
            _ => &mut self.tower,
        }
    }

    /// One input; what followed.
    pub(crate) fn tell(&mut self, who: u8, input: Value) -> Vec<Value> {
        self.time += 1;
        let now = json!({
            "mono_ms": int(self.time * 1_000),
            "unix_s": int(1_800_000_000 + self.time),
        });
        let told = self.told(who);
        let (outputs, state) = told.side.step(&now, &input);
        told.steps.push(json!({
            "now": now,
            "input": input,
            "outputs": outputs,
            "state": state,
        }));
        outputs
    }

    /// One input, and every call that follows, until there is none: the last outcome.
    pub(crate) fn run(&mut self, who: u8, input: Value) -> Option<Value> {
        let mut outcome = None;
        let mut outputs = self.tell(who, input);
        let mut calls = Vec::new();
        loop {
            for output in &outputs {
                match one(output) {
                    ("outcome", of) => outcome = Some(of.clone()),
                    ("call", call) => calls.push(call.clone()),
                    _ => {}
                }
            }
            if calls.is_empty() {
                return outcome;
            }
            let call = self.call(who, &calls.remove(0));
            outputs = self.tell(
                who,
                json!({"done": {"purse": int(self.purse), "call": call}}),
            );
        }
    }

    /// Does what a side calls for.
    fn call(&mut self, who: u8, call: &Value) -> Value {
        let (name, of) = one(call);
        let ended = match name {
            "look" => {
                self.look(who);
                json!({})
            }
            "draw" => {
                let told = self.told(who);
                told.draws += 1;
                json!({"entropy": hex(&[who << 4 | told.draws; 32])})
            }
            _ => {
                let script = ScriptBuf::from_bytes(bytes(&of["script"]));
                let value = Amount::from_sat(number(&of["value"]));
                let known = self.chain.outputs_to(&script, value, number(&of["since"]));
                let outpoint = match (known.first(), name) {
                    (Some(known), _) => Some(*known),
                    (None, "fund") => Some(self.chain.pay(&script, value).unwrap()),
                    (None, _) => None,
                };
                outpoint.map_or_else(
                    || json!({}),
                    |outpoint| {
                        json!({
                            "txid": hex(outpoint.txid.as_byte_array()),
                            "vout": int(outpoint.vout),
                            "fee": int(0_u64),
                        })
                    },
                )
            }
        };
        let mut call = json!({});
        call[name] = ended;
        call
    }

    /// Shows a side the chain, and hands what it broadcasts to it.
    pub(crate) fn look(&mut self, who: u8) -> Vec<Value> {
        let asked = self.told(who).side.asked();
        let view = self.chain.look(&asked).unwrap();
        let outputs = self.tell(who, json!({"view": view_json(&view)}));
        for output in &outputs {
            let tx = |tx: &Value| deserialize_hex(tx.as_str().unwrap()).unwrap();
            match one(output) {
                ("broadcast", of) => match self.chain.submit(tx(of)) {
                    // A funding by itself, below what is relayed.
                    Ok(()) | Err(Reject::Fee) => {}
                    Err(reject) => panic!("{reject}"),
                },
                ("package", of) => {
                    let package: Vec<_> = of.as_array().unwrap().iter().map(tx).collect();
                    self.chain.submit_package(&package).unwrap();
                }
                _ => {}
            }
        }
        outputs
    }

    pub(crate) fn mine(&mut self, blocks: u32, who: &[u8]) {
        for _ in 0..blocks {
            self.chain.mine(1);
            for who in who {
                self.look(*who);
            }
        }
    }

    pub(crate) fn restart(&mut self, who: u8) {
        self.run(who, json!({"restart": {}}));
    }

    pub(crate) fn ask(&mut self, who: u8, ask: Value) -> Option<Value> {
        self.run(
            who,
            json!({"request": {"purse": int(self.purse), "ask": ask}}),
        )
    }

    pub(crate) fn offer(&self) -> Value {
        let machine = self.payee.side.machine.as_ref().unwrap();
        offer_json(&PurseOffer {
            params: machine
                .params(streampay_core::units::Now::default())
                .unwrap()
                .encode(),
            tick: Msat::from_sat(STEP).unwrap(),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        })
    }

    /// The payer has the channel funded, and a block takes it: the opening.
    pub(crate) fn opened(&mut self) -> Value {
        self.opened_after(1)
    }

    /// The same with so many blocks in between.
    pub(crate) fn opened_after(&mut self, blocks: u32) -> Value {
        let mut open = self.offer();
        open["capacity"] = int(40_000_000_u64);
        open["budget"] = int(60_000_000_u64);
        let open = json!({"open": open});
        self.ask(PAYER, open.clone());
        self.chain.mine(blocks);
        let outcome = self.ask(PAYER, open).unwrap();
        outcome["opened"]["opening"].clone()
    }

    pub(crate) fn accept(&mut self, opening: &Value) -> Value {
        let mut accept = self.offer();
        accept["opening"] = opening.clone();
        self.ask(PAYEE, json!({"accept": accept})).unwrap()
    }

    /// The channel that is asked about, and the payer's key of it.
    pub(crate) fn contract(&self) -> (Contract, ChannelSecret) {
        let keys = |number: u8| NodeKeys::new(&Seed([number; 32]), Network::Regtest).unwrap();
        let (key, machine) = (purse(self.purse), self.payer.side.machine.as_ref().unwrap());
        let report = machine
            .report()
            .into_iter()
            .find(|of| of.purse == key)
            .unwrap();
        let payer = keys(PAYER).payer(key).unwrap();
        let payee = keys(PAYEE).payee(&payer.public(), key).unwrap().public();
        let kind = OutputType::Taproot;
        let output = FundingOutput::new(kind, payer.public(), payee, report.expiry).unwrap();
        let (place, home) = (report.outpoint.unwrap(), sim_config(PAYER).payer.home);
        let network = Network::Regtest;
        let contract = Contract::new(network, output, place, report.value, report.reserve, home);
        (contract.unwrap(), payer)
    }

    /// A channel that both sides use.
    pub(crate) fn ready(&mut self) {
        let opening = self.opened();
        let accepted = self.accept(&opening);
        assert!(accepted.get("accepted").is_some(), "{accepted}");
    }

    pub(crate) fn pay(&mut self, seq: u64) -> Value {
        let paid = self.ask(PAYER, json!({"pay": tick(seq)})).unwrap();
        assert!(paid.get("paid").is_some(), "{paid}");
        paid["paid"]["payload"].clone()
    }

    pub(crate) fn receive(&mut self, seq: u64, payload: &Value) -> Value {
        let mut of = tick(seq);
        of["payload"] = payload.clone();
        self.ask(PAYEE, json!({"receive": of})).unwrap()
    }

    pub(crate) fn ticks(&mut self, seqs: impl Iterator<Item = u64>) {
        for seq in seqs {
            let payload = self.pay(seq);
            let credited = self.receive(seq, &payload);
            assert!(credited.get("credited").is_some(), "{credited}");
        }
    }

    /// The note that a side showed last.
    pub(crate) fn note(&mut self, who: u8) -> Value {
        let steps = self.told(who).steps.iter().rev();
        let mut outputs = steps.flat_map(|step| step["outputs"].as_array().unwrap());
        let note = outputs.find_map(|output| output.get("note"));
        note.unwrap().clone()
    }
}

/// The tick of that number, as both sides name it.
pub(crate) fn tick(seq: u64) -> Value {
    json!({
        "seq": int(seq),
        "amount": int(STEP * 1_000),
        "cumulative": int(seq * STEP * 1_000),
    })
}
