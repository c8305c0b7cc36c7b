//! The machine's network calls, over the embedder's wallets.

mod budget;
mod check;
mod fault;
mod finish;
mod fund;
mod locked;
mod lost_split;
mod outputs;
mod quote;
mod swap;
mod swap_in;
mod times;

pub use self::budget::CallBudget;
pub use self::check::{MintFault, MintPolicy, announced_nuts, canary, canary_home, check_mint};
pub use self::locked::LostFunding;
pub use self::outputs::find_signed;
pub use self::quote::{PurseQuote, best_mint, purse_quote};

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cdk::mint_url::MintUrl;
use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use cdk::wallet::types::KeysetLoadPolicy;
use streampay_core::backend::{BackendError, Consumed, Effect, EffectResult, RefusalCode};
use streampay_core::driver::EffectRunner;

use self::budget::Pacer;
use self::times::Times;
use crate::codec;
use crate::coin::Seed;
use crate::job::{Done, Job, Place};
use crate::keysets::Keysets;
use crate::locked::job::LockedJob;

/// Where the embedder keeps his wallets.
///
/// A wallet's own pacing (cdk: 20 requests, then one each 3 s) also paces this runner, and a swap
/// is a request a tick: build the wallets with `without_rate_limiting`, or with a configuration
/// that the mint's limits allow.
#[async_trait]
pub trait Wallets: Send + Sync + 'static {
    /// The wallet for `unit` at `mint`; none where the user has nothing to do with that mint. It
    /// must be the same wallet every time, with its store on disk.
    async fn wallet(&self, mint: &MintUrl, unit: &CurrencyUnit) -> Option<Arc<Wallet>>;

    /// The time at `mint`, in seconds since 1970, as the `Date` of an HTTP answer says it: asked for
    /// where the mint's info does not tell it (NUT-06). Without either no locks are taken there.
    async fn mint_time(&self, mint: &MintUrl) -> Option<u64> {
        let _ = mint;
        None
    }

    /// False where `mint` was found not to enforce locks ([`canary`]): no locked ecash is made or
    /// taken there.
    fn trusts_locks(&self, mint: &MintUrl) -> bool {
        let _ = mint;
        true
    }

    /// The most that an input at `mint` may cost, in thousandths of the unit, whatever terms say: no
    /// purse is opened where it costs more.
    fn max_fee_ppk(&self, mint: &MintUrl) -> u64 {
        let _ = mint;
        u64::MAX
    }

    /// NUTs that `mint` must say it has, besides those that a way to pay needs: where it lacks one, no purse is
    /// opened or taken. [`MintPolicy::ANNOUNCED`] are those that a mint can say. Source: NUT-06.
    fn needed_nuts(&self, mint: &MintUrl) -> Vec<u8> {
        let _ = mint;
        Vec::new()
    }

    /// True while nothing may be paid from what the user has at `mint`: no purse is opened there. Those that
    /// are open go on, and come home.
    fn holds_back(&self, mint: &MintUrl) -> bool {
        let _ = mint;
        false
    }

    /// What `mint` is asked at most; none for as much as there is to ask. Whatever the budget, a mint
    /// that answers 429 is left alone, for longer each time: what is asked meanwhile is
    /// [`Transient`](streampay_core::backend::BackendError::Transient).
    fn budget(&self, mint: &MintUrl) -> Option<CallBudget> {
        let _ = mint;
        None
    }
}

/// Makes the calls of a [`SwapMachine`](crate::SwapMachine) and of a
/// [`LockedMachine`](crate::LockedMachine).
#[derive(Clone)]
pub struct Runner {
    wallets: Arc<dyn Wallets>,
    limit: Duration,
    pacer: Arc<Pacer>,
    times: Arc<Times>,
}

impl Runner {
    /// The time one effect may take, in which a lost answer is asked for once more.
    pub const LIMIT: Duration = Duration::from_secs(10);

    /// A runner over the embedder's wallets.
    #[must_use]
    pub fn new(wallets: Arc<dyn Wallets>) -> Self {
        Self {
            wallets,
            limit: Self::LIMIT,
            pacer: Arc::new(Pacer::default()),
            times: Arc::new(Times::default()),
        }
    }

    /// The same with another limit for one effect.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs what somebody wants of `mint` who has paid nothing yet: within a third of its budget,
    /// so that whoever pays is never kept waiting by those who do not. `work` ends in what it found
    /// out and fails as the mint's calls do.
    ///
    /// # Errors
    /// [`BackendError::Transient`], and nothing is asked, where the budget is used up or the mint
    /// wants to be left alone; else those of `work`.
    pub async fn of_stranger<T>(
        &self,
        mint: &str,
        work: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let most = self.limit / 2;
        let budget = self.budget_of(mint);
        self.pacer
            .pace_stranger(&pace_name(mint), budget, most, work)
            .await
    }

    fn budget_of(&self, mint: &str) -> Option<CallBudget> {
        let mint = MintUrl::from_str(mint).ok();
        mint.and_then(|mint| self.wallets.budget(&mint))
    }

    /// Hundreds of proofs in one request take some mints long.
    const fn limit_of(&self, job: &Job) -> Duration {
        match job {
            Job::Locked(_) => self.limit.saturating_mul(MANY),
            _ => self.limit,
        }
    }

    async fn run_job(&self, job: Job) -> Result<Done, BackendError> {
        match job {
            Job::Plan {
                mints,
                budget,
                max_fee_permille,
            } => {
                let tick = |net| fund::Tick::net(net, max_fee_permille);
                let mints = self.as_their_owner_asks(mints).await?;
                let plan = self.plan(&mints, tick, budget).await?;
                Ok(Done::Planned(plan))
            }
            Job::Fund { plan, again } => {
                let wallet = self.wallet(&plan.place).await?;
                fund::fund(&wallet, &plan, again, self.limit).await
            }
            Job::Keysets { place, refresh } => {
                let wallet = self.wallet(&place).await?;
                if !refresh && !self.is_as_its_owner_asks(&wallet).await? {
                    let code = RefusalCode::WrongMint;
                    return Err(BackendError::Rejected(code, Consumed::No));
                }
                let keysets = keysets(&wallet, refresh).await?;
                Ok(Done::Keysets(keysets, random_seed()))
            }
            Job::SwapIn { swap } => {
                let wallet = self.wallet(&swap.place).await?;
                swap_in::swap_in(&wallet, &swap, self.limit).await
            }
            Job::Finish {
                place,
                unsent,
                gone,
            } => {
                let wallet = self.wallet(&place).await?;
                finish::finish(&wallet, place.operation(), &unsent, &gone).await
            }
            Job::Received { place } => {
                let wallet = self.wallet(&place).await?;
                let kind = crate::figures::RECEIVED;
                finish::ledger_sum(&wallet, place.operation(), kind).await
            }
            Job::Abandon { mints } => {
                for place in &mints {
                    if let Ok(wallet) = self.wallet(place).await {
                        let freed = wallet.localstore.release_proofs(&place.operation()).await;
                        freed.map_err(|_| OWN_STORE)?;
                    }
                }
                Ok(Done::Sum(0))
            }
            Job::Locked(job) => self.run_locked(*job).await.map(Done::Locked),
        }
    }

    async fn wallet(&self, place: &Place) -> Result<Arc<Wallet>, BackendError> {
        let mint = MintUrl::from_str(&place.mint).map_err(|_| NO_MINT)?;
        let unit = CurrencyUnit::from_str(&place.unit).map_err(|_| NO_MINT)?;
        self.wallets.wallet(&mint, &unit).await.ok_or(NO_MINT)
    }
}

#[async_trait]
impl EffectRunner for Runner {
    async fn run(&self, effect: Effect) -> EffectResult {
        let result = match codec::decode::<Job>(&effect.body, usize::MAX) {
            Ok(job) => {
                let late = late(&job);
                let mint = job.mint().map(str::to_owned);
                let (limit, half) = (self.limit_of(&job), self.limit / 2);
                let run = async {
                    match mint {
                        Some(mint) => {
                            let budget = self.budget_of(&mint);
                            // What is earned is brought home in time, whoever asks what meanwhile.
                            let budget = budget.filter(|_| !job.is_redeeming());
                            let run = self.run_job(job);
                            let mint = pace_name(&mint);
                            self.pacer.pace(&mint, budget, half, run).await
                        }
                        None => self.run_job(job).await,
                    }
                };
                let ended = tokio::time::timeout(limit, run).await;
                ended.unwrap_or(Err(late))
            }
            Err(_) => Err(BackendError::Fatal(RefusalCode::Malformed)),
        };
        if let Err(error) = &result {
            tracing::debug!(purse = effect.purse.purse.0, effect = effect.id.0, %error, "effect");
        }
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: result.map(|done| codec::encode(&done).into()),
        }
    }
}

impl core::fmt::Debug for Runner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runner")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// One name for a mint, however its address is spelled.
fn pace_name(mint: &str) -> String {
    match MintUrl::from_str(mint) {
        Ok(url) => url.to_string(),
        Err(_) => mint.to_owned(),
    }
}

/// How much longer an effect on a whole purse may take.
const MANY: u32 = 3;
const NO_MINT: BackendError = BackendError::Fatal(RefusalCode::NoCommonMethod);
/// Our own store failed: nothing is lost, and the same again may work.
const OWN_STORE: BackendError = BackendError::Unknown;

/// What a job that ran out of time has become.
fn late(job: &Job) -> BackendError {
    let acts = match job {
        Job::Fund { .. } | Job::SwapIn { .. } => true,
        Job::Locked(job) => matches!(**job, LockedJob::Fund { .. } | LockedJob::Redeem { .. }),
        _ => false,
    };
    if acts {
        BackendError::Unknown
    } else {
        BackendError::Transient
    }
}

/// What the mint's keysets are. `refresh` asks the mint, else a fresh cache will do.
async fn keysets(wallet: &Wallet, refresh: bool) -> Result<Keysets, BackendError> {
    let policy = if refresh {
        KeysetLoadPolicy::Refresh
    } else {
        KeysetLoadPolicy::CacheThenNetwork
    };
    let sets = wallet.keysets(policy).await.map_err(fault::of_reading)?;
    Keysets::new(sets).ok_or(BackendError::Transient)
}

fn random_seed() -> Seed {
    use cdk::secp256k1::rand::RngCore;
    let mut bytes = [0; 64];
    cdk::secp256k1::rand::thread_rng().fill_bytes(&mut bytes);
    Seed::new(bytes)
}
