//! Bitcoin channels for the programs: where blocks come from, who pays into a channel, and a watch
//! over all channels of a home for as long as it is open.

pub mod cli;
pub mod commands;
pub mod demo;
pub mod fees;
mod lab;
mod of_session;
pub mod quote;
pub mod settings;
pub mod shares;
pub mod source;
mod tell;
pub mod tower;
mod wallet;
mod watching;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cdk_common::util::unix_time;
use streampay_btc::bitcoin::{Address, Amount, FeeRate, Network, ScriptBuf, Transaction};
use streampay_btc::chain::ChainSource;
use streampay_btc::keys::Seed;
use streampay_btc::machine::{ChannelConfig, ChannelMachine, ChannelReport, Role};
use streampay_btc::params::ParamsError;
use streampay_btc::policy::{PayeePolicy, PayerPolicy};
use streampay_btc::runner::{FundingWallet, Runner};
use streampay_core::backend::{BackendMachine as _, RestoredPurse};
use streampay_core::driver::{Clock, Node, NodeBuilder, StoreWriter};
use streampay_core::session::{Entropy, PayeeSession, PayerSession, Policy, SecretKey};
use streampay_core::store::purse_prefix;
use streampay_core::units::{Msat, PurseKey, Unix};
use streampay_core::wire::Method;
use tokio::task::JoinHandle;

use self::fees::{FeeWalletReport, FeeWalletSetup, SWEEP_TARGET};
use self::watching::{Watched, Watching};
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::history::date;
use crate::report::Report;

pub use self::wallet::Shown;

/// What a block takes, in seconds.
const BLOCK_S: u64 = 600;
/// A node's blocks are read in parts: so many are enough for as long as payments are looked for.
const LOOKS: usize = 12;

/// What a home needs for its channels.
#[derive(Clone)]
pub struct Setup {
    /// Chain and limits, both roles'.
    pub config: ChannelConfig,
    /// Where blocks come from.
    pub source: Arc<dyn ChainSource>,
    /// Who pays into a channel; none where an address is shown to the user.
    pub wallet: Option<Arc<dyn FundingWallet>>,
    /// Coins that help to close channels, where there are any.
    pub fee_wallet: Option<FeeWalletSetup>,
    /// How often the chain is looked at.
    pub every: Duration,
    /// Who is told.
    pub report: Report,
    /// False where the channels' records are read, and nothing more: nobody looks at the chain.
    pub(crate) is_watched: bool,
}

/// How often the chain is looked at. Blocks take minutes, but on a regtest chain, where they come when somebody
/// wants them.
const fn look_every(network: Network) -> Duration {
    match network {
        Network::Regtest => Duration::from_secs(1),
        _ => Duration::from_secs(20),
    }
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
            fee_wallet: None,
            every: look_every(network),
            report,
            is_watched: true,
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

    /// Has coins help to close channels.
    pub fn take_fee_wallet(&mut self, wallet: FeeWalletSetup) {
        let max = Amount::from_sat(wallet.max.sat_floor());
        self.config.payee.wallet_fee_max = max;
        self.fee_wallet = Some(wallet);
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
    runner: Arc<Watched>,
    shown: Option<Arc<Shown>>,
    spent: Arc<watching::Spent>,
    payer: PayerPolicy,
    clock: Clock,
    /// The most that the fee wallet pays for one close, where there is one.
    fee_wallet_max: Option<Msat>,
    every: Duration,
    is_watched: bool,
    report: Report,
    folder: std::path::PathBuf,
    network: Network,
    watch: std::sync::Mutex<Option<JoinHandle<()>>>,
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
        let damaged = |_| AppError::Failed("the identity file is damaged");
        let mut machine = machine.map_err(damaged)?;
        let fee_wallet = setup.fee_wallet;
        if let Some(seed) = fee_wallet.as_ref().and_then(|wallet| wallet.seed.as_ref()) {
            machine = machine.with_fee_seed(seed).map_err(damaged)?;
        }
        let (wallet, shown): (Arc<dyn FundingWallet>, _) = match setup.wallet {
            Some(wallet) => (wallet, None),
            None => {
                let shown = Shown::new(machine.clone(), folder.join("channels"), setup.report);
                let shown = Arc::new(shown);
                (shown.clone(), Some(shown))
            }
        };
        let (source, clock) = (setup.source, Clock::start());
        let mut runner = Runner::new(machine.clone(), source, wallet, store, clock);
        if let Some(wallet) = &fee_wallet {
            runner = runner.with_fee_wallet(wallet.since);
        }
        Ok(Self {
            runner: Arc::new(runner),
            fee_wallet_max: fee_wallet.map(|wallet| wallet.max),
            machine,
            shown,
            spent: Arc::default(),
            payer,
            clock,
            every: setup.every,
            is_watched: setup.is_watched,
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
    /// watches all of them from now on; nothing where their records are only to be read.
    ///
    /// # Errors
    /// [`AppError`] where the store cannot be read.
    pub(crate) async fn begin(&self, node: &Node, identity: &SecretKey) -> Result<(), AppError> {
        if !self.is_watched {
            return Ok(());
        }
        for (purse, records) in purses(node, identity).await? {
            let over = |channel: &ChannelReport| {
                channel.settled.is_some() && channel.besides_open() == Amount::ZERO
            };
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
        let watching = Watching {
            machine: self.machine.clone(),
            runner: self.runner.clone(),
            shown: self.shown.clone(),
            spent: self.spent.clone(),
            report: self.report,
            every: self.every,
            restored: (self.machine.report().iter())
                .map(|channel| channel.purse)
                .collect(),
            has_fee_wallet: self.fee_wallet_max.is_some(),
            tower: tower::Kept::new(&self.folder, self.network),
        };
        let watch = tokio::spawn(watching.run());
        let mut slot = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(watch);
        Ok(())
    }

    /// Ends the watch, and tells what it has not told yet: nothing of it comes after this.
    pub(crate) async fn end_watch(&self) {
        let watch = {
            let mut slot = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            slot.take()
        };
        if let Some(watch) = watch {
            watch.abort();
            let _ = watch.await;
        }
        watching::tell_events(&self.machine, &self.runner, &self.spent, self.report);
    }

    /// The method as it stands in terms.
    ///
    /// # Errors
    /// [`AppError`] where the limits are none, or the chain was not seen for an hour.
    pub fn terms(&self) -> Result<Method, AppError> {
        let params = self.machine.params(self.clock.now());
        let params = params.map_err(|error| match error {
            // What closing costs today is part of it.
            ParamsError::NoView => {
                AppError::Failed("the chain was not seen within an hour: no channel can be offered")
            }
            _ => AppError::Failed("the channel's limits cannot be used"),
        })?;
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

    /// The most that this side puts aside for closing a channel.
    #[must_use]
    pub const fn reserve_max(&self) -> Amount {
        self.payer.reserve_max
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

    /// True once the chain has shown, to this process, a transaction that spends this channel: what is left
    /// waits for blocks.
    pub(crate) fn is_leaving(&self, purse: PurseKey) -> bool {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.contains(&purse)
    }

    /// How every channel stands that is not settled.
    #[must_use]
    pub fn report(&self) -> Vec<ChannelReport> {
        self.machine.report()
    }

    /// True where coins of this side help to close channels.
    #[must_use]
    pub const fn has_fee_wallet(&self) -> bool {
        self.fee_wallet_max.is_some()
    }

    /// How the fee wallet stands, as of the last look; none where there is none.
    #[must_use]
    pub fn fee_wallet(&self) -> Option<FeeWalletReport> {
        let max = self.fee_wallet_max?;
        let script = self.machine.fee_script();
        Some(FeeWalletReport {
            address: Address::from_script(&script, self.network).ok()?,
            balance: sat(self.machine.fee_balance().to_sat()),
            max,
        })
    }

    /// Sends all that the fee wallet holds to the payout, at the rate of a close that nobody hurries.
    pub(crate) async fn empty_fee_wallet(&self) -> Result<(Transaction, FeeRate), AppError> {
        let view = self.runner.chain().view(&[]).await?;
        let rate = view.fees.rate(SWEEP_TARGET);
        let tx = self.machine.sweep_fee_wallet(rate);
        let tx = tx.map_err(|_| AppError::Failed("the fee wallet holds nothing worth sending"))?;
        self.runner.chain().broadcast(&tx).await?;
        Ok((tx, rate))
    }

    /// Looks for what was paid to the addresses of all channels besides, of those that are settled or whose
    /// time is long over too, and tells what has yet to come back. True where that is nothing, and all was
    /// looked through.
    ///
    /// # Errors
    /// [`AppError`] where the store cannot be read.
    pub(crate) async fn find_besides(&self, home: &Home) -> Result<bool, AppError> {
        for (purse, records) in purses(&home.node, &home.identity).await? {
            let own = self.machine.report_of(purse, &records);
            let payer = own.is_some_and(|own| own.role == Role::Payer);
            // One that is watched stays as it is.
            if payer && !self.machine.knows(purse) {
                let _ = (self.machine.clone()).restore(home.node.clock().now(), purse, records);
            }
            self.machine.seek_besides(purse);
        }
        let mut looked = Ok(());
        for _ in 0..LOOKS {
            looked = self.look().await;
            if looked.is_err() || self.machine.besides().is_empty() {
                break;
            }
        }
        if looked.is_ok() && self.machine.besides().is_empty() {
            // What was found, and whose time is over, is taken back at once.
            looked = self.look().await;
        }
        watching::tell_events(&self.machine, &self.runner, &self.spent, self.report);
        if let Err(error) = &looked {
            self.report
                .tell(&format!("the chain cannot be seen now: {error}"));
        }
        let left = self.machine.besides();
        for of in &left {
            let session = of.purse.session;
            self.report.tell(&format!(
                "session {session}: what else was paid to its channel's address could not be looked for; try \
                 again later"
            ));
        }
        let book = self.book(home).await?.into_iter();
        let open = book.filter(|channel| channel.besides_open() > Amount::ZERO);
        let mut none = looked.is_ok() && left.is_empty();
        for channel in open {
            none = false;
            let session = channel.purse.session;
            let words = besides(channel.besides_open().to_sat(), &channel);
            self.report.tell(&format!("session {session}: {words}"));
        }
        Ok(none)
    }

    /// Looks at the chain now and does what that asks for.
    ///
    /// # Errors
    /// [`AppError`] where the chain or the store fails.
    pub async fn look(&self) -> Result<(), AppError> {
        Ok(self.runner.sync().await?)
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

/// A height that is so many blocks away, with the time when it comes, at ten minutes each.
fn height(height: u32, left: Option<u32>) -> String {
    let now = Unix(unix_time());
    match left {
        Some(left) => {
            let at = now.after_s(u64::from(left).saturating_mul(BLOCK_S));
            format!("{height} (about {} UTC)", date(at))
        }
        None => height.to_string(),
    }
}

/// What was paid to a channel's address besides, in words.
fn besides(sat: u64, channel: &ChannelReport) -> String {
    format!(
        "{sat} sat were paid to its address besides, and come back by themselves after block {}",
        height(channel.expiry, channel.left)
    )
}

/// About so many hours take so many blocks, at ten minutes each.
const fn hours(blocks: u32) -> u32 {
    blocks.saturating_mul(10) / 60
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}
