//! A real cdk mint within this process, with a Lightning backend that only pretends.

pub mod faults_for_testing;
pub mod tally;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cdk::Amount;
use cdk::mint::{Mint, MintBuilder, MintMeltLimits, UnitConfig};
use cdk::nuts::nut00::KnownMethod;
use cdk::nuts::{CurrencyUnit, PaymentMethod};
use cdk::types::FeeReserve;
use cdk_axum::cache::HttpCache;
use cdk_axum::create_mint_router_with_custom_cache;
use cdk_common::database::MintDatabase;
use cdk_fake_wallet::FakeWallet;
use cdk_sqlite::mint::{MintSqliteDatabase, memory};
use streampay_core::units::Msat;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::faults_for_testing::FaultSwitch;
use self::tally::Tally;
use crate::home::{lock, private_file};
use crate::http::{self, Limits};
use crate::seed_file;

/// Why the embedded mint does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: is it in use? choose another with --listen")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The folder cannot be written.
    #[error("cannot use the mint's folder: check that it can be written")]
    Folder(#[source] std::io::Error),
    /// Another process has the folder.
    #[error(transparent)]
    InUse(#[from] crate::wallet::WalletError),
    /// The mint's database failed.
    #[error("the mint's database failed: check the disk's space, then start again")]
    Database(#[source] cdk_common::database::Error),
    /// The mint itself failed.
    #[error("the mint failed: start it again")]
    Mint(#[source] cdk::Error),
    /// The HTTP side could not be put together.
    #[error("the mint's HTTP side failed: start it again")]
    Http,
}

/// Where the mint keeps its keys and spent coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: all its ecash is worthless once it stops.
    Memory,
    /// A folder of its own. After a crash the same keys and coins are there again.
    Folder(PathBuf),
}

/// The mint's own count of its ecash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All signatures it ever made, in their amounts.
    pub issued: Msat,
    /// All proofs it ever took.
    pub redeemed: Msat,
    /// Input fees it kept.
    pub fees: Msat,
}

impl Ledger {
    /// What is out there: the sum of all wallets.
    #[must_use]
    pub const fn outstanding(&self) -> Msat {
        self.issued.saturating_minus(self.redeemed)
    }
}

/// A running mint. Dropping it stops it.
pub struct EmbeddedMint {
    mint: Arc<Mint>,
    address: SocketAddr,
    faults: FaultSwitch,
    tally: Tally,
    shutdown: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    _lock: Option<File>,
}

impl EmbeddedMint {
    /// The input fee of a keyset made here, in parts per thousand of a satoshi a proof.
    pub const INPUT_FEE_PPK: u64 = 100;

    /// Starts a mint. `input_fee_ppk` holds for a new keyset; one in the folder with another fee
    /// is rotated out.
    ///
    /// # Errors
    /// [`MintError`] for the part that did not start.
    pub async fn start(
        listen: SocketAddr,
        storage: Storage,
        input_fee_ppk: u64,
    ) -> Result<Self, MintError> {
        let lock = match &storage {
            Storage::Memory => None,
            Storage::Folder(folder) => Some(lock(folder, "mint.lock")?),
        };
        let (database, seed) = open(&storage).await?;
        let mint = build(database, &*seed, input_fee_ppk).await?;
        let mint = Arc::new(mint);
        mint.start().await.map_err(MintError::Mint)?;

        let (faults, tally) = (FaultSwitch::default(), Tally::default());
        // No kept answers (NUT-19): nutshell keeps none either, so nobody here may rely on them.
        let forgetful = HttpCache::new(Duration::ZERO, Duration::ZERO, None);
        let methods = vec!["bolt11".to_owned()];
        let router = create_mint_router_with_custom_cache(mint.clone(), forgetful, methods, false);
        let router = router.await;
        let router = router
            .map_err(|_| MintError::Http)?
            .layer(axum::middleware::from_fn(to_the_end))
            .layer(axum::middleware::from_fn_with_state(
                tally.clone(),
                tally::count,
            ))
            .layer(axum::middleware::from_fn_with_state(
                faults.clone(),
                faults_for_testing::inject,
            ));
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| MintError::Listen(listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| MintError::Listen(listen, error))?;
        let (shutdown, mut wanted) = watch::channel(false);
        let server = tokio::spawn(async move {
            let stopped = async move {
                // An error means that the mint was dropped.
                let _ = wanted.wait_for(|stop| *stop).await;
            };
            http::serve(listener, router, Limits::shared_address(), stopped).await;
        });
        Ok(Self {
            mint,
            address,
            faults,
            tally,
            shutdown,
            server: Some(server),
            _lock: lock,
        })
    }

    /// Where wallets find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The mint's own sums, from its database.
    ///
    /// # Errors
    /// [`MintError`] where they cannot be read.
    pub async fn ledger(&self) -> Result<Ledger, MintError> {
        let issued = self.mint.total_issued().await.map_err(MintError::Mint)?;
        let redeemed = self.mint.total_redeemed().await.map_err(MintError::Mint)?;
        let store = self.mint.localstore();
        let operations = store.get_completed_operations().await;
        let operations = operations.map_err(MintError::Database)?;
        let fees = operations.iter().map(|done| done.fee_collected());
        Ok(Ledger {
            issued: total(issued.into_values())?,
            redeemed: total(redeemed.into_values())?,
            fees: total(fees)?,
        })
    }

    /// How many swaps it was asked for.
    #[must_use]
    pub fn swaps(&self) -> u64 {
        self.faults.seen("/v1/swap")
    }

    /// What its HTTP layer was asked.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Makes this mint misbehave. For tests.
    #[must_use]
    pub const fn faults_for_testing(&self) -> &FaultSwitch {
        &self.faults
    }

    /// The cdk mint itself. For tests.
    #[must_use]
    pub const fn mint_for_testing(&self) -> &Arc<Mint> {
        &self.mint
    }

    /// Stops listening, lets requests under way end for up to a second, then stops the mint.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(Duration::from_secs(1), &mut server)
                .await
                .is_err()
        {
            server.abort();
        }
        if let Err(error) = self.mint.stop().await {
            tracing::debug!(%error, "the mint did not stop cleanly");
        }
    }
}

impl Drop for EmbeddedMint {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl core::fmt::Debug for EmbeddedMint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EmbeddedMint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Opened = (Arc<MintSqliteDatabase>, zeroize::Zeroizing<[u8; 64]>);

async fn open(storage: &Storage) -> Result<Opened, MintError> {
    match storage {
        Storage::Memory => {
            let database = memory::empty().await.map_err(MintError::Database)?;
            let mut seed = zeroize::Zeroizing::new([0; 64]);
            for half in seed.chunks_exact_mut(32) {
                half.copy_from_slice(&cdk::nuts::SecretKey::generate().to_secret_bytes());
            }
            Ok((Arc::new(database), seed))
        }
        Storage::Folder(folder) => {
            let seed = seed_in(folder).map_err(MintError::Folder)?;
            let path = folder.join("mint.sqlite");
            private_file(&path).map_err(MintError::Folder)?;
            let database = MintSqliteDatabase::new(path).await;
            Ok((Arc::new(database.map_err(MintError::Database)?), seed))
        }
    }
}

fn seed_in(folder: &Path) -> std::io::Result<zeroize::Zeroizing<[u8; 64]>> {
    std::fs::create_dir_all(folder)?;
    seed_file::load_or_create(folder, "mint.seed")
}

async fn build(
    database: Arc<MintSqliteDatabase>,
    seed: &[u8],
    input_fee_ppk: u64,
) -> Result<Mint, MintError> {
    let store: Arc<dyn MintDatabase<cdk_common::database::Error> + Send + Sync> = database.clone();
    let mut builder = MintBuilder::new(store)
        .with_name("streampay embedded mint".to_owned())
        .with_description("Its Lightning backend only pretends: never use it for money.".to_owned())
        .with_limits(1000, 1000);
    let unit = UnitConfig {
        input_fee_ppk,
        ..UnitConfig::default()
    };
    builder
        .configure_unit(CurrencyUnit::Sat, unit)
        .map_err(MintError::Mint)?;
    let fee_reserve = FeeReserve {
        min_fee_reserve: Amount::from(1),
        percent_fee_reserve: 0.02,
    };
    let lightning = FakeWallet::new(
        fee_reserve,
        HashMap::new(),
        HashSet::new(),
        0,
        CurrencyUnit::Sat,
    );
    builder
        .add_payment_processor(
            CurrencyUnit::Sat,
            PaymentMethod::Known(KnownMethod::Bolt11),
            MintMeltLimits::new(1, 10_000_000),
            Arc::new(lightning),
        )
        .await
        .map_err(MintError::Mint)?;
    let keys = database;
    builder
        .build_with_seed(keys, seed)
        .await
        .map_err(MintError::Mint)
}

fn total(amounts: impl Iterator<Item = Amount>) -> Result<Msat, MintError> {
    let overflow = || MintError::Mint(cdk::Error::AmountOverflow);
    let sum = Amount::try_sum(amounts).map_err(|_| overflow())?;
    Msat::from_sat(sum.to_u64()).map_err(|_| overflow())
}

/// Finishes a request whose caller hung up: a swap that stops half-way would leave its proofs
/// pending until the mint is started again.
async fn to_the_end(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse;
    let done = tokio::spawn(next.run(request)).await;
    done.unwrap_or_else(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
