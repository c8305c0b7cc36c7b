//! Folders for both, and who they are paid by: a mint, or a chain with blocks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::pay::Pay;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::esplora;
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
fn address(number: u8) -> String {
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]));
    Address::from_script(&script, Network::Regtest)
        .unwrap()
        .to_string()
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
    /// Where the streamer listens, once it has.
    listen: Option<String>,
    pub(crate) link: String,
    /// The most that the viewer was told is acknowledged, by session.
    pub(crate) acked: BTreeMap<String, u64>,
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
            link: String::new(),
            acked: BTreeMap::new(),
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

    /// What both say of where the money is.
    fn money(&self) -> Vec<String> {
        match (&self.mint, &self.chain) {
            (_, Some((_, url, _))) => vec!["--btc".into(), url.clone()],
            _ => Vec::new(),
        }
    }

    /// Starts the streamer. Where it does not come to serve, the process as it ended.
    pub(crate) fn serve(&mut self, trace: Option<Trace<'_>>) -> Result<Process, Process> {
        let price = match self.way {
            Pay::Btc => "500sat/1s",
            _ => "1sat/1s",
        };
        let listen = self.listen.clone().unwrap_or_else(|| "127.0.0.1:0".into());
        let fixed = ["serve", "--json", "--media", CLIP, "--price", price];
        let mut args: Vec<String> = fixed.map(String::from).to_vec();
        args.extend(["--pay".into(), self.way.name().into()]);
        args.extend(["--listen".into(), listen]);
        args.extend(self.money());
        match &self.mint {
            Some(mint) => args.extend(["--mint".into(), mint.url()]),
            None => args.extend(["--payout".into(), address(2)]),
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut streamer = Process::start(STREAMER, &self.data("streamer"), &args, trace);
        let serving = streamer.wait_for(PATIENCE, |event| event["event"] == "serving");
        let Some(serving) = serving else {
            // Its output ends a moment before it does.
            streamer.wait_for_end(END);
            streamer.kill();
            return Err(streamer);
        };
        self.link = serving["link"].as_str().unwrap().to_owned();
        let at = self.link.strip_prefix("http://").unwrap();
        self.listen = Some(at.split('/').next().unwrap().to_owned());
        Ok(streamer)
    }

    pub(crate) fn watch(&self, budget_sat: u64, trace: Option<Trace<'_>>) -> Process {
        let budget = format!("{budget_sat}sat");
        let record = self.data("recording.webm");
        let record = record.to_str().unwrap();
        let mut args = vec!["watch", &self.link, "--budget", &budget, "--yes", "--json"];
        args.extend(["--record", record, "--pay", self.way.name()]);
        args.extend(["--max-fee-share", "100"]);
        let money = self.money();
        args.extend(money.iter().map(String::as_str));
        let refund_to = address(1);
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
    fn pay_what_is_shown(&self, viewer: &mut Process) {
        let (chain, ..) = self.chain.as_ref().unwrap();
        let Some(wanted) = viewer.wait_for(PATIENCE, |event| event["event"] == "channel_wanted")
        else {
            return;
        };
        let address: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
        let script = address.assume_checked().script_pubkey();
        let value = Amount::from_sat(wanted["value_sat"].as_u64().unwrap());
        chain.pay(&script, value).unwrap();
    }

    /// So many blocks that every channel can be refunded.
    pub(crate) fn wait_for_refunds(&self) {
        if let Some((chain, ..)) = &self.chain {
            chain.mine(CHANNEL_LIFE);
        }
    }

    /// What the mint has signed and not taken back, in millisatoshi.
    pub(crate) fn outstanding(&self) -> Option<u64> {
        let mint = self.mint.as_ref()?;
        let ledger = Handle::current().block_on(mint.ledger()).unwrap();
        Some(ledger.outstanding().msat())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((_, _, miner)) = &self.chain {
            miner.abort();
        }
    }
}
