//! Whether what both programs, the mint and the chain say in the end is one story: each tick paid once, by one
//! side to the other, and nothing lost on its way. Asks nobody: the books were read before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) type Told = BTreeMap<String, Vec<Paid>>;

/// As the event `tick_paid` has it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Paid {
    pub(crate) total_msat: u64,
    /// Of what the viewer had seen then.
    pub(crate) media_ms: u64,
}

/// Everything that is compared.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Books {
    /// Each payment of which the viewer said that it is acknowledged, by session.
    pub(crate) told: Told,
    pub(crate) viewer: Vec<Row>,
    pub(crate) streamer: Vec<Row>,
    pub(crate) money: Money,
}

/// A session as `history --json` has it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) session: String,
    pub(crate) state: String,
    pub(crate) media_ms: u64,
    pub(crate) paid_msat: u64,
    pub(crate) acknowledged_msat: u64,
    pub(crate) returned_msat: u64,
    pub(crate) fees_msat: u64,
    pub(crate) reserve_msat: u64,
    pub(crate) out_msat: u64,
}

/// Whom the money is with, by those who have no side.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Money {
    Mint {
        /// What it has signed and not taken back.
        outstanding_msat: u64,
        fees_msat: u64,
        viewer: Wallet,
        streamer: Wallet,
    },
    Chain {
        /// All that was paid to addresses of channels.
        funded_sat: u64,
        /// At the addresses that are the sides' own.
        viewer_sat: u64,
        streamer_sat: u64,
        /// Of all that hangs on the channels.
        fees_sat: u64,
    },
}

/// A side's ecash, by its own audit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Wallet {
    pub(crate) held_msat: i64,
    pub(crate) earned_msat: i64,
    pub(crate) given_msat: i64,
    pub(crate) fees_msat: i64,
    pub(crate) in_purses_msat: i64,
}

/// One payment. Whatever is forgiven is far less: a lost one, or one too many, is never within it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) msat: u64,
    pub(crate) media_ms: u64,
}

impl Tick {
    /// What may go to mint or miners for one session, or stay at a mint because nobody fetches it for that fee.
    const fn rest(self) -> u64 {
        self.msat / 4
    }
}

/// How far payments may be ahead of the media, or of what the viewer came to say, in ticks: one under way, and
/// one that is decided before the last one is used up.
const AHEAD: u64 = 2;

impl Books {
    /// How many ticks were acknowledged.
    pub(crate) fn ticks(&self, tick: Tick) -> u64 {
        let all = self.viewer.iter().map(|row| row.acknowledged_msat);
        all.sum::<u64>() / tick.msat
    }

    /// # Errors
    /// What does not fit.
    pub(crate) fn check(&self, tick: Tick) -> Result<(), String> {
        let sessions = self.viewer.iter().chain(&self.streamer);
        let mut sessions: Vec<&str> = sessions.map(|row| &*row.session).collect();
        sessions.extend(self.told.keys().map(|session| &**session));
        sessions.sort_unstable();
        sessions.dedup();
        for session in sessions {
            let of = |rows: &[Row]| rows.iter().find(|row| row.session == session).cloned();
            let (viewer, streamer) = (of(&self.viewer), of(&self.streamer));
            let (viewer, streamer) = (viewer.unwrap_or_default(), streamer.unwrap_or_default());
            let told = self.told.get(session).map_or(&[][..], |told| told);
            in_time(told, tick)
                .and_then(|()| acknowledged(&viewer, &streamer, told, tick))
                .and_then(|()| viewers(&viewer, tick))
                .and_then(|()| streamers(&streamer, tick, &self.money))
                .map_err(|wrong| format!("{session}: {wrong}\n{viewer:?}\n{streamer:?}"))?;
        }
        let money = &self.money;
        let whole = match money {
            Money::Mint { .. } => mint(money, tick),
            Money::Chain { .. } => self.chain(),
        };
        whole.map_err(|wrong| format!("{wrong}\n{money:?}"))
    }

    /// To the satoshi: nothing stays on a chain.
    fn chain(&self) -> Result<(), String> {
        let Money::Chain {
            funded_sat,
            viewer_sat,
            streamer_sat,
            fees_sat,
        } = self.money
        else {
            return Ok(());
        };
        same(
            "at both addresses and with miners, and paid into channels",
            viewer_sat + streamer_sat + fees_sat,
            funded_sat,
        )?;
        let returned = |rows: &[Row]| rows.iter().map(|row| row.returned_msat).sum::<u64>();
        same(
            "at the viewer's address, and back by its book",
            viewer_sat * 1_000,
            returned(&self.viewer),
        )?;
        same(
            "at the streamer's address, and arrived by its book",
            streamer_sat * 1_000,
            returned(&self.streamer),
        )
    }
}

fn same(what: &str, one: u64, other: u64) -> Result<(), String> {
    match one == other {
        true => Ok(()),
        false => Err(format!("{what}: {one} and {other}")),
    }
}

fn at_most(what: &str, amount: u64, most: u64) -> Result<(), String> {
    match amount <= most {
        true => Ok(()),
        false => Err(format!("{what}: {amount}, and at most {most}")),
    }
}

/// A tick is paid when a fifth of the last one is left, at the earliest. Spec: pricing 6.
fn in_time(told: &[Paid], tick: Tick) -> Result<(), String> {
    for paid in told {
        let sold = paid.total_msat / tick.msat * tick.media_ms;
        let due = paid.media_ms + tick.media_ms + tick.media_ms / 5;
        at_most("paid for by then, in ms of media", sold, due)?;
    }
    Ok(())
}

/// Both count the same ticks, none that was told is missing, and none is without media.
fn acknowledged(viewer: &Row, streamer: &Row, told: &[Paid], tick: Tick) -> Result<(), String> {
    let told = told.iter().map(|paid| paid.total_msat).max();
    let told = told.unwrap_or_default();
    let acknowledged = streamer.acknowledged_msat;
    same(
        "acknowledged, by each",
        viewer.acknowledged_msat,
        acknowledged,
    )?;
    at_most(
        "told to the viewer, of what the streamer has",
        told,
        acknowledged,
    )?;
    let late = told + AHEAD * tick.msat;
    at_most(
        "acknowledged, of what the viewer was told",
        acknowledged,
        late,
    )?;
    same(
        "acknowledged, beyond whole ticks",
        acknowledged % tick.msat,
        0,
    )?;
    let used = viewer.media_ms.max(streamer.media_ms) + AHEAD * tick.media_ms;
    let sold = acknowledged / tick.msat * tick.media_ms;
    at_most("paid for, in ms of media", sold, used)
}

/// What left the viewer is what was acknowledged and what came back, but for fees.
fn viewers(row: &Row, tick: Tick) -> Result<(), String> {
    let accounted = row.acknowledged_msat + row.returned_msat;
    let accounted = accounted + row.fees_msat + row.out_msat;
    same(
        "what left the viewer, and what came of it",
        row.paid_msat,
        accounted,
    )?;
    at_most(
        "gone of the viewer's, to nobody",
        row.fees_msat,
        tick.rest(),
    )
}

/// What arrived at the streamer is what it acknowledged, but for fees; it has no more either, but what a
/// channel's close did not take, and a plain token's own fee.
fn streamers(row: &Row, tick: Tick, money: &Money) -> Result<(), String> {
    let (arrived, due) = (row.returned_msat, row.acknowledged_msat);
    same("still out, of the streamer's", row.out_msat, 0)?;
    same(
        "earned, and what came of it",
        due + row.reserve_msat,
        arrived + row.fees_msat,
    )?;
    at_most("acknowledged and not there", row.fees_msat, tick.rest())?;
    at_most("there and not acknowledged", row.reserve_msat, tick.rest())?;
    match money {
        Money::Mint { .. } => at_most("of ecash, beyond what is due", arrived, due),
        Money::Chain { .. } => Ok(()),
    }
}

/// All that the mint signed is in a wallet or a purse, and what it kept is what the wallets call fees.
fn mint(money: &Money, tick: Tick) -> Result<(), String> {
    let Money::Mint {
        outstanding_msat,
        fees_msat,
        viewer,
        streamer,
    } = money
    else {
        return Ok(());
    };
    let held = viewer.held_msat + viewer.in_purses_msat + streamer.held_msat;
    let held = u64::try_from(held).map_err(|_| format!("less than nothing is held: {held}"))?;
    at_most("held, of what the mint has signed", held, *outstanding_msat)?;
    at_most(
        "signed by the mint, and held by nobody",
        outstanding_msat - held,
        tick.rest(),
    )?;
    let fees = u64::try_from(viewer.fees_msat + streamer.fees_msat).unwrap_or_default();
    same("fees, by the wallets and the mint", fees, *fees_msat)
}
