//! Channels that go as they should, and those in which something is lost on the way.

use bitcoin::{Amount, FeeRate};
use serde_json::{Value, json};

use super::Scene;
use super::json::{bytes, coin_json, hex, int, number, outpoint};
use super::stage::{PAYEE, PAYER, STEP, Stage};

const BOTH: &[&str] = &["payer", "payee"];
const WINDOW_MS: u64 = 10_000;

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "open-tick-close",
        about: "A channel is funded, accepted, paid from, and closed by the payee alone.",
        roles: BOTH,
        play: open_tick_close,
    },
    Scene {
        name: "fully-spent",
        about: "The last tick leaves no change: its signature is over no output.",
        roles: BOTH,
        play: fully_spent,
    },
    Scene {
        name: "terms-of-a-cheaper-day",
        about: "Fees rose since the terms: the payer puts more reserve into the channel than they ask.",
        roles: BOTH,
        play: terms_of_a_cheaper_day,
    },
    Scene {
        name: "refund",
        about: "The payee is never seen again: nothing at T - 1, the refund at T, bumped until it is buried.",
        roles: &["payer"],
        play: refund,
    },
    Scene {
        name: "paid-besides",
        about: "The address is paid to twice, and another value too: that is told, and refunded after T.",
        roles: &["payer"],
        play: paid_besides,
    },
    Scene {
        name: "mutual-close",
        about: "Both close together; the unused reserve comes back.",
        roles: BOTH,
        play: mutual_close,
    },
    Scene {
        name: "mutual-proposal-lost",
        about: "The proposal never arrives: after its window the payee closes alone.",
        roles: BOTH,
        play: proposal_lost,
    },
    Scene {
        name: "mutual-part-lost",
        about: "The payer's part never arrives: after its window the payee closes alone.",
        roles: BOTH,
        play: part_lost,
    },
    Scene {
        name: "mutual-part-false",
        about: "The payer's part does not verify: the payee closes alone at once.",
        roles: &["payee"],
        play: part_false,
    },
    Scene {
        name: "mutual-not-mined",
        about: "No block takes the mutual close: the other one replaces it.",
        roles: &["payee"],
        play: not_mined,
    },
    Scene {
        name: "funding-reorganised",
        about: "The funding's block is gone: no tick until it is deep enough again.",
        roles: BOTH,
        play: funding_reorganised,
    },
    Scene {
        name: "close-reorganised",
        about: "The close's block is gone and the close with it: it is broadcast again.",
        roles: &["payee"],
        play: close_reorganised,
    },
    Scene {
        name: "restarts",
        about: "Each side dies after every step and comes back from its disk.",
        roles: BOTH,
        play: restarts,
    },
    Scene {
        name: "bumped",
        about: "Fees rise while the close waits: it is replaced within what it may cost, then stated as short.",
        roles: &["payee"],
        play: bumped,
    },
    Scene {
        name: "margin",
        about: "Nobody says a word: the payee closes when its margin comes, and takes no tick in it.",
        roles: BOTH,
        play: margin,
    },
];

pub(crate) fn settle(stage: &mut Stage) {
    stage.ask(PAYEE, json!({"settle": {}}));
    stage.ask(PAYER, json!({"release": {}}));
}

/// Six blocks and one, seen by both, and what both say then.
fn bury(stage: &mut Stage) {
    stage.mine(7, &[PAYEE, PAYER]);
    let settled = stage.ask(PAYEE, json!({"settle": {}})).unwrap();
    assert!(settled.get("settled").is_some(), "{settled}");
    let released = stage.ask(PAYER, json!({"release": {}})).unwrap();
    assert!(released.get("released").is_some(), "{released}");
}

fn open_tick_close() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=2);
    // An ack was lost: the same again is the same.
    let again = stage.pay(2);
    assert!(stage.receive(2, &again).get("credited").is_some());
    // Two ticks were lost: the third brings all of it.
    stage.pay(3);
    stage.pay(4);
    stage.ticks(5..=5);
    settle(&mut stage);
    bury(&mut stage);
    stage
}

fn fully_spent() -> Stage {
    let mut stage = Stage::new();
    let mut open = stage.offer();
    // Two ticks, the reserve, and what is set aside for the fee of the funding.
    let value = 2 * STEP * 1_000 + 1_000_000;
    let fee = 10_000_000;
    open["capacity"] = json!((value + fee).to_string());
    open["budget"] = json!((value + fee).to_string());
    let open = json!({"open": open});
    stage.ask(PAYER, open.clone());
    stage.chain.mine(1);
    let opened = stage.ask(PAYER, open).unwrap();
    let opening = opened["opened"]["opening"].clone();
    assert!(stage.accept(&opening).get("accepted").is_some());
    let capacity: u64 = number(&opened["opened"]["capacity"]);
    stage.ticks(1..=capacity / (STEP * 1_000));
    settle(&mut stage);
    bury(&mut stage);
    stage
}

fn terms_of_a_cheaper_day() -> Stage {
    let mut stage = Stage::new();
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(20));
    stage.ready();
    stage.ticks(1..=2);
    settle(&mut stage);
    bury(&mut stage);
    stage
}

fn refund() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=1);
    stage.ask(PAYER, json!({"release": {}}));
    let expiry = expiry(&stage);
    stage.chain.mine(expiry - 1 - stage.chain.tip());
    stage.look(PAYER);
    assert!(stage.chain.waiting().is_empty(), "nothing at T - 1");
    stage.mine(1, &[PAYER]);
    assert_eq!(stage.chain.waiting().len(), 1);
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(5));
    stage.mine(1, &[PAYER]);
    stage.restart(PAYER);
    stage.mine(7, &[PAYER]);
    let released = stage.ask(PAYER, json!({"release": {}})).unwrap();
    assert!(released.get("released").is_some(), "{released}");
    stage
}

fn paid_besides() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=1);
    let of = stage
        .payer
        .side
        .machine
        .as_ref()
        .unwrap()
        .report()
        .remove(0);
    let script = of.address.unwrap().script_pubkey();
    stage.chain.pay(&script, of.value).unwrap();
    let less = of.value - Amount::from_sat(1_000);
    stage.chain.pay(&script, less).unwrap();
    stage.mine(1, &[PAYER]);
    let coins = stage.chain.coins_to(&script, stage.chain.tip());
    let outputs: Vec<Value> = coins.iter().map(coin_json).collect();
    let besides = json!({"besides": {"purse": int(0), "outputs": outputs}});
    assert_eq!(stage.tell(PAYER, besides.clone()).len(), 3);
    assert!(stage.tell(PAYER, besides).is_empty(), "known");
    settle(&mut stage);
    bury(&mut stage);
    stage.restart(PAYER);
    let expiry = expiry(&stage);
    stage.chain.mine(expiry - 1 - stage.chain.tip());
    stage.look(PAYER);
    assert!(stage.chain.waiting().is_empty(), "nothing at T - 1");
    stage.mine(8, &[PAYER]);
    let of = stage
        .payer
        .side
        .machine
        .as_ref()
        .unwrap()
        .report()
        .remove(0);
    assert_eq!(of.besides_open(), Amount::ZERO);
    stage
}

fn expiry(stage: &Stage) -> u32 {
    let steps = stage.payer.steps.last().unwrap();
    number(&steps["state"][0]["expiry"])
}

/// A channel with ten ticks whose payee is asked to settle with its payer there.
pub(crate) fn settling() -> Stage {
    let mut stage = Stage::with(|config| config.payee.mutual_ms = WINDOW_MS);
    stage.ready();
    stage.ticks(1..=10);
    settle(&mut stage);
    stage
}

pub(crate) fn show(stage: &mut Stage, who: u8, note: &Value) {
    stage.ask(who, json!({"note": {"bytes": note}}));
}

pub(crate) fn propose(stage: &mut Stage) {
    let note = stage.note(PAYEE);
    show(stage, PAYER, &note);
}

fn over(stage: &mut Stage) {
    stage.time += WINDOW_MS / 1_000;
    stage.look(PAYEE);
}

fn mutual_close() -> Stage {
    let mut stage = settling();
    propose(&mut stage);
    let part = stage.note(PAYER);
    show(&mut stage, PAYEE, &part);
    assert_eq!(stage.chain.waiting()[0].input[0].witness.len(), 1);
    bury(&mut stage);
    stage
}

fn proposal_lost() -> Stage {
    let mut stage = settling();
    stage.look(PAYEE);
    assert!(stage.chain.waiting().is_empty(), "it waits");
    over(&mut stage);
    bury(&mut stage);
    stage
}

fn part_lost() -> Stage {
    let mut stage = settling();
    propose(&mut stage);
    over(&mut stage);
    bury(&mut stage);
    stage
}

fn part_false() -> Stage {
    let mut stage = settling();
    propose(&mut stage);
    let mut part = bytes(&stage.note(PAYER));
    *part.last_mut().unwrap() ^= 1;
    show(&mut stage, PAYEE, &hex(&part));
    stage.look(PAYEE);
    assert_eq!(stage.chain.waiting()[0].input[0].witness.len(), 4);
    bury(&mut stage);
    stage
}

fn not_mined() -> Stage {
    let mut stage = settling();
    propose(&mut stage);
    let part = stage.note(PAYER);
    show(&mut stage, PAYEE, &part);
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(5));
    stage.mine(1, &[PAYEE]);
    assert_eq!(stage.chain.waiting()[0].input[0].witness.len(), 4);
    bury(&mut stage);
    stage
}

fn funding_reorganised() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=1);
    let late = stage.pay(2);
    stage.chain.reorganise(1, &[]);
    stage.look(PAYEE);
    stage.look(PAYER);
    let refused = stage.receive(2, &late);
    assert_eq!(refused, json!({"failed": {"transient": {}}}));
    let refused = stage.ask(PAYER, json!({"pay": super::stage::tick(3)}));
    assert_eq!(refused.unwrap(), json!({"failed": {"transient": {}}}));
    stage.mine(1, &[PAYEE, PAYER]);
    assert!(stage.receive(2, &late).get("credited").is_some());
    stage.ticks(3..=3);
    // It never comes back.
    let steps = stage.payee.steps.iter().rev();
    let mut views = steps.filter_map(|step| step["input"].get("view"));
    let funding = outpoint(&views.next().unwrap()["outputs"][0]);
    let depth = stage.chain.tip() - 900_000;
    stage.chain.reorganise(depth, &[funding.txid]);
    stage.look(PAYEE);
    stage.look(PAYER);
    stage
}

fn close_reorganised() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=3);
    settle(&mut stage);
    let close = stage.chain.waiting()[0].compute_txid();
    stage.mine(3, &[PAYEE]);
    stage.chain.reorganise(3, &[close]);
    stage.restart(PAYEE);
    assert_eq!(stage.chain.waiting().len(), 1, "again");
    bury(&mut stage);
    stage
}

fn restarts() -> Stage {
    let mut stage = Stage::new();
    let opening = stage.opened();
    stage.restart(PAYER);
    assert!(stage.accept(&opening).get("accepted").is_some());
    stage.restart(PAYEE);
    assert!(stage.accept(&opening).get("accepted").is_some());
    for seq in 1..=3 {
        let payload = stage.pay(seq);
        stage.restart(PAYER);
        assert_eq!(stage.pay(seq), payload, "the same again");
        assert!(stage.receive(seq, &payload).get("credited").is_some());
        stage.restart(PAYEE);
        assert!(stage.receive(seq, &payload).get("credited").is_some());
    }
    settle(&mut stage);
    stage.restart(PAYEE);
    stage.restart(PAYER);
    let late = stage.ask(PAYER, json!({"pay": super::stage::tick(4)}));
    assert!(late.unwrap().get("failed").is_some(), "no tick any more");
    bury(&mut stage);
    stage
}

fn bumped() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=50);
    settle(&mut stage);
    for sat_vb in [20, 40, 400] {
        stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        stage.mine(1, &[PAYEE]);
        assert_eq!(stage.chain.waiting().len(), 1);
    }
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(10));
    bury(&mut stage);
    stage
}

fn margin() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=2);
    let late = stage.pay(3);
    let expiry = expiry(&stage);
    stage.chain.mine(expiry - 37 - stage.chain.tip());
    stage.look(PAYEE);
    stage.look(PAYER);
    assert!(stage.chain.waiting().is_empty(), "not yet");
    stage.mine(1, &[PAYEE, PAYER]);
    assert_eq!(stage.chain.waiting().len(), 1, "closed");
    assert!(stage.receive(3, &late).get("failed").is_some());
    let refused = stage.ask(PAYER, json!({"pay": super::stage::tick(4)}));
    assert!(refused.unwrap().get("failed").is_some());
    bury(&mut stage);
    stage
}
