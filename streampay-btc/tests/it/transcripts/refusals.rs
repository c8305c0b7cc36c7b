//! What MUST NOT be taken: openings, ticks, and proposals to close together.

use bitcoin::{Amount, FeeRate, ScriptBuf};
use serde_json::{Value, json};
use streampay_core::backend::RefusalCode;

use super::Scene;
use super::json::{bytes, hex, int};
use super::scenes::show;
use super::stage::{PAYEE, PAYER, STEP, Stage, tick};
use crate::must_fail;

const PAYEE_ALONE: &[&str] = &["payee"];

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "ticks-refused",
        about: "MUST-FAIL: wrong amounts, a change of dust, order, sighash types, signatures, an annex; then the good one.",
        roles: PAYEE_ALONE,
        play: ticks_refused,
    },
    Scene {
        name: "openings-refused",
        about: "MUST-FAIL: openings that differ in one thing; then the good one.",
        roles: PAYEE_ALONE,
        play: openings_refused,
    },
    Scene {
        name: "funding-unconfirmed",
        about: "MUST-FAIL: a funding that waits for a block; one that nobody sent; then in a block.",
        roles: PAYEE_ALONE,
        play: funding_unconfirmed,
    },
    Scene {
        name: "funding-other-value",
        about: "MUST-FAIL: the output pays a satoshi less than the opening says.",
        roles: PAYEE_ALONE,
        play: || funding_differs(|_, value| (None, value - 1)),
    },
    Scene {
        name: "funding-other-script",
        about: "MUST-FAIL: the output pays to another script than the opening's.",
        roles: PAYEE_ALONE,
        play: || {
            let other = |number| Some(streampay_btc::sim::home(number));
            funding_differs(move |_, value| (other(9), value))
        },
    },
    Scene {
        name: "funding-spent",
        about: "MUST-FAIL: the output is spent already.",
        roles: PAYEE_ALONE,
        play: funding_spent,
    },
    Scene {
        name: "too-dear",
        about: "MUST-FAIL: closing would cost more than reserve and a third of what is due.",
        roles: PAYEE_ALONE,
        play: too_dear,
    },
    Scene {
        name: "proposals-refused",
        about: "MUST-FAIL: proposals that pay the payer less than its updates, or that cannot be; then the good one.",
        roles: &["payer"],
        play: proposals_refused,
    },
];

fn refused(outcome: &Value) {
    assert!(outcome.get("failed").is_some(), "{outcome}");
}

fn refused_as(outcome: &Value, code: RefusalCode) {
    let said = outcome.pointer("/failed/rejected/code");
    assert_eq!(said, Some(&int(code.code())), "{outcome}");
}

fn ticks_refused() -> Stage {
    use RefusalCode::{BadProof, Malformed, OutOfOrder, PurseEmpty, WrongAmount, WrongLock};
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=2);
    let good = stage.pay(3);
    let other = stage.pay(4);
    let receive = |stage: &mut Stage, of: Value, code: RefusalCode| {
        refused_as(&stage.ask(PAYEE, json!({"receive": of})).unwrap(), code);
    };
    let with = |name: &str, value: Value| {
        let mut of = tick(3);
        of["payload"] = good.clone();
        of[name] = value;
        of
    };
    let payload = |bytes: &[u8]| with("payload", hex(bytes));
    let cumulative = |sat: u64| with("cumulative", int(sat * 1_000));
    receive(&mut stage, cumulative(STEP), OutOfOrder);
    receive(&mut stage, cumulative(3 * STEP + 1), BadProof);
    receive(&mut stage, cumulative(10_000_000), PurseEmpty);
    let part = with("cumulative", int(3 * STEP * 1_000 + 1));
    receive(&mut stage, part, WrongAmount);
    receive(&mut stage, with("amount", int(0_u64)), WrongAmount);
    let (contract, payer) = stage.contract();
    let (dust, credit) = (
        contract.dust().to_sat(),
        contract.value() - contract.reserve(),
    );
    for change in [1, dust - 1] {
        let of = cumulative(credit.to_sat() - change);
        receive(&mut stage, of, WrongAmount);
    }
    receive(&mut stage, with("payload", other), BadProof);
    receive(&mut stage, payload(&[]), Malformed);
    receive(&mut stage, payload(&[7; 74]), Malformed);
    let raw = bytes(&good);
    receive(&mut stage, payload(&raw[..64]), Malformed);
    for kind in [0x00, 0x01, 0x02, 0x03, 0x81, 0x82] {
        let mut raw = raw.clone();
        raw[64] = kind;
        receive(&mut stage, payload(&raw), WrongLock);
    }
    for at in [0, 31, 32, 63] {
        let mut raw = raw.clone();
        raw[at] ^= 1;
        receive(&mut stage, payload(&raw), BadProof);
    }
    let paid = Amount::from_sat(3 * STEP) + contract.reserve();
    let annex = must_fail::over_an_annex(&contract, &payer, paid);
    assert_eq!((annex.len(), annex[64]), (65, raw[64]), "as a good one");
    receive(&mut stage, payload(&annex), BadProof);
    assert!(stage.receive(3, &good).get("credited").is_some());
    stage.ask(PAYEE, json!({"settle": {}}));
    // Closed: no tick any more, though it is a good one.
    let late = stage.pay(5);
    refused_as(&stage.receive(5, &late), PurseEmpty);
    stage
}

fn openings_refused() -> Stage {
    let mut stage = Stage::new();
    let good = stage.opened();
    let raw = bytes(&good);
    // One bit anywhere; nothing; a byte more; one less.
    let mut cases: Vec<Vec<u8>> = (0..raw.len())
        .step_by(7)
        .map(|at| {
            let mut raw = raw.clone();
            raw[at] ^= 1;
            raw
        })
        .collect();
    cases.push(Vec::new());
    cases.push([raw.as_slice(), &[0]].concat());
    cases.push(raw[..raw.len() - 1].to_vec());
    // An output index beyond what nodes read as a number.
    let txid = raw.windows(3).position(|key| key == [0x0a, 0x58, 0x20]);
    let index = txid.unwrap() + 3 + 32;
    assert_eq!(raw[index..index + 2], [0x0c, 0x00]);
    for high in [0x8000_0000_u32, u32::MAX] {
        let number = [&[0x1a], high.to_be_bytes().as_slice()].concat();
        cases.push([&raw[..=index], number.as_slice(), &raw[index + 2..]].concat());
    }
    for case in cases {
        let outcome = stage.accept(&hex(&case));
        refused(&outcome);
    }
    assert!(stage.accept(&good).get("accepted").is_some());
    stage
}

fn funding_unconfirmed() -> Stage {
    let mut stage = Stage::new();
    let opening = stage.opened();
    let funding = stage.chain.transactions();
    let channel = funding.iter().find(|(tx, _)| !tx.is_coinbase()).unwrap();
    let txid = channel.0.compute_txid();
    stage.chain.reorganise(1, &[]);
    refused(&stage.accept(&opening));
    let (tx, _) = stage.chain.transaction(txid).unwrap();
    stage.chain.reorganise(1, &[txid]);
    refused(&stage.accept(&opening));
    stage.chain.submit(tx).unwrap();
    refused(&stage.accept(&opening));
    stage.chain.mine(1);
    assert!(stage.accept(&opening).get("accepted").is_some());
    stage
}

/// The payer's funding is another than its opening says: the chain as the payee sees it is.
fn funding_differs(change: impl Fn(&ScriptBuf, u64) -> (Option<ScriptBuf>, u64)) -> Stage {
    let mut stage = Stage::new();
    let opening = stage.opened();
    let mut accept = stage.offer();
    accept["opening"] = opening;
    let accept = json!({"request": {"purse": int(0_u64), "ask": {"accept": accept}}});
    stage.tell(PAYEE, accept);
    let watched = stage.payee.side.asked();
    let mut view = stage.chain.look(&watched).unwrap();
    let seen = view.outputs[0].seen.as_mut().unwrap();
    let value = seen.output.value.to_sat();
    let (script, value) = change(&seen.output.script_pubkey, value);
    seen.output.value = Amount::from_sat(value);
    if let Some(script) = script {
        seen.output.script_pubkey = script;
    }
    let view = super::json::view_json(&view);
    stage.tell(PAYEE, json!({"view": view}));
    let done = json!({"done": {"purse": int(0_u64), "call": {"look": {}}}});
    let outputs = stage.tell(PAYEE, done);
    let outcome = outputs.iter().find_map(|output| output.get("outcome"));
    refused(outcome.unwrap());
    stage
}

fn funding_spent() -> Stage {
    let mut stage = Stage::new();
    let opening = stage.opened();
    let expiry: u32 = super::json::number(&stage.payer.steps.last().unwrap()["state"][0]["expiry"]);
    stage.chain.mine(expiry - stage.chain.tip());
    stage.look(PAYER);
    stage.chain.mine(1);
    refused(&stage.accept(&opening));
    stage
}

fn too_dear() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    let payload = stage.pay(1);
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(100));
    stage.look(PAYEE);
    refused(&stage.receive(1, &payload));
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    stage.look(PAYEE);
    assert!(stage.receive(1, &payload).get("credited").is_some());
    stage
}

fn proposals_refused() -> Stage {
    let mut stage = Stage::with(|config| config.payee.mutual_ms = 10_000);
    stage.ready();
    stage.ticks(1..=10);
    stage.ask(PAYEE, json!({"settle": {}}));
    stage.ask(PAYER, json!({"release": {}}));
    let good = stage.note(PAYEE);
    for (_, bad) in crate::mutual_vectors::unfair_proposals(&bytes(&good)) {
        show(&mut stage, PAYER, &hex(&bad));
    }
    show(&mut stage, PAYER, &good);
    let _ = stage.note(PAYER);
    stage
}
