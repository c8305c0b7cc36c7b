//! What every chain source must do, as a suite for their authors: ours run it over the simulated
//! chain, an Esplora in front of it, and a real node.

use async_trait::async_trait;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, FeeRate, Network, OutPoint, Script, ScriptBuf, Transaction, Txid};
use streampay_core::units::{PurseId, PurseKey, SessionId};

use super::{SimChain, home};
use crate::chain::{ChainError, ChainSource, Seen, Watch};
use crate::keys::{ChannelSecret, NodeKeys, Seed};
use crate::script::{FundingOutput, OutputType};
use crate::tx::{CloseInput, ClosePlan, Contract, close_tx, refund_tx};

/// A chain that can be told what to do, and a source that looks at it.
#[async_trait]
pub trait ChainLab: Sync {
    /// The source under test.
    fn source(&self) -> &dyn ChainSource;

    /// Pays to a script; the transaction waits for a block.
    async fn pay(&self, script: &Script, value: Amount) -> OutPoint;

    /// The same, by a transaction of version 3 that spends what waits for a block too.
    async fn pay_after(&self, script: &Script, value: Amount) -> OutPoint;

    /// A transaction of version 3 that pays to a script and no fee, handed to nobody: its output 0
    /// is the one.
    async fn unpaid(&self, script: &Script, value: Amount) -> Transaction;

    /// Mines so many blocks with everything that waits.
    async fn mine(&self, blocks: u32);

    /// Undoes the last blocks, and mines as many and one without what was in them.
    async fn reorganise(&self, depth: u32);
}

/// Plays a channel from its funding to a buried close, a reorganisation, and a refund.
///
/// # Errors
/// What the source did that it must not, in words.
pub async fn conforms(lab: &impl ChainLab) -> Result<(), String> {
    fees(lab).await?;
    funding_and_close(lab).await?;
    unconfirmed(lab).await?;
    package(lab).await?;
    refund(lab).await
}

struct Parts {
    payer: ChannelSecret,
    payee: ChannelSecret,
    output: FundingOutput,
}

const VALUE: Amount = Amount::from_sat(50_000);

fn parts(number: u32, expiry: u32) -> Result<Parts, String> {
    let purse = PurseKey {
        session: SessionId([9; 32]),
        purse: PurseId(number),
    };
    let keys = |seed| NodeKeys::new(&Seed([seed; 32]), Network::Regtest).map_err(said);
    let payer = keys(1)?.payer(purse).map_err(said)?;
    let payee = keys(2)?.payee(&payer.public(), purse).map_err(said)?;
    let output = FundingOutput::new(OutputType::Taproot, payer.public(), payee.public(), expiry);
    Ok(Parts {
        payer,
        payee,
        output: output.map_err(said)?,
    })
}

fn contract(parts: &Parts, outpoint: OutPoint) -> Result<Contract, String> {
    let reserve = Amount::from_sat(900);
    let output = parts.output.clone();
    Contract::new(Network::Regtest, output, outpoint, VALUE, reserve, home(1)).map_err(said)
}

fn said(error: impl core::fmt::Display) -> String {
    error.to_string()
}

async fn fees(lab: &impl ChainLab) -> Result<(), String> {
    let view = lab.source().view(&[]).await.map_err(said)?;
    for blocks in [0, 1, 6, 36, 1_000] {
        if view.fees.rate(blocks) < view.fees.floor || view.fees.rate(blocks) == FeeRate::ZERO {
            return Err(format!("a rate below the floor: {:?}", view.fees));
        }
    }
    Ok(())
}

async fn funding_and_close(lab: &impl ChainLab) -> Result<(), String> {
    let source = lab.source();
    let tip = source.view(&[]).await.map_err(said)?.tip;
    let parts = parts(tip, tip.saturating_add(400))?;
    let script = parts.output.script_pubkey();
    let found = source.find(&script, VALUE, tip).await.map_err(said)?;
    expect("nothing is found before it is paid", &found, &Vec::new())?;
    let outpoint = lab.pay(&script, VALUE).await;
    let watch = Watch {
        outpoint,
        script: script.clone(),
        since: tip,
    };
    let seen = look(lab, &watch).await?;
    let waiting = seen.as_ref().map(|(seen, tip)| seen.depth(*tip));
    expect(
        "no coin while it waits",
        &coins(lab, &script, tip).await?,
        &Vec::new(),
    )?;
    expect("a funding that waits", &waiting, &Some(0))?;
    let found = source.find(&script, VALUE, tip).await.map_err(said)?;
    expect(
        "a funding that waits, by its script",
        &found,
        &vec![outpoint],
    )?;
    lab.mine(1).await;
    let found = source.find(&script, VALUE, tip).await.map_err(said)?;
    expect("a funding by its script", &found, &vec![outpoint])?;
    let coin = (outpoint, VALUE, tip.saturating_add(1));
    let coins = coins(lab, &script, tip).await?;
    expect("a coin in a block", &coins, &vec![coin])?;
    let less = Amount::from_sat(VALUE.to_sat().saturating_sub(1));
    let found = source.find(&script, less, tip).await.map_err(said)?;
    expect("no other value is found", &found, &Vec::new())?;
    lab.mine(2).await;
    let Some((seen, now)) = look(lab, &watch).await? else {
        return Err("a funding in a block was not seen".into());
    };
    expect("its depth", &seen.depth(now), &3)?;
    expect("its value", &seen.output.value, &VALUE)?;
    expect("its script", &seen.output.script_pubkey, &script)?;
    expect("no spend", &seen.spend, &None)?;
    beside_bad_ones(lab, &watch).await?;
    let contract = contract(&parts, outpoint)?;
    closes(lab, &parts, &contract, &watch).await
}

/// Outputs that nobody has, or can have: what is said of a good one beside them stays the same.
async fn beside_bad_ones(lab: &impl ChainLab, good: &Watch) -> Result<(), String> {
    let other = |txid, vout| Watch {
        outpoint: OutPoint::new(txid, vout),
        ..good.clone()
    };
    let txid = good.outpoint.txid;
    let bad = [
        other(txid, 1 << 31),
        other(txid, u32::MAX),
        other(txid, 100_000),
        other(Txid::all_zeros(), 0),
    ];
    let alone = look(lab, good).await?;
    for bad in &bad {
        for watches in [[bad.clone(), good.clone()], [good.clone(), bad.clone()]] {
            let view = lab.source().view(&watches).await;
            let view = view.map_err(|error| format!("beside {}: {error}", bad.outpoint))?;
            let mut outputs = view.outputs.into_iter();
            let state = outputs.find(|state| state.outpoint == good.outpoint);
            let seen = state.and_then(|state| Some((state.seen?, view.tip)));
            expect("a good output beside a bad one", &seen, &alone)?;
        }
        if let Ok((_, seen)) = lab.source().output(bad).await {
            expect("an output that nobody has", &seen, &None)?;
        }
    }
    let (tip, seen) = lab.source().output(good).await.map_err(said)?;
    let apart = seen.map(|seen| (seen, tip));
    expect("a good output, apart", &apart, &alone)
}

async fn closes(
    lab: &impl ChainLab,
    parts: &Parts,
    contract: &Contract,
    watch: &Watch,
) -> Result<(), String> {
    let source = lab.source();
    let cheap = close(parts, contract, 2)?;
    let dear = close(parts, contract, 5)?;
    let mut broken = cheap.clone();
    for output in &mut broken.output {
        output.value = output.value.checked_sub(Amount::ONE_SAT).unwrap_or(VALUE);
    }
    match source.broadcast(&broken).await {
        Err(ChainError::Refused(_)) => {}
        other => return Err(format!("a broken transaction: {other:?}")),
    }
    source.broadcast(&cheap).await.map_err(said)?;
    source
        .broadcast(&cheap)
        .await
        .map_err(|error| format!("again: {error}"))?;
    expect(
        "a close that waits",
        &spend(lab, watch).await?,
        &Some((cheap.compute_txid(), 0)),
    )?;
    let spent = coins(lab, &watch.script, watch.since).await?;
    expect("no coin once a spend waits", &spent, &Vec::new())?;
    source.broadcast(&dear).await.map_err(said)?;
    let dear_txid = dear.compute_txid();
    expect(
        "its replacement",
        &spend(lab, watch).await?,
        &Some((dear_txid, 0)),
    )?;
    match source.broadcast(&cheap).await {
        Err(ChainError::Refused(_)) => {}
        other => return Err(format!("a replaced transaction: {other:?}")),
    }
    lab.mine(2).await;
    expect(
        "a close in a block",
        &spend(lab, watch).await?,
        &Some((dear_txid, 2)),
    )?;
    source
        .broadcast(&dear)
        .await
        .map_err(|error| format!("when mined: {error}"))?;
    lab.reorganise(2).await;
    let after = spend(lab, watch).await?;
    let waits = after == Some((dear_txid, 0)) || after.is_none();
    expect("a close whose block is no more", &waits, &true)?;
    source
        .broadcast(&dear)
        .await
        .map_err(|error| format!("anew: {error}"))?;
    lab.mine(6).await;
    expect(
        "a buried close",
        &spend(lab, watch).await?,
        &Some((dear_txid, 6)),
    )
}

/// Fundings that wait for a block: a close can follow one whose inputs are in blocks, and no other.
async fn unconfirmed(lab: &impl ChainLab) -> Result<(), String> {
    let source = lab.source();
    let tip = source.view(&[]).await.map_err(said)?.tip;
    for (number, alone) in [(1 << 25, true), (1 << 26, false)] {
        let parts = parts(tip.wrapping_add(number), tip.saturating_add(400))?;
        let script = parts.output.script_pubkey();
        let outpoint = match alone {
            true => lab.pay(&script, VALUE).await,
            false => lab.pay_after(&script, VALUE).await,
        };
        let watch = Watch {
            outpoint,
            script,
            since: tip,
        };
        let close = close(&parts, &contract(&parts, outpoint)?, 10)?;
        let expected = alone.then_some(outpoint.txid);
        for when in ["", ", with its close"] {
            let what = format!("what a close can follow (inputs in blocks: {alone}){when}");
            let parent = |seen: Option<Seen>| {
                let parent = seen?.parent?;
                (parent.fee > Amount::ZERO).then(|| parent.tx.compute_txid())
            };
            let seen = look(lab, &watch).await?.map(|(seen, _)| seen);
            let depth = seen.as_ref().map(|seen| seen.height);
            expect("a funding that waits", &depth, &Some(None))?;
            expect(&what, &parent(seen), &expected)?;
            let (_, apart) = source.output(&watch).await.map_err(said)?;
            expect(&format!("{what}, apart"), &parent(apart), &expected)?;
            match (source.broadcast(&close).await, alone) {
                (Ok(()), true) | (Err(ChainError::Refused(_)), false) => {}
                (other, _) => return Err(format!("{what}: {other:?}")),
            }
        }
        lab.mine(1).await;
        let seen = look(lab, &watch).await?.map(|(seen, _)| seen);
        let parent = seen.map(|seen| (seen.height, seen.parent));
        let mined = Some((Some(tip_of(lab).await?), None));
        expect("a funding in a block is followed like any", &parent, &mined)?;
        source.broadcast(&close).await.map_err(said)?;
        lab.mine(1).await;
    }
    Ok(())
}

async fn tip_of(lab: &impl ChainLab) -> Result<u32, String> {
    Ok(lab.source().view(&[]).await.map_err(said)?.tip)
}

/// A funding below what is relayed, and a close that pays for both.
async fn package(lab: &impl ChainLab) -> Result<(), String> {
    let source = lab.source();
    let tip = source.view(&[]).await.map_err(said)?.tip;
    let parts = parts(tip.wrapping_add(1 << 24), tip.saturating_add(400))?;
    let script = parts.output.script_pubkey();
    let parent = lab.unpaid(&script, VALUE).await;
    match source.broadcast(&parent).await {
        Err(ChainError::Refused(_)) => {}
        other => return Err(format!("a parent without a fee, alone: {other:?}")),
    }
    let outpoint = OutPoint::new(parent.compute_txid(), 0);
    let contract = contract(&parts, outpoint)?;
    // As much as the least for itself alone is not enough for both.
    let poor = [parent.clone(), close(&parts, &contract, 1)?];
    match source.broadcast_package(&poor).await {
        Err(ChainError::Refused(_)) => {}
        other => return Err(format!("a package that pays too little: {other:?}")),
    }
    let package = [parent, close(&parts, &contract, 10)?];
    let watch = Watch {
        outpoint,
        script,
        since: tip,
    };
    let txid = package[1].compute_txid();
    for when in ["at first", "again"] {
        let sent = source.broadcast_package(&package).await;
        sent.map_err(|error| format!("a package, {when}: {error}"))?;
        let waits = spend(lab, &watch).await?;
        expect("the child of a package", &waits, &Some((txid, 0)))?;
    }
    lab.mine(1).await;
    let mined = spend(lab, &watch).await?;
    expect("a package in a block", &mined, &Some((txid, 1)))?;
    let sent = source.broadcast_package(&package).await;
    sent.map_err(|error| format!("a package, when mined: {error}"))
}

async fn refund(lab: &impl ChainLab) -> Result<(), String> {
    let source = lab.source();
    let tip = source.view(&[]).await.map_err(said)?.tip;
    let expiry = tip.saturating_add(5);
    let parts = parts(tip, expiry)?;
    let outpoint = lab.pay(&parts.output.script_pubkey(), VALUE).await;
    let watch = Watch {
        outpoint,
        script: parts.output.script_pubkey(),
        since: tip,
    };
    lab.mine(4).await;
    let contract = contract(&parts, outpoint)?;
    let rate = FeeRate::from_sat_per_vb_u32(3);
    let tx = refund_tx(&contract, &parts.payer, &home(1), rate, 0).map_err(said)?;
    match source.broadcast(&tx).await {
        Err(ChainError::Refused(_)) => {}
        other => return Err(format!("a refund at T-1: {other:?}")),
    }
    lab.mine(1).await;
    source
        .broadcast(&tx)
        .await
        .map_err(|error| format!("at T: {error}"))?;
    lab.mine(1).await;
    expect(
        "a refund in a block",
        &spend(lab, &watch).await?,
        &Some((tx.compute_txid(), 1)),
    )
}

fn close(parts: &Parts, contract: &Contract, sat_vb: u32) -> Result<Transaction, String> {
    let paid = Amount::from_sat(20_000);
    let signature = contract.sign_update(&parts.payer, paid).map_err(said)?;
    let payout: ScriptBuf = home(2);
    let channel = CloseInput {
        contract,
        paid,
        signature: &signature,
        secret: &parts.payee,
    };
    close_tx(&ClosePlan {
        channels: &[channel],
        coins: &[],
        payout: &payout,
        extra: &[],
        rate: FeeRate::from_sat_per_vb_u32(sat_vb),
    })
    .map_err(said)
}

async fn look(lab: &impl ChainLab, watch: &Watch) -> Result<Option<(Seen, u32)>, String> {
    let view = lab.source().view(core::slice::from_ref(watch)).await;
    let view = view.map_err(said)?;
    let state = view.outputs.into_iter().next();
    let state = state.filter(|state| state.outpoint == watch.outpoint);
    let state = state.ok_or("the output that was asked for is missing")?;
    Ok(state.seen.map(|seen| (seen, view.tip)))
}

/// Unspent outputs of any value: where, how much, in which block.
async fn coins(
    lab: &impl ChainLab,
    script: &Script,
    since: u32,
) -> Result<Vec<(OutPoint, Amount, u32)>, String> {
    let found = lab.source().coins(script, since).await.map_err(said)?;
    let all = found.iter();
    Ok(all.map(|of| (of.outpoint, of.value, of.since)).collect())
}

async fn spend(lab: &impl ChainLab, watch: &Watch) -> Result<Option<(Txid, u32)>, String> {
    let seen = look(lab, watch).await?;
    Ok(seen.and_then(|(seen, tip)| {
        let spend = seen.spend?;
        Some((spend.tx.compute_txid(), spend.depth(tip)))
    }))
}

fn expect<T: PartialEq + core::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, not {expected:?}"))
    }
}

#[async_trait]
impl ChainLab for SimChain {
    fn source(&self) -> &dyn ChainSource {
        self
    }

    async fn pay(&self, script: &Script, value: Amount) -> OutPoint {
        Self::pay(self, script, value).unwrap_or_else(|_| OutPoint::null())
    }

    async fn pay_after(&self, script: &Script, value: Amount) -> OutPoint {
        Self::pay_after(self, script, value).unwrap_or_else(|_| OutPoint::null())
    }

    async fn unpaid(&self, script: &Script, value: Amount) -> Transaction {
        Self::unpaid(self, script, value)
    }

    async fn mine(&self, blocks: u32) {
        Self::mine(self, blocks);
    }

    async fn reorganise(&self, depth: u32) {
        Self::reorganise(self, depth, &[]);
    }
}
