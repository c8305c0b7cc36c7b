//! Tokens that come with HTTP requests of plain players. Source: NUT-24.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use cdk::nuts::{CurrencyUnit, Token};
use streampay_cashu::Runner;
use streampay_core::meter::{Reading, Tariff};
use streampay_core::store::StoreError;
use streampay_core::units::Msat;
use streampay_media::whep::{Kept, PaymentError, Paywall};

use super::claims::{Claims, Name};
use super::offered::{Offered, takes_spans};
use super::serve::Offer;
use crate::home::Home;
use crate::price::Price;
use crate::report::Report;
use crate::wallet::{Unproven, WalletError, WalletFolder};

/// Sells spans of one tick for tokens of the mints that are fit and taken at their face value.
pub(super) struct CashuPaywall {
    till: Till,
    runner: Arc<Runner>,
    offered: Arc<Offered>,
    report: Report,
}

/// Where tokens become the streamer's, and what was sold for them.
struct Till {
    wallet: Arc<WalletFolder>,
    claims: Claims,
    price: Price,
}

impl CashuPaywall {
    /// None where no mint of the offer is ever taken at its face value.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read what was sold before.
    pub(super) async fn new(
        home: &Home,
        offered: &Arc<Offered>,
        offer: &Offer,
    ) -> Result<Option<Self>, StoreError> {
        if !offer.mints.iter().any(|listed| takes_spans(&listed.mint)) {
            return Ok(None);
        }
        let till = Till {
            wallet: home.wallet.clone(),
            claims: Claims::open(home.store.clone()).await?,
            price: offer.price,
        };
        Ok(Some(Self {
            till,
            runner: home.runner.clone(),
            offered: offered.clone(),
            report: offer.report,
        }))
    }

    /// What is wrong with a token, as far as that can be told without asking anybody, where those of
    /// `mints` are taken.
    fn check(&self, token: &str, mints: &[String]) -> Result<(Token, Msat), &'static str> {
        let token = Token::from_str(token).map_err(|_| "not a Cashu token")?;
        if token.unit() != Some(CurrencyUnit::Sat) {
            return Err("the token is not in sat");
        }
        let mint = token.mint_url().map_err(|_| "not a token of one mint")?;
        let mint = mint.to_string();
        let is_it = |taken: &String| taken.trim_end_matches('/') == mint.trim_end_matches('/');
        if !mints.iter().any(is_it) {
            return Err("the token is of a mint that is not taken now; nothing was taken");
        }
        let value = token.value().map_err(|_| "the token has no value")?;
        let value = Msat::from_sat(value.to_u64()).map_err(|_| "the token has no value")?;
        // What it takes to redeem it may come on top: at most a sat for each proof, and how much, its
        // keys say.
        let proofs = u64::try_from(token.token_secrets().len()).unwrap_or(u64::MAX);
        let most = Msat::from_sat(proofs).map_err(|_| "too many proofs")?;
        if value < self.till.price.tick {
            return Err("the token is worth less than a span costs");
        }
        if value > self.till.price.tick.saturating_plus(most) {
            return Err("the token is worth more than a span costs; nothing was taken");
        }
        Ok((token, value))
    }

    /// That the mint signed it, by its keys; it is asked for them where it seems to have new ones. It
    /// gives what redeeming it costs.
    async fn prove(&self, token: &Token, mint: &str) -> Result<Msat, PaymentError> {
        let proven = match self.till.wallet.prove(token, false).await {
            Err(Unproven::UnknownKeys) => {
                let asked = async { Ok(self.till.wallet.prove(token, true).await) };
                let asked = self.runner.of_stranger(mint, asked).await;
                asked.map_err(|_| PaymentError::Unavailable)?
            }
            proven => proven,
        };
        let why = match proven {
            Ok(fee) => return Ok(fee),
            Err(Unproven::UnknownKeys) => "the token is of keys that its mint does not have",
            Err(Unproven::Refused(why)) => why,
        };
        Err(PaymentError::Refused(why.to_owned()))
    }
}

impl Till {
    /// Takes a token that is proven, and keeps that it is taken before it is said.
    async fn redeem(&self, token: &Token, text: &str, span: Name) -> Result<Msat, PaymentError> {
        let unavailable = |_: StoreError| PaymentError::Unavailable;
        let name = WalletFolder::name_of(token);
        let name = name.map_err(|error| PaymentError::Refused(error.to_string()))?;
        let _alone = self.claims.taking.lock().await;
        let begun = self.claims.begun(&name);
        if !begun {
            // A token that was spent before begins nothing, however often it is shown and whatever
            // fails: what it bought is used up.
            self.wallet.ask_new(token).await.map_err(not_taken)?;
            if !self.claims.begin(name).await.map_err(unavailable)? {
                return Err(PaymentError::Unavailable);
            }
        }
        match self.wallet.receive_once(text, token, begun).await {
            Ok(amount) => {
                // No span is longer than a tick.
                let amount = amount.min(self.price.tick);
                let sold = self.claims.sold(span, &name, amount).await;
                sold.map_err(unavailable)?;
                Ok(amount)
            }
            Err(error) => {
                let error = not_taken(error);
                if matches!(error, PaymentError::Refused(_)) {
                    self.claims.call_off(&name).await.map_err(unavailable)?;
                }
                Err(error)
            }
        }
    }
}

/// What its player is told of a token that buys nothing now.
fn not_taken(error: WalletError) -> PaymentError {
    match error {
        WalletError::Token | WalletError::MintUrl(_) | WalletError::Spent => {
            PaymentError::Refused(error.to_string())
        }
        error => {
            tracing::warn!(%error, "a player's token could not be redeemed");
            PaymentError::Unavailable
        }
    }
}

impl core::fmt::Debug for CashuPaywall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CashuPaywall").finish_non_exhaustive()
    }
}

#[async_trait]
impl Paywall for CashuPaywall {
    fn header(&self) -> &'static str {
        "x-cashu"
    }

    async fn demand(&self) -> Option<String> {
        let sale = self.offered.now().await;
        sale.spans.as_ref().map(|spans| spans.demand.clone())
    }

    fn tariff(&self) -> Tariff {
        self.till.price.tariff()
    }

    async fn take(&self, payment: &str, span: Name) -> Result<Msat, PaymentError> {
        let refused = |why: &str| PaymentError::Refused(why.to_owned());
        let payment = payment.trim();
        let sale = self.offered.now().await;
        let mints = sale.spans.as_ref().map(|spans| spans.mints.as_slice());
        let checked = self.check(payment, mints.unwrap_or_default());
        let (token, value) = checked.map_err(refused)?;
        let mint = token.mint_url().map_err(|_| refused("not of one mint"))?;
        let mint = mint.to_string();
        let fee = self.prove(&token, &mint).await?;
        if value > self.till.price.tick.saturating_plus(fee) {
            return Err(refused(
                "the token is worth more than a span and the mint's fee; nothing was taken",
            ));
        }
        // Whoever shows tokens has paid nothing yet.
        let taken = async { Ok(self.till.redeem(&token, payment, span).await) };
        let taken = self.runner.of_stranger(&mint, taken).await;
        let amount = taken.map_err(|_| PaymentError::Unavailable)??;
        self.report.say(
            "span_sold",
            serde_json::json!({"amount_msat": amount.msat()}),
        );
        self.report.tell(&format!("a player paid {amount}"));
        Ok(amount)
    }

    async fn kept(&self, span: Name) -> Option<Kept> {
        self.till.claims.kept(&span)
    }

    async fn used(&self, span: Name, used: Reading) {
        if let Err(error) = self.till.claims.used(&span, used).await {
            tracing::warn!(%error, "what a player used is not kept");
        }
    }

    async fn ended(&self, span: Name, paid: Msat) {
        if let Err(error) = self.till.claims.ended(&span, paid).await {
            tracing::warn!(%error, "what a player used up is not forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::driver::StoreWriter;
    use streampay_core::store::RedbStore;

    use super::*;
    use crate::mint::faults_for_testing::Fault;
    use crate::mint::{EmbeddedMint, Storage};
    use crate::wallet::Request;

    /// What others are shown as a demand and as tokens reads here as what it says it is.
    #[test]
    fn the_specs_demand_and_tokens_are_cashus() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../spec/vectors/media/http.json"
        );
        let file = std::fs::read_to_string(path).unwrap();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        let text = |at: &str| file.pointer(at).unwrap().as_str().unwrap();
        let two_sat = Msat::from_sat(2).unwrap();
        let asked = Request::from_str(text("/demand/header")).unwrap();
        assert_eq!(asked.amount(), Some(two_sat));
        for token in ["/tokens/0", "/tokens/1"] {
            let token = Token::from_str(text(token)).unwrap();
            assert_eq!(token.unit(), Some(CurrencyUnit::Sat));
            assert_eq!(token.value().unwrap().to_u64(), 2);
            assert_eq!(
                token.mint_url().unwrap().to_string(),
                text("/demand/mints/0")
            );
        }
    }

    /// A mark that it is being taken costs its player nothing, and there is room for so many: a token that
    /// somebody is paying with, or of which the mint does not say what it is, leaves none.
    #[tokio::test]
    async fn token_that_is_not_known_to_be_unspent_is_not_begun() {
        let any = "127.0.0.1:0".parse().unwrap();
        let mint = EmbeddedMint::start(any, Storage::Memory, 0).await.unwrap();
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [streamer, player] = folders.each_ref().map(|folder| {
            let wallet = WalletFolder::open(folder.path()).unwrap();
            Arc::new(wallet)
        });
        let store = Box::new(RedbStore::open(folders[0].path()).unwrap());
        let store = StoreWriter::start(store).unwrap();
        let tick = Msat::from_sat(2).unwrap();
        let till = Till {
            wallet: streamer.clone(),
            claims: Claims::open(store).await.unwrap(),
            price: Price {
                tick,
                per_ms: 1_000,
            },
        };
        let funds = Msat::from_sat(10).unwrap();
        player.deposit(&mint.url(), funds).await.unwrap();
        let text = player.send(tick, None).await.unwrap();
        let token = Token::from_str(&text).unwrap();
        let name = WalletFolder::name_of(&token).unwrap();
        let faults = mint.faults_for_testing();
        let swaps = mint.swaps();
        for fault in [Fault::Say("UNSPENT", "PENDING"), Fault::Short(0)] {
            faults.set("/v1/checkstate", fault, 1);
            let taken = till.redeem(&token, &text, [7; 32]).await;
            assert!(matches!(taken, Err(PaymentError::Unavailable)), "{fault:?}");
            assert!(!till.claims.begun(&name), "{fault:?}");
            assert_eq!(mint.swaps(), swaps, "{fault:?}");
            let balances = streamer.balance().await.unwrap();
            assert!(balances.iter().all(|of| of.pending.is_zero()), "{fault:?}");
        }
        // Once it is known to be, it is taken.
        let taken = till.redeem(&token, &text, [7; 32]).await;
        assert_eq!(taken.ok(), Some(tick));
        assert_eq!(till.claims.kept(&[7; 32]).unwrap().paid, tick);
    }
}
