//! Bitcoin channels for the programs: where blocks come from, who pays into a channel, and a watch
//! over all channels of a home for as long as it is open.

pub mod commands;
pub mod demo;
mod lab;
pub mod quote;
pub mod settings;
pub mod source;
mod tell;
pub mod tower;
mod wallet;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use streampay_btc::bitcoin::{Amount, Network, ScriptBuf};
use streampay_btc::chain::ChainSource;
use streampay_btc::keys::Seed;
use streampay_btc::machine::{ChannelConfig, ChannelMachine, ChannelReport, Role};
use streampay_btc::policy::{PayeePolicy, PayerPolicy};
use streampay_btc::runner::{FundingWallet, Runner};
use streampay_core::backend::{BackendMachine as _, RestoredPurse};
use streampay_core::driver::{Clock, Node, NodeBuilder, StoreWriter};
use streampay_core::session::{Entropy, PayeeSession, PayerSession, Policy, SecretKey};
use streampay_core::store::purse_prefix;
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId};
use streampay_core::wire::Method;
use tokio::task::AbortHandle;

use crate::error::AppError;
use crate::home::Home;
use crate::report::Report;

pub use self::wallet::Shown;

/// What a home needs for its channels.
#[derive(Clone)]
pub struct Setup {
    /// Chain and limits, both roles'.
    pub config: ChannelConfig,
    /// Where blocks come from.
    pub source: Arc<dyn ChainSource>,
    /// Who pays into a channel; none where an address is shown to the user.
    pub wallet: Option<Arc<dyn FundingWallet>>,
    /// How often the chain is looked at.
    pub every: Duration,
    /// Who is told.
    pub report: Report,
}

impl Setup {
    /// The usual limits, with all money of this side going to `own`.
    #[must_use]
    pub fn new(
        network: Network,
        own: &ScriptBuf,
        source: Arc<dyn ChainSource>,
        report: Report,
    ) -> Self {
        Self {
            config: ChannelConfig {
                network,
                payer: PayerPolicy::new(own.clone()),
                payee: PayeePolicy::new(own.clone()),
            },
            source,
            wallet: None,
            every: Duration::from_secs(20),
            report,
        }
    }

    /// Takes channels of at most `most` before their funding is in a block.
    ///
    /// # Errors
    /// [`AppError::Usage`] where it is more than any channel may hold.
    pub fn take_unconfirmed(&mut self, most: Msat) -> Result<(), AppError> {
        let policy = &mut self.config.payee;
        let most = most.sat_floor();
        if policy
            .depths
            .last()
            .is_some_and(|last| most > last.value_max)
        {
            return Err(AppError::Usage(
                "--zero-conf-max is more than a channel may hold: say less",
            ));
        }
        policy.zero_conf_max = Amount::from_sat(most);
        Ok(())
    }
}

impl core::fmt::Debug for Setup {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// All channels of a home. They are watched while this lives.
pub struct Channels {
    machine: ChannelMachine,
    runner: Arc<Runner<Arc<dyn ChainSource>, Arc<dyn FundingWallet>>>,
    shown: Option<Arc<Shown>>,
    payer: PayerPolicy,
    every: Duration,
    report: Report,
    folder: std::path::PathBuf,
    network: Network,
    watch: std::sync::Mutex<Option<AbortHandle>>,
}

impl Channels {
    /// Those of the home in `folder`, whose identity comes from `seed`.
    ///
    /// # Errors
    /// With a probability of 2^-128.
    pub(crate) fn open(
        folder: &std::path::Path,
        seed: &Entropy,
        store: StoreWriter,
        setup: Setup,
    ) -> Result<Self, AppError> {
        let seed = Seed(seed.derive("bitcoin"));
        let (payer, network) = (setup.config.payer.clone(), setup.config.network);
        let machine = ChannelMachine::new(setup.config, &seed);
        let machine = machine.map_err(|_| AppError::Failed("the identity file is damaged"))?;
        let (wallet, shown): (Arc<dyn FundingWallet>, _) = match setup.wallet {
            Some(wallet) => (wallet, None),
            None => {
                let shown = Shown::new(machine.clone(), folder.join("channels"), setup.report);
                let shown = Arc::new(shown);
                (shown.clone(), Some(shown))
            }
        };
        let (source, clock) = (setup.source, Clock::start());
        Ok(Self {
            runner: Arc::new(Runner::new(machine.clone(), source, wallet, store, clock)),
            machine,
            shown,
            payer,
            every: setup.every,
            report: setup.report,
            folder: folder.to_owned(),
            network,
            watch: std::sync::Mutex::default(),
        })
    }

    /// The node with channels as one of its methods.
    pub(crate) fn method(&self, node: NodeBuilder) -> NodeBuilder {
        node.method(Box::new(self.machine.clone()), self.runner.clone())
    }

    /// Takes up every channel that is not settled, also those of sessions that have ended, and
    /// watches all of them from now on.
    ///
    /// # Errors
    /// [`AppError`] where the store cannot be read.
    pub(crate) async fn begin(&self, node: &Node, identity: &SecretKey) -> Result<(), AppError> {
        for (purse, records) in purses(node, identity).await? {
            let over = |channel: &ChannelReport| channel.settled.is_some();
            if self
                .machine
                .report_of(purse, &records)
                .as_ref()
                .is_some_and(over)
            {
                continue;
            }
            // The watch does what the answer would.
            let _ = (self.machine.clone()).restore(node.clock().now(), purse, records);
        }
        let (runner, shown) = (self.runner.clone(), self.shown.clone());
        let (every, report) = (self.every, self.report);
        let machine = self.machine.clone();
        let mut tower = tower::Kept::new(&self.folder, self.network);
        let watch = tokio::spawn(async move {
            let mut known = BTreeMap::new();
            loop {
                if let Err(error) = runner.sync().await {
                    tracing::warn!(%error, "the chain could not be looked at");
                }
                for (purse, event) in runner.news() {
                    tell::event(report, purse, &event);
                }
                let now = machine.report();
                for channel in &now {
                    if known.get(&channel.purse) != Some(&channel.state) {
                        tell::state(report, channel);
                    }
                }
                let states = now.iter().map(|channel| (channel.purse, channel.state));
                known = states.collect();
                if let Some(shown) = &shown {
                    shown.keep_kits();
                }
                let rates = tower::rates();
                let own = now.iter().filter(|channel| channel.role == Role::Payee);
                let entries = own.filter_map(|own| machine.tower_entry(own.purse, &rates));
                if let Err(error) = tower.keep(entries.collect()) {
                    report.tell(&format!("the watchtower's file cannot be written: {error}"));
                }
                tokio::time::sleep(every).await;
            }
        });
        let mut slot = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(watch.abort_handle());
        Ok(())
    }

    /// The method as it stands in terms.
    ///
    /// # Errors
    /// [`AppError`] where the limits are none.
    pub fn terms(&self) -> Result<Method, AppError> {
        let params = self.machine.params();
        let params = params.map_err(|_| AppError::Failed("the channel's limits cannot be used"))?;
        Ok(Method {
            name: ChannelMachine::METHOD.to_owned(),
            params: params.encode().to_vec(),
        })
    }

    /// The longest life of a channel that this side pays into, in blocks.
    #[must_use]
    pub const fn life(&self) -> u32 {
        self.payer.life
    }

    /// What is set aside of a budget for the fee of a funding transaction.
    #[must_use]
    pub const fn funding_fee_max(&self) -> Amount {
        self.payer.funding_fee_max
    }

    /// How every channel of the home stands, those of sessions long over too.
    ///
    /// # Errors
    /// [`AppError`] where the store cannot be read.
    pub async fn book(&self, home: &Home) -> Result<Vec<ChannelReport>, AppError> {
        let all = purses(&home.node, &home.identity).await?.into_iter();
        let report = |(purse, records)| self.machine.report_of(purse, &records);
        Ok(all.filter_map(report).collect())
    }

    /// How every channel stands that is not settled.
    #[must_use]
    pub fn report(&self) -> Vec<ChannelReport> {
        self.machine.report()
    }

    /// Looks at the chain now and does what that asks for.
    ///
    /// # Errors
    /// [`AppError`] where the chain or the store fails.
    pub async fn look(&self) -> Result<(), AppError> {
        Ok(self.runner.sync().await?)
    }

    /// True where all that a session has out are channels that nobody has paid for, as far as the
    /// chain says.
    pub(crate) async fn only_unpaid(
        &self,
        home: &Home,
        session: &PayerSession,
    ) -> Result<bool, AppError> {
        let (out, book) = (session.purses_out(), self.book(home).await?);
        let unpaid = |id: PurseId| {
            let mut own = book.iter().filter(|channel| channel.outpoint.is_none());
            own.any(|own| own.purse.session == session.session() && own.purse.purse == id)
        };
        Ok(!out.is_empty() && out.into_iter().all(|(id, _)| unpaid(id)))
    }

    /// What left the wallet into a session's channels, and what has come back.
    pub(crate) async fn sums(&self, home: &Home, id: SessionId) -> Result<(Msat, Msat), AppError> {
        let own = self.book(home).await?.into_iter();
        let own = own.filter(|channel| {
            channel.purse.session == id && channel.role == Role::Payer && channel.outpoint.is_some()
        });
        Ok(own.fold((Msat::ZERO, Msat::ZERO), |(out, back), channel| {
            let cost = channel.value.to_sat();
            let cost = cost.saturating_add(channel.funding_fee.to_sat());
            let settled = channel.settled.map_or(0, |amount| amount.to_sat());
            (
                out.saturating_plus(sat(cost)),
                back.saturating_plus(sat(settled)),
            )
        }))
    }
}

/// All purses that are channels, with their records.
async fn purses(
    node: &Node,
    identity: &SecretKey,
) -> Result<Vec<(PurseKey, RestoredPurse)>, AppError> {
    let mut all = Vec::new();
    for session in node.sessions().await? {
        let (records, now) = (node.records_of(session).await?, node.clock().now());
        let own = identity.clone();
        let payer = PayerSession::restore(own.clone(), Policy::nothing(), now, session, &records);
        let purses = match payer {
            Ok(payer) => payer.purses(),
            // Whoever takes up the session says what is wrong with one that is neither.
            Err(_) => PayeeSession::restore(own, u64::MAX, now, session, &records)
                .map(|payee| payee.purses())
                .unwrap_or_default(),
        };
        for (purse, _) in (purses.into_iter()).filter(|(_, name)| name == ChannelMachine::METHOD) {
            let purse = PurseKey { session, purse };
            let prefix = purse_prefix(purse);
            let own = records.iter().filter_map(|(key, value)| {
                let key = key.strip_prefix(prefix.as_slice())?;
                Some((key.to_vec(), value.clone()))
            });
            all.push((purse, own.collect()));
        }
    }
    Ok(all)
}

impl Drop for Channels {
    fn drop(&mut self) {
        let slot = self.watch.get_mut();
        if let Some(watch) = slot.unwrap_or_else(PoisonError::into_inner).take() {
            watch.abort();
        }
    }
}

impl core::fmt::Debug for Channels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Channels").field(&self.machine).finish()
    }
}

/// About so many hours take so many blocks, at ten minutes each.
const fn hours(blocks: u32) -> u32 {
    blocks.saturating_mul(10) / 60
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}
