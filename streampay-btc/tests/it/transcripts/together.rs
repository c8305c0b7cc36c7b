//! Several channels in one close, coins and parents that go into one, and a watchtower.

use bitcoin::{Amount, FeeRate};
use serde_json::{Value, json};
use streampay_btc::machine::WalletCoin;

use super::Scene;
use super::json::{coin_json, entry_json, int, number};
use super::scenes::settle;
use super::stage::{PAYEE, Stage, TOWER};

const PAYEE_ALONE: &[&str] = &["payee"];

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        name: "batch",
        about: "Three channels are closed in one transaction.",
        roles: PAYEE_ALONE,
        play: batch,
    },
    Scene {
        name: "batch-margin",
        about: "No block takes the close of three; when the margin of one comes, it is closed alone.",
        roles: PAYEE_ALONE,
        play: batch_margin,
    },
    Scene {
        name: "batch-one-margin",
        about: "No block takes the close of three whose margins come at once: it is bumped whole.",
        roles: PAYEE_ALONE,
        play: batch_one_margin,
    },
    Scene {
        name: "funding-forgotten",
        about: "Fees rise beyond a funding that was taken unconfirmed: its close brings it along.",
        roles: PAYEE_ALONE,
        play: funding_forgotten,
    },
    Scene {
        name: "fee-wallet",
        about: "A coin of the payee's pays for what the channel may not; it is bumped, over a restart.",
        roles: PAYEE_ALONE,
        play: fee_wallet,
    },
    Scene {
        name: "closes-in-time",
        about: "A watchtower does nothing before the margin, then the close that pays enough, then a dearer one.",
        roles: &["tower"],
        play: tower,
    },
];

fn rate(sat_vb: u32) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(sat_vb)
}

fn expiry(stage: &Stage, at: usize) -> u32 {
    number(&stage.payee.steps.last().unwrap()["state"][at]["expiry"])
}

fn all_settled(stage: &Stage) {
    let state = &stage.payee.steps.last().unwrap()["state"];
    let mut all = state.as_array().unwrap().iter();
    assert!(
        all.all(|channel| channel.get("settled").is_some()),
        "{state}"
    );
}

/// Three channels, the first opened before the others, with ticks in each.
fn three() -> Stage {
    let mut stage = Stage::new();
    for number in 0..3 {
        stage.purse = number;
        stage.ready();
        stage.ticks(1..=u64::from(number) * 10 + 5);
        stage.chain.mine(20);
    }
    stage
}

/// All are asked to settle before the chain is looked at.
fn settle_all(stage: &mut Stage) {
    for purse in 0..3 {
        let settle = json!({"purse": int(purse), "ask": {"settle": {}}});
        stage.tell(PAYEE, json!({"request": settle}));
    }
    stage.look(PAYEE);
    for purse in 0..3 {
        let done = json!({"purse": int(purse), "call": {"look": {}}});
        stage.tell(PAYEE, json!({"done": done}));
    }
    let close = &stage.chain.waiting()[0];
    assert_eq!(close.input.len(), 3);
}

fn batch() -> Stage {
    let mut stage = three();
    settle_all(&mut stage);
    stage.mine(6, &[PAYEE]);
    all_settled(&stage);
    stage
}

fn batch_margin() -> Stage {
    let mut stage = three();
    let first = expiry(&stage, 0);
    stage.chain.mine(first - 37 - stage.chain.tip());
    settle_all(&mut stage);
    let close = stage.chain.waiting()[0].compute_txid();
    stage.chain.mine_without(1, &[close]);
    stage.look(PAYEE);
    let mut sizes: Vec<_> = (stage.chain.waiting().iter())
        .map(|tx| tx.input.len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2]);
    stage.mine(6, &[PAYEE]);
    all_settled(&stage);
    stage
}

fn batch_one_margin() -> Stage {
    let mut stage = Stage::new();
    for number in 0..3 {
        stage.purse = number;
        stage.ready();
        stage.ticks(1..=3);
    }
    let first = expiry(&stage, 0);
    stage.chain.mine(first - 37 - stage.chain.tip());
    settle_all(&mut stage);
    // The margin of the last one comes two blocks after that of the first.
    for blocks in [3, 1] {
        let close = stage.chain.waiting()[0].compute_txid();
        stage.chain.mine_without(blocks, &[close]);
        stage.look(PAYEE);
        let waiting = stage.chain.waiting();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].input.len(), 3);
        assert_ne!(waiting[0].compute_txid(), close, "bumped");
    }
    stage.mine(6, &[PAYEE]);
    all_settled(&stage);
    stage
}

fn funding_forgotten() -> Stage {
    let mut stage = Stage::with(|config| {
        config.payee.zero_conf_max = Amount::from_sat(200_000);
        config.payee.depths.retain(|rule| rule.value_max > 200_000);
    });
    let opening = stage.opened_after(0);
    assert!(stage.accept(&opening).get("accepted").is_some());
    stage.ticks(1..=50);
    stage.look(PAYEE);
    stage.chain.set_rate(rate(25));
    stage.chain.set_floor(rate(25));
    assert!(stage.chain.waiting().is_empty(), "forgotten");
    stage.restart(PAYEE);
    assert!(stage.chain.waiting().is_empty(), "alone it is refused");
    stage.look(PAYEE);
    assert_eq!(stage.chain.waiting().len(), 2, "both");
    stage.mine(6, &[PAYEE]);
    all_settled(&stage);
    stage
}

fn fee_wallet() -> Stage {
    let mut stage = Stage::with(|config| config.payee.wallet_fee_max = Amount::from_sat(300_000));
    stage.ready();
    stage.ticks(1..=50);
    let script = stage.payee.side.machine.as_ref().unwrap().fee_script();
    let value = Amount::from_sat(600_000);
    let outpoint = stage.chain.pay(&script, value).unwrap();
    stage.chain.mine(1);
    let since = stage.chain.tip();
    let coin = coin_json(&WalletCoin {
        outpoint,
        value,
        since,
    });
    stage.tell(PAYEE, json!({"coins": [coin]}));
    stage.look(PAYEE);
    stage.chain.set_rate(rate(80));
    settle(&mut stage);
    assert_eq!(stage.chain.waiting()[0].input.len(), 2);
    stage.chain.set_rate(rate(105));
    stage.chain.mine(1);
    stage.restart(PAYEE);
    assert_eq!(stage.chain.waiting()[0].input.len(), 2);
    stage.chain.set_rate(rate(2));
    stage.mine(6, &[PAYEE]);
    all_settled(&stage);
    stage
}

fn tower() -> Stage {
    let mut stage = Stage::new();
    stage.ready();
    stage.ticks(1..=50);
    stage.look(PAYEE);
    let rates = [1, 5, 20, 40, 60].map(rate);
    let machine = stage.payee.side.machine.as_ref().unwrap();
    let entry = machine.tower_entry(super::side::purse(0), &rates).unwrap();
    stage.tell(TOWER, json!({"create": {"role": "tower"}}));
    stage.tell(TOWER, json!({"entry": entry_json(&entry)}));
    let left = expiry(&stage, 0) - 37 - stage.chain.tip();
    stage.chain.mine(left);
    stage.chain.set_rate(rate(4));
    let nothing: Vec<Value> = Vec::new();
    assert_eq!(stage.look(TOWER), nothing);
    stage.chain.mine(1);
    assert_eq!(stage.look(TOWER).len(), 1, "its margin");
    // Fees rise, beyond all that it may use so early: the dearest of that.
    for sat_vb in [15, 90] {
        stage.chain.set_rate(rate(sat_vb));
        stage.chain.mine(1);
        assert_eq!(stage.look(TOWER).len(), 1);
    }
    stage.chain.set_rate(rate(2));
    stage.mine(7, &[TOWER]);
    assert_eq!(stage.tower.steps.last().unwrap()["state"], int(0_u64));
    stage
}
