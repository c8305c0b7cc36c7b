//! A real cdk mint in the process, and a connector to it that counts, loses answers and tells
//! another time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cdk::mint::{Mint, MintBuilder, MintMeltLimits, UnitConfig};
use cdk::nuts::nut00::KnownMethod;
use cdk::nuts::{
    BatchCheckMintQuoteRequest, BatchMintRequest, CheckStateRequest, CheckStateResponse,
    CurrencyUnit, Id, KeySet, KeysetResponse, MeltRequest, MintInfo, MintRequest, MintResponse,
    PaymentMethod, PreMintSecrets, RestoreRequest, RestoreResponse, State, SwapRequest,
    SwapResponse,
};
use cdk::types::FeeReserve;
use cdk::wallet::types::ProofInfo;
use cdk::wallet::{
    AuthWallet, LnurlPayInvoiceResponse, LnurlPayResponse, MintConnector, Wallet, WalletBuilder,
};
use cdk::{Amount, Error};
use cdk_common::{
    MeltQuoteCreateResponse, MeltQuoteRequest, MeltQuoteResponse, MintQuoteRequest,
    MintQuoteResponse,
};
use cdk_fake_wallet::FakeWallet;
use cdk_redb::WalletRedbDatabase;
use cdk_sqlite::mint::memory;
use tempfile::TempDir;

pub(crate) const URL: &str = "https://mint.example";

/// What goes wrong with the next calls of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing goes wrong: for the calls before one that fails.
    Fine,
    /// It does not reach the mint.
    Away,
    /// The mint acts, its answer is lost.
    LoseAnswer,
    /// HTTP 429, nothing done.
    TooMany,
    /// The mint looks at it and does not take its witness.
    Refused,
    /// It knows of no signature (NUT-09), whatever it has signed.
    Empty,
    /// Its signatures (NUT-09) are none.
    IllSigned,
    /// The mint looks at it, and it does not add up.
    Unbalanced,
}

/// What the mint does with a swap whose witness is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It refuses it, by name.
    Refuses,
    /// It refuses it with a code that nobody knows.
    Unnamed,
    /// It signs the outputs.
    TakesAll,
}

pub(crate) struct TestMint {
    pub(crate) mint: Arc<Mint>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// Every swap that was asked for.
    swaps: Mutex<Vec<SwapRequest>>,
    /// What the mint says of the time, less the real time, in seconds. What it enforces is real.
    skew_s: AtomicI64,
    no_htlcs: AtomicBool,
    no_dleq: AtomicBool,
    /// What all inputs cost, by the mint's word.
    says_fee: Mutex<Option<u64>>,
    /// It says another fee each time that it is asked, from this one on.
    drift: Mutex<Option<u64>>,
    /// When all keysets end, by the mint's word.
    ends: Mutex<Option<u64>>,
    manner: Mutex<Manner>,
}

impl TestMint {
    pub(crate) async fn new(ppk: u64) -> Arc<Self> {
        let database = Arc::new(memory::empty().await.unwrap());
        let store: Arc<
            dyn cdk_common::database::MintDatabase<cdk_common::database::Error> + Send + Sync,
        > = database.clone();
        let mut builder = MintBuilder::new(store).with_limits(1000, 1000);
        let unit = UnitConfig {
            input_fee_ppk: ppk,
            ..UnitConfig::default()
        };
        builder.configure_unit(CurrencyUnit::Sat, unit).unwrap();
        let reserve = FeeReserve {
            min_fee_reserve: Amount::from(1),
            percent_fee_reserve: 0.02,
        };
        let lightning = FakeWallet::new(
            reserve,
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
            .unwrap();
        let mint = builder.build_with_seed(database, &[3; 64]).await.unwrap();
        Arc::new(Self {
            mint: Arc::new(mint),
            calls: Mutex::default(),
            faults: Mutex::default(),
            swaps: Mutex::default(),
            skew_s: AtomicI64::new(0),
            no_htlcs: AtomicBool::new(false),
            no_dleq: AtomicBool::new(false),
            says_fee: Mutex::default(),
            drift: Mutex::default(),
            ends: Mutex::default(),
            manner: Mutex::new(Manner::Refuses),
        })
    }

    /// Calls so far, all kinds together.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.lock().unwrap().values().sum()
    }

    /// Calls of one kind so far.
    pub(crate) fn calls_of(&self, kind: &'static str) -> u64 {
        let calls = self.calls.lock().unwrap();
        calls.get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn fail(&self, kind: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push((kind, fault));
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Lets the mint say another time.
    pub(crate) fn set_skew(&self, seconds: i64) {
        self.skew_s.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn set_manner(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    async fn swap(&self, request: SwapRequest) -> Result<SwapResponse, Error> {
        let manner = *self.manner.lock().unwrap();
        let outputs = request.outputs().clone();
        match (self.mint.process_swap_request(request).await, manner) {
            (Err(_), Manner::Unnamed) => {
                let text = "code: 11999, detail: refused".to_owned();
                Err(Error::UnknownErrorResponse(text))
            }
            (Err(_), Manner::TakesAll) => {
                let signatures = self.mint.blind_sign(outputs).await?;
                Ok(SwapResponse { signatures })
            }
            (answer, _) => answer,
        }
    }

    /// Lets the mint say that it has no NUT-14.
    pub(crate) fn without_htlcs(&self) {
        self.no_htlcs.store(true, Ordering::SeqCst);
    }

    /// Lets the mint leave out the proofs of its signatures.
    pub(crate) fn without_dleq(&self) {
        self.no_dleq.store(true, Ordering::SeqCst);
    }

    /// Lets the mint say that its keysets end.
    pub(crate) fn ends(&self, at: u64) {
        *self.ends.lock().unwrap() = Some(at);
    }

    /// Lets the mint say another fee than it takes, or again what it takes.
    pub(crate) fn says_fee(&self, ppk: Option<u64>) {
        *self.says_fee.lock().unwrap() = ppk;
    }

    /// Lets the mint say another fee each time that it is asked, or again what it takes.
    pub(crate) fn drifts(&self, drifts: bool) {
        *self.drift.lock().unwrap() = drifts.then_some(1);
        self.says_fee(None);
    }

    fn told(&self, mut set: KeySet) -> KeySet {
        let said = *self.says_fee.lock().unwrap();
        set.input_fee_ppk = said.unwrap_or(set.input_fee_ppk);
        set
    }

    /// Of every swap with locked inputs so far: the locks, and the preimages shown.
    pub(crate) fn shown(&self) -> Vec<(Vec<String>, Vec<[u8; 32]>)> {
        let swaps = self.swaps.lock().unwrap();
        let of = |swap: &SwapRequest| {
            let inputs = swap.inputs().iter();
            let locks = inputs.clone().filter_map(|input| {
                let secret = cdk::nuts::nut10::Secret::try_from(&input.secret).ok()?;
                Some(secret.secret_data().data().to_owned())
            });
            let preimages = inputs.filter_map(|input| match &input.witness {
                Some(cdk::nuts::Witness::HTLCWitness(witness)) => witness.preimage_data().ok(),
                _ => None,
            });
            (locks.collect::<Vec<_>>(), preimages.collect())
        };
        swaps
            .iter()
            .map(of)
            .filter(|(locks, _)| !locks.is_empty())
            .collect()
    }

    fn count(&self, kind: &'static str) -> Option<Fault> {
        *self.calls.lock().unwrap().entry(kind).or_default() += 1;
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(of, _)| *of == kind)?;
        Some(faults.remove(at).1)
    }

    /// The next answer of NUT-09 is one of these lies.
    fn says_of_signatures(&self, lie: Fault) -> bool {
        let mut faults = self.faults.lock().unwrap();
        let next = faults.iter().position(|(of, _)| *of == "restore");
        let Some(at) = next.filter(|at| faults[*at].1 == lie) else {
            return false;
        };
        faults.remove(at);
        drop(faults);
        *self.calls.lock().unwrap().entry("restore").or_default() += 1;
        true
    }

    async fn call<T>(
        &self,
        kind: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.count(kind) {
            None | Some(Fault::Fine) => work.await,
            Some(Fault::Away) => Err(Error::HttpError(None, "connection refused".to_owned())),
            Some(Fault::TooMany) => Err(Error::HttpError(Some(429), "slow down".to_owned())),
            Some(Fault::Refused) => Err(Error::SignatureMissingOrInvalid),
            Some(Fault::Unbalanced) => Err(Error::TransactionUnbalanced(0, 0, 0)),
            Some(lie @ (Fault::Empty | Fault::IllSigned)) => panic!("{kind} tells no {lie:?}"),
            Some(Fault::LoseAnswer) => {
                let _ = work.await;
                Err(Error::Timeout)
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Direct(pub(crate) Arc<TestMint>);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

fn not_here<T>() -> Result<T, Error> {
    Err(Error::UnsupportedPaymentMethod)
}

#[async_trait]
impl MintConnector for Direct {
    async fn fetch_lnurl_pay_request(&self, _: &str) -> Result<LnurlPayResponse, Error> {
        not_here()
    }

    async fn fetch_lnurl_invoice(&self, _: &str) -> Result<LnurlPayInvoiceResponse, Error> {
        not_here()
    }

    async fn get_mint_keys(&self) -> Result<Vec<KeySet>, Error> {
        let keys = async {
            let sets = self.0.mint.pubkeys().keysets.into_iter();
            Ok(sets.map(|set| self.0.told(set)).collect())
        };
        self.0.call("keys", keys).await
    }

    async fn get_mint_keyset(&self, id: Id) -> Result<KeySet, Error> {
        let keys = async {
            let mut keys = self.0.mint.keyset_pubkeys(&id)?.keysets;
            let set = keys.pop().ok_or(Error::UnknownKeySet)?;
            Ok(self.0.told(set))
        };
        self.0.call("keys", keys).await
    }

    async fn get_mint_keysets(&self) -> Result<KeysetResponse, Error> {
        let sets = async {
            let mut sets = self.0.mint.keysets();
            if let Some(fee) = self.0.drift.lock().unwrap().as_mut() {
                self.0.says_fee(Some(*fee));
                *fee += 1;
            }
            if let Some(fee) = *self.0.says_fee.lock().unwrap() {
                let says = |set: &mut cdk::nuts::KeySetInfo| set.input_fee_ppk = fee;
                sets.keysets.iter_mut().for_each(says);
            }
            if let Some(end) = *self.0.ends.lock().unwrap() {
                let ends = |set: &mut cdk::nuts::KeySetInfo| set.final_expiry = Some(end);
                sets.keysets.iter_mut().for_each(ends);
            }
            Ok(sets)
        };
        self.0.call("keysets", sets).await
    }

    async fn post_mint_quote(
        &self,
        _: MintQuoteRequest,
    ) -> Result<MintQuoteResponse<String>, Error> {
        not_here()
    }

    async fn post_mint(
        &self,
        _: &PaymentMethod,
        _: MintRequest<String>,
    ) -> Result<MintResponse, Error> {
        not_here()
    }

    async fn post_batch_check_mint_quote_status(
        &self,
        _: &PaymentMethod,
        _: BatchCheckMintQuoteRequest<String>,
    ) -> Result<Vec<MintQuoteResponse<String>>, Error> {
        not_here()
    }

    async fn post_batch_mint(
        &self,
        _: &PaymentMethod,
        _: BatchMintRequest<String>,
    ) -> Result<MintResponse, Error> {
        not_here()
    }

    async fn post_melt_quote(
        &self,
        _: MeltQuoteRequest,
    ) -> Result<MeltQuoteCreateResponse<String>, Error> {
        not_here()
    }

    async fn get_mint_quote_status(
        &self,
        _: PaymentMethod,
        _: &str,
    ) -> Result<MintQuoteResponse<String>, Error> {
        not_here()
    }

    async fn get_melt_quote_status(
        &self,
        _: PaymentMethod,
        _: &str,
    ) -> Result<MeltQuoteResponse<String>, Error> {
        not_here()
    }

    async fn post_melt(
        &self,
        _: &PaymentMethod,
        _: MeltRequest<String>,
    ) -> Result<MeltQuoteResponse<String>, Error> {
        not_here()
    }

    async fn post_swap(&self, request: SwapRequest) -> Result<SwapResponse, Error> {
        self.0.swaps.lock().unwrap().push(request.clone());
        let swap = async {
            let mut answer = self.0.swap(request).await?;
            if self.0.no_dleq.load(Ordering::SeqCst) {
                let signatures = answer.signatures.iter_mut();
                signatures.for_each(|signature| signature.dleq = None);
            }
            Ok(answer)
        };
        self.0.call("swap", swap).await
    }

    async fn get_mint_info(&self) -> Result<MintInfo, Error> {
        let info = async {
            let mut info = self.0.mint.mint_info().await?;
            let skew = self.0.skew_s.load(Ordering::SeqCst);
            let now = cdk::util::unix_time().checked_add_signed(skew).unwrap();
            info.time = Some(now);
            if self.0.no_htlcs.load(Ordering::SeqCst) {
                info.nuts.nut14.supported = false;
            }
            Ok(info)
        };
        self.0.call("info", info).await
    }

    async fn post_check_state(
        &self,
        request: CheckStateRequest,
    ) -> Result<CheckStateResponse, Error> {
        let states = self.0.mint.check_state(&request);
        self.0.call("state", states).await
    }

    async fn post_restore(&self, request: RestoreRequest) -> Result<RestoreResponse, Error> {
        if self.0.says_of_signatures(Fault::IllSigned) {
            let mut answer = self.0.mint.restore(request).await?;
            for (signature, output) in answer.signatures.iter_mut().zip(&answer.outputs) {
                signature.c = output.blinded_secret;
            }
            return Ok(answer);
        }
        if self.0.says_of_signatures(Fault::Empty) {
            return Ok(RestoreResponse {
                outputs: Vec::new(),
                signatures: Vec::new(),
            });
        }
        let restored = self.0.mint.restore(request);
        self.0.call("restore", restored).await
    }

    async fn get_auth_wallet(&self) -> Option<AuthWallet> {
        None
    }

    async fn set_auth_wallet(&self, _: Option<AuthWallet>) {}
}

/// A wallet at the mint, over a store in a folder.
pub(crate) struct Purseless {
    pub(crate) wallet: Arc<Wallet>,
    _folder: TempDir,
}

impl Purseless {
    pub(crate) async fn new(mint: &Arc<TestMint>, seed: u8, funds: u64) -> Self {
        Self::at(mint, URL, seed, funds).await
    }

    pub(crate) async fn at(mint: &Arc<TestMint>, url: &str, seed: u8, funds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = WalletRedbDatabase::new(&folder.path().join("wallet.redb")).unwrap();
        let store: Arc<
            dyn cdk_common::database::WalletDatabase<cdk_common::database::Error> + Send + Sync,
        > = Arc::new(store);
        let wallet = WalletBuilder::new()
            .mint_url(url.parse().unwrap())
            .unit(CurrencyUnit::Sat)
            .localstore(store)
            .seed([seed; 64])
            .client(Direct(mint.clone()))
            .without_rate_limiting()
            .build()
            .unwrap();
        let wallet = Arc::new(wallet);
        if funds > 0 {
            deposit(&wallet, mint, funds).await;
        }
        Self {
            wallet,
            _folder: folder,
        }
    }

    pub(crate) async fn spendable(&self) -> u64 {
        self.wallet.total_balance().await.unwrap().to_u64()
    }
}

/// Ecash that the mint signed for nothing.
pub(crate) async fn deposit(wallet: &Wallet, mint: &TestMint, funds: u64) {
    let set = wallet.active_keyset().await.unwrap();
    let amounts = (0..32)
        .map(|bit| 1_u64 << bit)
        .filter(|bit| funds & bit > 0);
    for amount in amounts {
        let secret = cdk::secret::Secret::generate();
        let amount = Amount::from(amount);
        let outputs = PreMintSecrets::from_secrets(set.id, vec![amount], vec![secret]).unwrap();
        let signed = mint.mint.blind_sign(outputs.blinded_messages()).await;
        let proofs = cdk::dhke::construct_proofs(
            signed.unwrap(),
            outputs.rs(),
            outputs.secrets(),
            &set.keys,
        );
        let infos = proofs.unwrap().into_iter().map(|proof| {
            let (url, unit) = (wallet.mint_url.clone(), wallet.unit.clone());
            ProofInfo::new(proof, url, State::Unspent, unit).unwrap()
        });
        let store = &wallet.localstore;
        store
            .update_proofs(infos.collect(), Vec::new())
            .await
            .unwrap();
    }
}
