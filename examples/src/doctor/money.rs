//! Mints and the chain.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Finding;
use crate::channel::settings::{BitcoinArgs, name_of, source_of};
use crate::wallet::{MintLimits, MintReport, WalletFolder};

/// How long the chain source may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Blocks in which a close should be in one.
const CLOSE_TARGET: u32 = 6;
const MINT: &str = "mint";
const CHAIN: &str = "chain";

/// Whether the mint answers, and can carry a session. Asked from a wallet of its own, which is
/// forgotten: the user's learns of no mint that it does not use.
pub(super) async fn mint(url: &str, limits: MintLimits) -> Vec<Finding> {
    let begun = Instant::now();
    let asked = async {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let wallet = WalletFolder::open_with(folder.path(), limits).map_err(|e| e.to_string())?;
        let report = wallet.report_on(url, false).await;
        report.map_err(|error| error.to_string())
    };
    match asked.await {
        Ok(report) => vec![judged(&report, begun.elapsed(), limits.max_fee_ppk_at(url))],
        Err(error) => {
            let advice =
                "without it, what is there cannot move: look at the network, or ask who runs it";
            vec![Finding::fail(MINT, format!("{url}: {error}"), advice)]
        }
    }
}

fn judged(report: &MintReport, took: Duration, most_ppk: u64) -> Finding {
    let can: Vec<_> = report.modes.iter().filter(|mode| mode.runs).collect();
    let names: Vec<_> = can.iter().map(|mode| mode.name).collect();
    let active = report.keysets.iter().filter(|set| set.active);
    let fee = active.map(|set| set.input_fee_ppk).max().unwrap_or(0);
    let found = format!(
        "{}: answers in {} ms, can {}; fee {fee} ppk",
        report.mint,
        took.as_millis(),
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        },
    );
    let dear = fee > most_ppk;
    match (report.is_usable(), can.len() == report.modes.len(), dear) {
        (false, ..) => Finding::fail(MINT, found, "use another: `mint-check` says what it lacks"),
        (true, true, false) => Finding::ok(MINT, found),
        (true, false, _) => Finding::warn(MINT, found, "`mint-check` says what it lacks"),
        (true, true, true) => Finding::warn(
            MINT,
            found,
            "it takes more than --max-fee-ppk allows: no session is paid there",
        ),
    }
}

/// Whether the chain source answers, on the chain that is meant.
pub(super) async fn chain(data: &Path, args: &BitcoinArgs) -> Vec<Finding> {
    let advice =
        "channels close only while it answers: is it running, and are user and password right?";
    let (source, network) = match source_of(data, args) {
        Ok(Some(source)) => source,
        Ok(None) => {
            let none = "none is named; without channels none is needed (--btc names one)";
            return vec![Finding::ok(CHAIN, none)];
        }
        Err(error) => return vec![Finding::fail(CHAIN, error.to_string(), advice)],
    };
    let begun = Instant::now();
    let viewed = tokio::time::timeout(PATIENCE, source.view(&[])).await;
    let chain = name_of(network);
    vec![match viewed {
        Ok(Ok(view)) => {
            let rate = view.fees.rate(CLOSE_TARGET).to_sat_per_vb_ceil();
            let took = begun.elapsed().as_millis();
            let found = format!(
                "{chain} at block {}: answers in {took} ms; {rate} sat/vB within six blocks",
                view.tip
            );
            Finding::ok(CHAIN, found)
        }
        Ok(Err(error)) => Finding::fail(CHAIN, format!("{chain}: {error}"), advice),
        Err(_) => Finding::fail(CHAIN, format!("{chain}: no answer in {PATIENCE:?}"), advice),
    }]
}
