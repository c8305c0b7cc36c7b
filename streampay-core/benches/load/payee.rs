//! The payee's process.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use streampay_core::driver::{
    Connected, Node, Ports, SessionTask, StoreWriter, TcpReach, entropy, tcp_link,
};
use streampay_core::meter::{Grant, Rate, Reading, Tariff};
use streampay_core::session::{Entropy, PayeeConfig, PayeeSession, Role, SecretKey};
use streampay_core::store::{ChangeSet, Key, RedbStore, Store, StoreError};
use streampay_core::units::{Msat, Unix};
use streampay_core::wire::{Method, Terms};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::chain::{METHOD, Nobody, Preimages};
use crate::proc;

/// In how many parts media moves all meters.
const PARTS: usize = 25;
/// A payer that says nothing is not what is measured.
const UNPAID_MS: u64 = 3_600_000;

/// What a payee's process says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) rss_kib: f64,
    pub(crate) cpu_s: f64,
    pub(crate) commits: f64,
    pub(crate) sets: f64,
    pub(crate) commit_ms: f64,
}

impl Figures {
    pub(crate) fn read(line: &str) -> Self {
        let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        Self {
            rss_kib: numbers[0],
            cpu_s: numbers[1],
            commits: numbers[2],
            sets: numbers[3],
            commit_ms: numbers[4],
        }
    }
}

/// The store, with its commits counted.
struct Counted {
    inner: RedbStore,
    figures: Arc<Mutex<Figures>>,
}

impl Store for Counted {
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError> {
        let start = Instant::now();
        let done = self.inner.append(sets);
        let mut figures = self.figures.lock().unwrap();
        figures.commits += 1.0;
        figures.sets += proc::float(sets.len());
        figures.commit_ms += start.elapsed().as_secs_f64() * 1_000.0;
        done
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.inner.scan(prefix)
    }
}

/// A tick a second.
pub(crate) fn tariff() -> Tariff {
    Tariff {
        time: Rate::new(Msat::new(2_000).unwrap(), 1_000).ok(),
        bytes: None,
    }
}

fn identity() -> SecretKey {
    SecretKey::derive(&Entropy([1; 32]), "payee").unwrap()
}

fn config() -> PayeeConfig {
    let identity = identity();
    let terms = Terms {
        title: "load".into(),
        tariff: tariff(),
        tick: Msat::new(2_000).unwrap(),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        join_fee: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: METHOD.into(),
            params: Vec::new(),
        }],
        resumable_s: 86_400,
        expires: Unix(u64::MAX),
        payee: identity.public(),
    };
    PayeeConfig {
        identity,
        terms: terms.into(),
        preview_left: Msat::ZERO,
        unpaid_ms: UNPAID_MS,
    }
}

async fn node(store: Box<dyn Store>) -> Arc<Node> {
    let writer = StoreWriter::start(store).unwrap();
    let node = Node::builder(writer).method(Box::new(Preimages::default()), Arc::new(Nobody));
    node.build().await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Serves until it is killed. Says its port and its key, and its figures as often as it is asked.
pub(crate) fn serve(folder: &Path, media_ms: u64) {
    let figures = Arc::new(Mutex::new(Figures::default()));
    let store = Box::new(Counted {
        inner: RedbStore::open(folder).unwrap(),
        figures: Arc::clone(&figures),
    });
    let runtime = runtime();
    let port = runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = node(store).await;
        tokio::spawn(accept(node, listener, media_ms));
        port
    });
    println!("{port} {}", identity().public());
    let stdin = std::io::stdin();
    for _ in stdin.lock().lines() {
        let told = *figures.lock().unwrap();
        let (rss, cpu) = (proc::rss_kib(), proc::cpu_s());
        let (commits, sets, ms) = (told.commits, told.sets, told.commit_ms);
        println!("{rss} {cpu} {commits} {sets} {ms}");
        std::io::stdout().flush().unwrap();
    }
}

/// The gates and meters of all sessions.
type Meters = Arc<Mutex<Vec<(watch::Receiver<Grant>, watch::Sender<Reading>)>>>;

async fn accept(node: Arc<Node>, listener: TcpListener, media_ms: u64) {
    let config = config();
    let meters = Meters::default();
    if media_ms > 0 {
        tokio::spawn(media(Arc::clone(&meters), media_ms));
    }
    while let Ok((stream, _)) = listener.accept().await {
        let (node, config, meters) = (Arc::clone(&node), config.clone(), Arc::clone(&meters));
        tokio::spawn(async move {
            let link = tcp_link(stream, Role::Payee, TcpReach::Loopback)
                .await
                .unwrap();
            let session = PayeeSession::new(config, &entropy().unwrap()).unwrap();
            let (ports, user) = Ports::pair();
            let (meter, usage) = watch::channel(Reading::default());
            meters.lock().unwrap().push((user.gate, meter));
            // Nobody is told of events, and nobody commands.
            drop((user.events, user.commands));
            let mut task = SessionTask::new(node, session, ports);
            task.run(Some(Connected { link, usage })).await;
        });
    }
}

/// Media, a second a second, as far as each gate lets it.
async fn media(meters: Meters, media_ms: u64) {
    let part_ms = media_ms / u64::try_from(PARTS).unwrap();
    let mut every = tokio::time::interval(Duration::from_millis(part_ms));
    for part in (0..PARTS).cycle() {
        every.tick().await;
        let meters = meters.lock().unwrap();
        for (gate, meter) in meters.iter().skip(part).step_by(PARTS) {
            let mut next = *meter.borrow();
            next.media_ms += media_ms;
            if gate.borrow().admits(next) {
                meter.send_replace(next);
            }
        }
    }
}

/// Takes up every session from the disk, as a streamer's program does; says how long that took, in
/// milliseconds, and what each has.
pub(crate) fn recover(folder: &Path) {
    let start = Instant::now();
    runtime().block_on(async {
        let node = node(Box::new(RedbStore::open(folder).unwrap())).await;
        let mut tasks = Vec::new();
        for id in node.sessions().await.unwrap() {
            let records = node.records_of(id).await.unwrap();
            let now = node.clock().now();
            let session = PayeeSession::restore(identity(), UNPAID_MS, now, id, &records);
            let (ports, _) = Ports::pair();
            let node = Arc::clone(&node);
            let task = SessionTask::restored(node, session.unwrap(), &records, ports);
            tasks.push((id, task));
        }
        println!("{}", start.elapsed().as_millis());
        for (id, task) in &tasks {
            println!("{id} {}", task.session().credited().msat());
        }
    });
}
