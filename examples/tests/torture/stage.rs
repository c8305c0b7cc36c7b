//! Folders for both, and who they are paid by: a mint, or a chain with blocks.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, TxIn, WPubkeyHash};
use streampay_btc::sim::SimChain;
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::pay::Pay;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::esplora;
use crate::judge::{Money, Tick, Told, Wallet};
use crate::laps::timed;
use crate::process::{Process, STREAMER, Trace, VIEWER, run};

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf");
/// How long a program has to serve, to come up, to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that has closed its output has to end.
const END: Duration = Duration::from_secs(1);
/// More blocks than a channel may last.
const CHANNEL_LIFE: u32 = 450;
/// How often a block comes, at most; and none while somebody looks, who on a busy machine would never see a
/// chain that stands still: a look is many calls, each soon after the last one. But it comes in the end.
const BLOCK: Duration = Duration::from_millis(300);
const QUIET: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(3);

/// Where bitcoin goes: an address of nobody, one for each number.
fn script(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]))
}

const VIEWERS: u8 = 1;
const STREAMERS: u8 = 2;

fn address(number: u8) -> String {
    Address::from_script(&script(number), Network::Regtest)
        .unwrap()
        .to_string()
}

/// Where nothing listens, and what the system gives out by itself is not taken from (Linux: 32 768 and above), so that
/// it is free when a streamer comes back to it.
fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + std::process::id().wrapping_mul(61).wrapping_add(next) % 12_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// A block, again and again. `asked` is when somebody looked last.
async fn mine(chain: SimChain, asked: Arc<Mutex<Instant>>) {
    loop {
        tokio::time::sleep(BLOCK).await;
        let until = Instant::now() + LONGEST_LOOK;
        let looks = || asked.lock().unwrap().elapsed() < QUIET;
        while looks() && Instant::now() < until {
            tokio::time::sleep(QUIET / 4).await;
        }
        chain.mine(1);
    }
}

/// Everything that outlives processes.
pub(crate) struct Stage {
    pub(crate) way: Pay,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mint: Option<EmbeddedMint>,
    chain: Option<(SimChain, String, JoinHandle<()>)>,
    /// Where the streamer listens, now and when it comes back.
    listen: Option<String>,
    /// What was paid to addresses of channels.
    paid: Vec<(OutPoint, Amount)>,
    pub(crate) link: String,
    /// What the viewer was told is acknowledged, by session.
    pub(crate) told: Told,
}

impl Stage {
    pub(crate) fn new(way: Pay) -> Self {
        let handle = Handle::current();
        let any = ([127, 0, 0, 1], 0).into();
        let mint = way.is_ecash().then(|| {
            let ppk = EmbeddedMint::INPUT_FEE_PPK;
            handle
                .block_on(EmbeddedMint::start(any, Storage::Memory, ppk))
                .unwrap()
        });
        let chain = (!way.is_ecash()).then(|| {
            let chain = SimChain::new();
            let asked = Arc::new(Mutex::new(Instant::now()));
            let last = Arc::clone(&asked);
            let heard = move |_: &str| *asked.lock().unwrap() = Instant::now();
            let url = esplora::serve_heard(chain.clone(), Network::Regtest, heard);
            let url = handle.block_on(url);
            let miner = handle.spawn(mine(chain.clone(), last));
            (chain, url.trim_end_matches('/').to_owned(), miner)
        });
        let stage = Self {
            way,
            folder: tempfile::tempdir().unwrap(),
            mint,
            chain,
            listen: None,
            paid: Vec::new(),
            link: String::new(),
            told: Told::new(),
        };
        for name in ["streamer", "viewer"] {
            std::fs::create_dir(stage.data(name)).unwrap();
        }
        stage
    }

    /// Money for the viewer, in satoshi.
    pub(crate) fn fund(&self, sat: u64) -> Result<(), String> {
        let Some(mint) = &self.mint else {
            // Its folder is made all the same.
            run(VIEWER, &self.data("viewer"), &["recover"]);
            return Ok(());
        };
        let (amount, url) = (format!("{sat}sat"), mint.url());
        let args = ["deposit", &amount, "--mint", &url];
        let output = run(VIEWER, &self.data("viewer"), &args);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("deposit: {output:?}")),
        }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// So much that fees and what is not worth fetching are small beside one payment.
    pub(crate) const fn tick(&self) -> Tick {
        let msat = match self.way {
            Pay::Btc => 20_000_000,
            _ => 256_000,
        };
        Tick {
            msat,
            media_ms: 1_000,
        }
    }

    /// What both say of where the money is.
    fn money(&self) -> Vec<String> {
        match (&self.mint, &self.chain) {
            (_, Some((_, url, _))) => vec!["--btc".into(), url.clone()],
            _ => Vec::new(),
        }
    }

    /// Starts the streamer. Where it does not come to serve, the process as it ended.
    pub(crate) fn serve(&mut self, trace: Option<Trace<'_>>) -> Result<Process, Process> {
        let price = format!("{}sat/1s", self.tick().msat / 1_000);
        let listen = self.listen.get_or_insert_with(free_address).clone();
        let fixed = ["serve", "--json", "--media", CLIP, "--price", &price];
        let mut args: Vec<String> = fixed.map(String::from).to_vec();
        args.extend(["--pay".into(), self.way.name().into()]);
        args.extend(["--listen".into(), listen]);
        args.extend(self.money());
        match &self.mint {
            Some(mint) => args.extend(["--mint".into(), mint.url()]),
            None => args.extend(["--payout".into(), address(STREAMERS)]),
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut streamer = Process::start(STREAMER, &self.data("streamer"), &args, trace);
        let serving = timed("streamer, until it serves", || {
            streamer.wait_for(PATIENCE, |event| event["event"] == "serving")
        });
        let Some(serving) = serving else {
            // Its output ends a moment before it does.
            streamer.wait_for_end(END);
            streamer.kill();
            return Err(streamer);
        };
        self.link = serving["link"].as_str().unwrap().to_owned();
        Ok(streamer)
    }

    pub(crate) fn watch(&mut self, budget_sat: u64, trace: Option<Trace<'_>>) -> Process {
        let budget = format!("{budget_sat}sat");
        let record = self.data("recording.webm");
        let record = record.to_str().unwrap();
        let mut args = vec!["watch", &self.link, "--budget", &budget, "--yes", "--json"];
        args.extend(["--record", record, "--pay", self.way.name()]);
        args.extend(["--max-fee-share", "100"]);
        let money = self.money();
        args.extend(money.iter().map(String::as_str));
        let refund_to = address(VIEWERS);
        if self.way == Pay::Btc {
            args.extend(["--refund-to", &refund_to]);
        }
        let mut viewer = Process::start(VIEWER, &self.data("viewer"), &args, trace);
        if self.way == Pay::Btc {
            self.pay_what_is_shown(&mut viewer);
        }
        viewer
    }

    /// As any wallet would.
    fn pay_what_is_shown(&mut self, viewer: &mut Process) {
        let (chain, ..) = self.chain.as_ref().unwrap();
        let Some(wanted) = viewer.wait_for(PATIENCE, |event| event["event"] == "channel_wanted")
        else {
            return;
        };
        let address: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
        let script = address.assume_checked().script_pubkey();
        let value = Amount::from_sat(wanted["value_sat"].as_u64().unwrap());
        let outpoint = chain.pay(&script, value).unwrap();
        self.paid.push((outpoint, value));
    }

    /// So many blocks that every channel can be refunded.
    pub(crate) fn wait_for_refunds(&self) {
        if let Some((chain, ..)) = &self.chain {
            chain.mine(CHANNEL_LIFE);
        }
    }

    /// Whom the money is with, by the mint or the chain; of a mint's, what each wallet says too.
    pub(crate) fn money_in_the_end(&self, viewer: Wallet, streamer: Wallet) -> Money {
        if let Some(mint) = &self.mint {
            let ledger = Handle::current().block_on(mint.ledger()).unwrap();
            return Money::Mint {
                outstanding_msat: ledger.outstanding().msat(),
                fees_msat: ledger.fees.msat(),
                viewer,
                streamer,
            };
        }
        let (chain, ..) = self.chain.as_ref().unwrap();
        let home = |number| chain.balance(&script(number)).to_sat();
        let paid = self.paid.iter().map(|(_, value)| value.to_sat());
        Money::Chain {
            funded_sat: paid.sum(),
            viewer_sat: home(VIEWERS),
            streamer_sat: home(STREAMERS),
            fees_sat: fees(
                chain,
                self.paid.iter().map(|(outpoint, _)| *outpoint).collect(),
            ),
        }
    }
}

/// What miners took of these outputs, and of all that they were spent for.
fn fees(chain: &SimChain, mut outpoints: Vec<OutPoint>) -> u64 {
    let (mut fees, mut seen) = (0, BTreeSet::new());
    while let Some(outpoint) = outpoints.pop() {
        let Some((tx, Some(_))) = chain.spender(outpoint) else {
            continue;
        };
        let txid = tx.compute_txid();
        if !seen.insert(txid) {
            continue;
        }
        let value = |input: &TxIn| {
            let OutPoint { txid, vout } = input.previous_output;
            let (tx, _) = chain.transaction(txid).unwrap();
            tx.output[usize::try_from(vout).unwrap()].value.to_sat()
        };
        let came: u64 = tx.input.iter().map(value).sum();
        let went: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        fees += came - went;
        let outputs = u32::try_from(tx.output.len()).unwrap();
        outpoints.extend((0..outputs).map(|vout| OutPoint { txid, vout }));
    }
    fees
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((_, _, miner)) = &self.chain {
            miner.abort();
        }
    }
}
