//! The watch over all channels of a home: looks at the chain, tells what is new, keeps the files that
//! help without this program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use streampay_btc::bitcoin::Amount;
use streampay_btc::chain::ChainSource;
use streampay_btc::machine::{ChannelMachine, ChannelState, Role, WatchEvent};
use streampay_btc::runner::{FundingWallet, Runner};
use streampay_core::units::PurseKey;
use tokio::time::Instant;

use super::{Shown, sat, tell, tower};
use crate::report::Report;

/// What sessions saw is told this soon, whenever the chain is looked at.
const TELL: Duration = Duration::from_secs(1);

/// What looks at the chain for a home.
pub(super) type Watched = Runner<Arc<dyn ChainSource>, Arc<dyn FundingWallet>>;

pub(super) struct Watching {
    pub(super) machine: ChannelMachine,
    pub(super) runner: Arc<Watched>,
    pub(super) shown: Option<Arc<Shown>>,
    pub(super) spent: Arc<Spent>,
    pub(super) report: Report,
    pub(super) every: Duration,
    /// Channels from before: how they stand is asked for, not told.
    pub(super) restored: BTreeSet<PurseKey>,
    /// True where a fee wallet is looked after.
    pub(super) has_fee_wallet: bool,
    pub(super) tower: tower::Kept,
}

impl Watching {
    /// For ever.
    pub(super) async fn run(mut self) {
        let (mut known, mut fees) = (BTreeMap::new(), None);
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                next = Instant::now() + self.every;
                if let Err(error) = self.runner.sync().await {
                    tracing::warn!(%error, "the chain could not be looked at");
                }
                self.keep_tower_file();
            }
            if let Some(shown) = &self.shown {
                shown.keep_kits();
            }
            self.tell_news(&mut known);
            if self.has_fee_wallet {
                self.tell_fees(&mut fees);
            }
            tokio::time::sleep(TELL.min(self.every)).await;
        }
    }

    fn tell_news(&self, known: &mut BTreeMap<PurseKey, ChannelState>) {
        tell_events(&self.machine, &self.runner, &self.spent, self.report);
        let now = self.machine.report();
        let new = now
            .iter()
            .filter(|channel| !self.restored.contains(&channel.purse));
        for channel in new {
            if known.get(&channel.purse) != Some(&channel.state) {
                tell::state(self.report, channel);
            }
        }
        let states = now.iter().map(|channel| (channel.purse, channel.state));
        *known = states.collect();
    }

    fn tell_fees(&self, known: &mut Option<Amount>) {
        let now = self.machine.fee_balance();
        if known.replace(now).is_some_and(|known| known != now) {
            let line = format!("the fee wallet holds {} now", sat(now.to_sat()));
            self.report.tell(&line);
        }
    }

    fn keep_tower_file(&mut self) {
        let rates = tower::rates();
        let now = self.machine.report();
        let own = now.iter().filter(|channel| channel.role == Role::Payee);
        let entries = own.filter_map(|own| self.machine.tower_entry(own.purse, &rates));
        if let Err(error) = self.tower.keep(entries.collect()) {
            let line = format!("the watchtower's file cannot be written: {error}");
            self.report.tell(&line);
        }
    }
}

/// Channels of which the chain has shown a transaction that spends them.
pub(super) type Spent = Mutex<BTreeSet<PurseKey>>;

/// Tells what happened to channels since it was last told.
pub(super) fn tell_events(
    machine: &ChannelMachine,
    runner: &Watched,
    spent: &Spent,
    report: Report,
) {
    let now = machine.report();
    for (purse, event) in runner.news() {
        if matches!(event, WatchEvent::Spent { .. }) {
            let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.insert(purse);
        }
        let own = now.iter().find(|channel| channel.purse == purse);
        tell::event(report, purse, own, &event);
    }
}
