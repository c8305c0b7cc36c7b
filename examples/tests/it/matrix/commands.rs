//! Each of the wallet's commands meets the fault once, is tried again where it failed, and in the
//! end every satoshi is somewhere.

use std::future::Future;

use cdk_fake_wallet::create_fake_invoice;
use streampay_core::units::Msat;
use streampay_examples::mint::EmbeddedMint;
use streampay_examples::mint::faults_for_testing::{Fault, FaultSwitch};
use streampay_examples::wallet::{To, WalletError, WalletFolder};
use tempfile::TempDir;

use crate::cashu_node::{mint, sat};
use crate::live::quick;

struct Bench {
    mint: EmbeddedMint,
    faults: FaultSwitch,
    endpoint: String,
    fault: Fault,
    /// What the user is told, command by command.
    told: Vec<String>,
    /// What it was told without what to do next.
    mute: Vec<String>,
}

/// What a user who meets a fault can do, in one of these words.
const ADVICE: [&str; 3] = ["run recover", "Run recover", "try again"];

struct Owner {
    folder: TempDir,
    wallet: Option<WalletFolder>,
}

impl Owner {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wallet = WalletFolder::open_with(folder.path(), quick()).unwrap();
        Self {
            folder,
            wallet: Some(wallet),
        }
    }

    fn wallet(&self) -> &WalletFolder {
        self.wallet.as_ref().unwrap()
    }

    /// A command is a process: what it only remembers is gone with it.
    async fn again(&mut self) -> Result<(), String> {
        self.wallet = None;
        let wallet = WalletFolder::open_with(self.folder.path(), quick()).unwrap();
        let found = wallet.recover().await.map_err(|error| error.to_string())?;
        self.wallet = Some(wallet);
        match found.iter().find(|at| at.trouble.is_some()) {
            Some(at) => Err(format!("recover failed: {:?}", at.trouble)),
            None => Ok(()),
        }
    }

    async fn spendable(&self) -> Msat {
        let balances = self.wallet().balance().await.unwrap();
        let each = balances.iter().map(|at| at.spendable);
        each.fold(Msat::ZERO, |sum, at| sum.plus(at).unwrap())
    }

    async fn pending(&self) -> Msat {
        let balances = self.wallet().balance().await.unwrap();
        let each = balances.iter().map(|at| at.pending);
        each.fold(Msat::ZERO, |sum, at| sum.plus(at).unwrap())
    }
}

impl Bench {
    /// Runs a command with the fault in its way.
    async fn meets<T>(
        &mut self,
        name: &str,
        command: impl Future<Output = Result<T, WalletError>>,
    ) -> Option<T> {
        let lost: &[&str] = match self.endpoint.as_str() {
            "/v1/restore" => &["/v1/swap", "/v1/mint/bolt11", "/v1/melt/bolt11"],
            // Asked for where a payment's answer did not come.
            "GET /v1/melt/quote" => &["/v1/melt/bolt11"],
            _ => &[],
        };
        for path in lost {
            self.faults.set(path, Fault::LoseAnswer, 1);
        }
        self.faults.set(&self.endpoint, self.fault, 1);
        let done = command.await;
        self.faults.clear();
        // What a mint asked for is over before the next one.
        tokio::time::sleep(core::time::Duration::from_millis(1)).await;
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                let text = error.to_string();
                let first: String = text.chars().take(60).collect();
                self.told.push(format!("{name}: {first}"));
                if !ADVICE.iter().any(|advice| text.contains(advice)) {
                    self.mute.push(format!("{name}: {text}"));
                }
                None
            }
        }
    }
}

pub(super) async fn run(endpoint: &str, fault: Fault) -> Result<String, String> {
    let mint = mint(100).await;
    let mut bench = Bench {
        faults: mint.faults_for_testing().clone(),
        mint,
        endpoint: endpoint.to_owned(),
        fault,
        told: Vec::new(),
        mute: Vec::new(),
    };
    let (mut a, mut b) = (Owner::new(), Owner::new());
    deposits(&mut bench, &mut a).await?;
    sends(&mut bench, &mut a, &mut b).await?;
    let arrived = withdraws(&mut bench, &mut a).await?;
    let url = bench.mint.url();
    let looked = a.wallet().report_on(&url, false);
    bench.meets("mint-check", looked).await;
    bench.meets("recover", a.wallet().recover()).await;
    bench.meets("take back", a.wallet().take_back()).await;
    if let Fault::TooMany(_) = fault {
        a.again().await.ok();
    }
    a.again().await?;
    b.again().await?;
    a.wallet()
        .take_back()
        .await
        .map_err(|error| error.to_string())?;

    let ledger = bench.mint.ledger().await.unwrap();
    let pending = (a.pending().await, b.pending().await);
    let held = a.spendable().await.plus(b.spendable().await).unwrap();
    if pending != (Msat::ZERO, Msat::ZERO) {
        return Err(format!("under way for ever: {pending:?}; {:?}", bench.told));
    }
    // Not those that lost an answer, so that somebody asks what became of it.
    if bench.faults.met_for(endpoint) == 0 {
        return Err("no request met the fault".to_owned());
    }
    if !bench.mute.is_empty() {
        return Err(format!("what to do next is not said: {:?}", bench.mute));
    }
    if held != ledger.outstanding() {
        let owed = ledger.outstanding();
        return Err(format!("{held} held, {owed} owed; {:?}", bench.told));
    }
    // Paid once: 50 sat, 1 sat for Lightning, and the mint's fees.
    let gone = sat(200).minus(held).unwrap();
    let explained = arrived.plus(sat(1)).unwrap().plus(ledger.fees).unwrap();
    if gone != explained {
        return Err(format!(
            "{gone} gone, {explained} explained; {:?}",
            bench.told
        ));
    }
    Ok(format!("{:?}", bench.told))
}

async fn deposits(bench: &mut Bench, owner: &mut Owner) -> Result<(), String> {
    let url = bench.mint.url();
    let first = owner.wallet().deposit(&url, sat(200));
    bench.meets("deposit", first).await;
    wait_out(bench).await;
    owner.again().await?;
    if owner.spendable().await == Msat::ZERO {
        let again = owner.wallet().deposit(&url, sat(200)).await;
        again.map_err(|error| format!("the second deposit failed: {error}"))?;
    }
    match owner.spendable().await {
        all if all == sat(200) => Ok(()),
        other => Err(format!("{other} of a deposit of 200 sat; {:?}", bench.told)),
    }
}

async fn sends(bench: &mut Bench, from: &mut Owner, to: &mut Owner) -> Result<(), String> {
    let first = from.wallet().send(sat(20), None);
    let token = match bench.meets("send", first).await {
        Some(token) => token,
        None => {
            wait_out(bench).await;
            from.again().await?;
            let again = from.wallet().send(sat(20), None).await;
            again.map_err(|error| format!("the second send failed: {error}"))?
        }
    };
    let first = to.wallet().receive(&token);
    bench.meets("receive", first).await;
    wait_out(bench).await;
    to.again().await?;
    if to.spendable().await == Msat::ZERO {
        let again = to.wallet().receive(&token).await;
        again.map_err(|error| format!("the second receive failed: {error}"))?;
    }
    match to.spendable().await {
        all if all == sat(20) => Ok(()),
        other => Err(format!("{other} of a token of 20 sat; {:?}", bench.told)),
    }
}

async fn withdraws(bench: &mut Bench, owner: &mut Owner) -> Result<Msat, String> {
    let invoice = To::Invoice(Box::new(create_fake_invoice(50_000, String::new())));
    let first = owner.wallet().withdraw(&invoice, None, None, |_| true);
    bench.meets("withdraw", first).await;
    wait_out(bench).await;
    owner.again().await?;
    let again = owner.wallet().withdraw(&invoice, None, None, |_| true);
    match again.await {
        Ok(_) | Err(WalletError::PaidBefore) => Ok(sat(50)),
        Err(error) => Err(format!("the second withdrawal failed: {error}")),
    }
}

/// The mint asked for a second of rest.
async fn wait_out(bench: &Bench) {
    if let Fault::TooMany(seconds) = bench.fault {
        tokio::time::sleep(core::time::Duration::from_millis(seconds * 1000 + 50)).await;
    }
}
