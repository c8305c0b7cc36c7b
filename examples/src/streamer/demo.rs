//! Mint, streamer and viewer in one process: the whole thing, with nothing to install.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use streampay_cashu::{AcceptedMint, LockedPolicy};
use streampay_core::session::CloseCode;
use streampay_core::units::Msat;
use streampay_media::peer::PeerConfig;
use streampay_media::whep::TrustedProxy;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::serve::{Offer, serve};
use crate::error::AppError;
use crate::home::Home;
use crate::link::StreamLink;
use crate::mint::tally::{Asked, What};
use crate::mint::{EmbeddedMint, Storage};
use crate::pay::Pay;
use crate::price::Price;
use crate::report::Report;
use crate::viewer::watch::{Target, Watch, Watched, watch};

/// The shipped clip, and its sound.
const CLIP: [(&str, &[u8]); 2] = [
    ("clip.ivf", include_bytes!("../../assets/clip.ivf")),
    ("clip.ogg", include_bytes!("../../assets/clip.ogg")),
];
/// What a tick of the demo buys, in milliseconds: short, so that many are seen.
const TICK_MS: u64 = 2_000;
/// How long opening another purse may take: the calls before it are its own.
const OPENING: Duration = Duration::from_secs(2);

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Demo {
    /// How long to watch, in seconds.
    pub seconds: u64,
    /// How the viewer pays.
    pub pay: Pay,
    /// The recording; none takes a numbered file in the current folder.
    pub record: Option<PathBuf>,
    /// Who is told.
    pub report: Report,
}

impl Demo {
    /// What the streamer serves: the clip, on this machine alone.
    pub(crate) fn offer(
        &self,
        folder: &Path,
        price: Price,
        mints: Vec<AcceptedMint>,
    ) -> Result<Offer, AppError> {
        Ok(Offer {
            media: unpack_clip(folder)?.into(),
            seal: false,
            title: None,
            peer: PeerConfig::default(),
            price,
            mints: mints.into_iter().map(Into::into).collect(),
            pay: vec![self.pay],
            listen: ([127, 0, 0, 1], 0).into(),
            join_fee: Msat::ZERO,
            max_viewers: None,
            preview: None,
            unpaid: None,
            record: None,
            typing: false,
            public_url: None,
            trusted_proxy: TrustedProxy::None,
            report: Report { json: false },
        })
    }

    /// What the viewer is to do.
    pub(crate) fn order(&self, link: &StreamLink, price: Price, budget: Msat) -> Watch {
        Watch {
            link: link.clone(),
            budget,
            max_tariff: price.tariff(),
            pay: vec![self.pay],
            max_tick: price.tick,
            record: self.record.clone().map_or(Target::Numbered, Target::File),
            stop_after_ms: Some(self.seconds.saturating_mul(1000)),
            browser: None,
            interactive: false,
            join: None,
            peer: PeerConfig::loopback(),
            report: self.report,
        }
    }
}

/// Runs it in `folder`, which is empty, and checks its sums.
///
/// # Errors
/// [`AppError`]: what failed, or [`AppError::Unbalanced`].
pub async fn demo(folder: &Path, demo: Demo) -> Result<(), AppError> {
    let report = demo.report;
    let loopback = ([127, 0, 0, 1], 0).into();
    let mint = EmbeddedMint::start(loopback, Storage::Memory, EmbeddedMint::INPUT_FEE_PPK).await?;
    report.tell(&format!(
        "a mint runs at {} (100 ppk input fee)",
        mint.url()
    ));
    let payee = Home::open(&folder.join("streamer")).await?;
    let payer = Home::open(&folder.join("viewer")).await?;
    let price = Price {
        tick: sat(2),
        per_ms: TICK_MS,
    };
    let offer = demo.offer(folder, price, vec![AcceptedMint::sat(&mint.url())?])?;
    let ticks = demo.seconds.saturating_mul(1000).div_ceil(TICK_MS);
    // Each tick is 2 sat and 1 sat of fee; and more than is needed.
    let budget = sat(ticks.saturating_mul(3).saturating_add(30));
    let funds = budget.saturating_plus(sat(50));
    payer.wallet.deposit(&mint.url(), funds).await?;
    report.tell(&format!(
        "the viewer's wallet holds {funds}; its budget is {budget}"
    ));
    let serving = serve(&payee, offer).await?;
    report.tell(&format!(
        "the stream costs {price}; it is at {}",
        serving.link
    ));
    let before = Sums::now(&mint, &payer, &payee).await?;
    let (_wishes, from_user) = mpsc::channel(1);
    let watched = watch(&payer, &demo.order(&serving.link, price, budget), from_user).await?;
    let after = Sums::now(&mint, &payer, &payee).await?;
    let settled = after.payee.saturating_minus(before.payee);
    let fees = after.fees.saturating_minus(before.fees);
    let calls = mint_calls(&mint.tally().asked(), &watched);
    let recording = watched
        .recording
        .as_ref()
        .map(|path| path.display().to_string());
    report.say("summary", json!({
        "paid_msat": watched.account.paid.msat(), "settled_msat": settled.msat(), "fees_msat": fees.msat(),
        "refunded_msat": watched.account.refunded.msat(), "ticks": watched.ticks,
        "media_ms": watched.media_ms, "recording": recording, "packets": watched.packets,
        "pay": demo.pay.method(), "mint_calls": calls,
    }));
    report.tell(&format!(
        "{} left the wallet = {settled} that reached the streamer + {fees} of the mint's fees + {} back\n\
         watch it again: {}",
        watched.account.paid,
        watched.account.refunded,
        recording.unwrap_or_default(),
    ));
    let parts = settled
        .saturating_plus(fees)
        .saturating_plus(watched.account.refunded);
    let out = before.payer.saturating_minus(after.payer);
    let balanced = watched.account.paid == parts
        && out
            == watched
                .account
                .paid
                .saturating_minus(watched.account.refunded)
        && watched.settled;
    mint.stop().await;
    verdict(balanced, watched.code)
}

/// What a demo comes to.
pub(crate) fn verdict(balanced: bool, code: Option<CloseCode>) -> Result<(), AppError> {
    match (balanced, code) {
        (false, _) => Err(AppError::Unbalanced),
        (true, Some(CloseCode::Done)) => Ok(()),
        (true, code) => Err(AppError::Closed(code.unwrap_or(CloseCode::Other))),
    }
}

/// Requests that ticks caused: those from the first opened purse to the close, but for what opens another
/// purse and as many redemptions of locked tokens as there are batches and ends of purses.
#[must_use]
pub fn mint_calls(asked: &[Asked], watched: &Watched) -> usize {
    let Some(closed) = watched.closed else {
        return 0;
    };
    let Some(first) = watched.openings.first() else {
        return 0;
    };
    let within = |asked: &&Asked| asked.at >= *first && asked.at < closed;
    let within = asked.iter().filter(within).copied();
    let (redemptions, others): (Vec<_>, Vec<_>) = within.partition(|asked| asked.redeems);
    let excused = redemptions_of(watched.ticks, watched.openings.len());
    caused(others, &watched.openings) + redemptions.len().saturating_sub(excused)
}

/// The most swaps of locked tokens that so many ticks and purses come to: of a batch's ticks the payee may leave
/// those that would begin another satoshi of its fee, fewer than half; when a purse ends it redeems what is left,
/// and the payer takes home what it did not use.
fn redemptions_of(ticks: u64, purses: usize) -> usize {
    let least = LockedPolicy::default().redeem_ticks.div_ceil(2).max(1);
    let batches = usize::try_from(ticks / least).unwrap_or(usize::MAX);
    batches.saturating_add(purses.saturating_mul(2))
}

/// Of what opens another purse, both sides together, each kind of request comes so often at most: the
/// payer's plan and its split, the payee's look at the mint and at 768 proofs. More in that time is
/// somebody else's.
const fn of_an_opening(what: What) -> usize {
    match what {
        What::Info => 2,
        What::Keys => 6,
        What::Swap => 1,
        What::State => 4,
        What::Other => 0,
    }
}

/// How many are left of `left` without what opened another purse than the first.
fn caused(mut left: Vec<Asked>, openings: &[Instant]) -> usize {
    for open in openings.iter().skip(1) {
        let mut excused = Vec::new();
        // Its own calls are the last ones before it.
        for place in (0..left.len()).rev() {
            let Some(asked) = left.get(place).copied() else {
                continue;
            };
            let near = asked.at <= *open && *open <= asked.at + OPENING;
            let of_it = excused.iter().filter(|what| **what == asked.what).count();
            if near && of_it < of_an_opening(asked.what) {
                excused.push(asked.what);
                left.remove(place);
            }
        }
    }
    left.len()
}

/// Each from its own books.
struct Sums {
    payer: Msat,
    payee: Msat,
    fees: Msat,
}

impl Sums {
    async fn now(mint: &EmbeddedMint, payer: &Home, payee: &Home) -> Result<Self, AppError> {
        Ok(Self {
            payer: spendable(payer).await?,
            payee: spendable(payee).await?,
            fees: mint.ledger().await?.fees,
        })
    }
}

async fn spendable(home: &Home) -> Result<Msat, AppError> {
    let balances = home.wallet.balance().await?;
    Ok(balances.iter().fold(Msat::ZERO, |sum, balance| {
        sum.saturating_plus(balance.spendable)
    }))
}

pub(crate) fn unpack_clip(folder: &Path) -> Result<PathBuf, AppError> {
    for (name, bytes) in CLIP {
        std::fs::write(folder.join(name), bytes).map_err(AppError::io("cannot write the clip"))?;
    }
    Ok(folder.join("clip.ivf"))
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_before_another_opening_are_counted() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ask = |what, ms| Asked {
            what,
            at: at(ms),
            redeems: false,
        };
        let opens =
            |ms: u64| [What::Info, What::Swap, What::Info, What::State].map(|it| ask(it, ms));
        let count = |more: &[Asked]| {
            let mut all: Vec<Asked> = [opens(50), opens(9_950)].concat();
            all.extend(more);
            all.sort_by_key(|asked| asked.at);
            let watched = Watched {
                openings: vec![at(100), at(10_000)],
                closed: Some(at(20_000)),
                ticks: 20,
                ..Watched::default()
            };
            mint_calls(&all, &watched)
        };
        assert_eq!(count(&[]), 0);
        // One a tick, two seconds before the next purse and later.
        let ticks: Vec<Asked> = (1..20).map(|tick| ask(What::Swap, tick * 1_000)).collect();
        assert_eq!(count(&ticks), 19);
        let looks: Vec<Asked> = (1..20).map(|tick| ask(What::Other, tick * 1_000)).collect();
        assert_eq!(count(&looks), 19);
        let redeems = |asked: &Asked| Asked {
            redeems: true,
            ..*asked
        };
        let redeemed: Vec<Asked> = ticks.iter().map(redeems).collect();
        // No batch of twenty ticks; what two purses come to when they end.
        assert_eq!(count(&redeemed[..4]), 0);
        assert_eq!(count(&redeemed), 19 - 4, "redeemed at each tick");
    }

    #[test]
    fn redemptions_are_batches_and_ends() {
        for (ticks, purses, most) in [(0, 1, 2), (31, 1, 2), (64, 1, 4), (1_000, 5, 41)] {
            assert_eq!(redemptions_of(ticks, purses), most, "{ticks}, {purses}");
        }
    }
}
