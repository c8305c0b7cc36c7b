//! The payers: handshakes by the real machine, then a tick a second, whatever comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streampay_core::backend::BackendMachine as _;
use streampay_core::driver::{Clock, LinkEnd, TcpReach, entropy, tcp_link};
use streampay_core::session::{
    BackendEvent, Input, LinkEvent, Output, PayerConfig, PayerSession, Policy, Role, SecretKey,
};
use streampay_core::units::{Msat, PurseId, Seq, SessionId};
use streampay_core::wire::{Message, Tick, decode, encode};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::chain::{METHOD, Preimages, preimage};
use crate::payee::{Figures, tariff};
use crate::proc;

/// Handshakes at once.
const AT_ONCE: usize = 32;
const EVERY: Duration = Duration::from_secs(1);
/// How long all have been there before anything is measured, and how long the last acks may take.
const SETTLE: Duration = Duration::from_secs(3);
const LAST: Duration = Duration::from_secs(10);

/// What the payers saw.
pub(crate) struct Told {
    /// From each tick to its ack, in microseconds, sorted.
    pub(crate) waits: Vec<u32>,
    /// Ticks without an ack.
    pub(crate) unanswered: usize,
    /// The highest acknowledged amount of each session, in millisatoshi.
    pub(crate) acked: HashMap<String, u64>,
    /// The processor's time of this process while it measured.
    pub(crate) cpu_s: f64,
}

/// When to begin to measure, and when to end.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Coming,
    Measured,
    Over,
}

struct Payer {
    session: SessionId,
    end: LinkEnd,
    phase: watch::Receiver<Phase>,
    /// The last tick that was sent, and those that are not acknowledged.
    seq: u64,
    open: VecDeque<(u64, Instant, bool)>,
    acked: u64,
    waits: Vec<u32>,
}

/// Pays over so many sessions, once where no time is `measured`. `figures` is called when the measurement begins.
pub(crate) fn pay(
    port: u16,
    key: &str,
    sessions: usize,
    measured: Duration,
    figures: impl FnOnce() -> Figures,
) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let key = key.to_owned();
    runtime.block_on(async move {
        let (phase, phases) = watch::channel(Phase::Coming);
        let (done_in, mut done) = mpsc::channel(sessions);
        let (ready_in, mut ready) = mpsc::channel(sessions);
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let clock = Clock::start();
        for number in 0..sessions {
            let room = Arc::clone(&room).acquire_owned().await.unwrap();
            let (key, phase) = (key.clone(), phases.clone());
            let (done, ready) = (done_in.clone(), ready_in.clone());
            tokio::spawn(async move {
                let payer = Payer::open(port, &key, clock, phase).await;
                drop(room);
                ready.send(()).await.unwrap();
                // Spread over the second, wherever the handshakes ended.
                let share = proc::float(number) / proc::float(sessions);
                let payer = match measured.is_zero() {
                    true => payer,
                    false => payer.run(EVERY.mul_f64(share)).await,
                };
                done.send(payer).await.unwrap();
            });
        }
        for _ in 0..sessions {
            ready.recv().await.unwrap();
        }
        if !measured.is_zero() {
            sleep(SETTLE).await;
        }
        figures();
        let cpu = proc::cpu_s();
        phase.send_replace(Phase::Measured);
        sleep(measured).await;
        phase.send_replace(Phase::Over);
        let cpu_s = proc::cpu_s() - cpu;
        let mut told = Told {
            waits: Vec::new(),
            unanswered: 0,
            acked: HashMap::new(),
            cpu_s,
        };
        for _ in 0..sessions {
            let payer: Payer = done.recv().await.unwrap();
            told.waits.extend(payer.waits);
            told.unanswered += payer.open.len();
            told.acked.insert(payer.session.to_string(), payer.acked);
        }
        told.waits.sort_unstable();
        told
    })
}

impl Payer {
    /// A session whose purse is open and whose first tick is acknowledged.
    async fn open(port: u16, key: &str, clock: Clock, phase: watch::Receiver<Phase>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let link = tcp_link(stream, Role::Payer, TcpReach::Loopback)
            .await
            .unwrap();
        let (identity, mut end) = (link.identity, link.end);
        let config = PayerConfig {
            identity: SecretKey::derive(&entropy().unwrap(), "payer").unwrap(),
            payee: key.parse().unwrap(),
            policy: Policy {
                budget: Msat::MAX,
                max_purse: Msat::MAX,
                max_tariff: tariff(),
                max_tick: Msat::MAX,
                methods: vec![METHOD.into()],
                stall_close_ms: 3_600_000,
            },
        };
        let mut session = PayerSession::new(config, &entropy().unwrap()).unwrap();
        let mut method = Preimages::default();
        let entropy = entropy().unwrap();
        let up = LinkEvent::Up { identity, entropy };
        session.handle(clock.now(), Input::Link(up)).unwrap();
        let mut seq = 0;
        loop {
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Send(bytes) => {
                        if let Ok(Some(Message::Tick(tick))) = decode(&bytes) {
                            seq = tick.seq.0;
                        }
                        end.outgoing.send(bytes).await.unwrap();
                    }
                    Output::Backend {
                        purse, id, request, ..
                    } => {
                        let answer = method.request(clock.now(), purse, id, request);
                        let event = BackendEvent { purse, answer };
                        let input = Input::Backend(event);
                        session.handle(clock.now(), input).unwrap();
                    }
                    _ => {}
                }
            }
            if seq > 0 && session.acknowledged().msat() == seq * 2_000 {
                break;
            }
            let bytes = end.incoming.recv().await.unwrap();
            session.handle(clock.now(), Input::Received(bytes)).unwrap();
        }
        Self {
            session: session.session(),
            end,
            phase,
            seq,
            open: VecDeque::new(),
            acked: seq * 2_000,
            waits: Vec::new(),
        }
    }

    /// A tick a second, until it is over and each has its ack.
    async fn run(mut self, first: Duration) -> Self {
        let mut next = Instant::now() + first;
        let mut phase = self.phase.clone();
        let over = async {
            let heard = phase.wait_for(|phase| matches!(phase, Phase::Over)).await;
            assert!(heard.is_ok());
        };
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    self.tick();
                    next += EVERY;
                }
                bytes = self.end.incoming.recv() => self.heard(&bytes.unwrap()),
                () = &mut over => break,
            }
        }
        let until = Instant::now() + LAST;
        while !self.open.is_empty() {
            tokio::select! {
                () = sleep_until(until) => break,
                bytes = self.end.incoming.recv() => self.heard(&bytes.unwrap()),
            }
        }
        self
    }

    fn tick(&mut self) {
        self.seq += 1;
        let tick = encode(&Message::Tick(Tick {
            purse: PurseId(0),
            seq: Seq(self.seq),
            cumulative: Msat::new(self.seq * 2_000).unwrap(),
            payload: Bytes::copy_from_slice(&preimage(self.seq)),
            tips: None,
        }));
        let counts = matches!(*self.phase.borrow(), Phase::Measured);
        self.open.push_back((self.seq, Instant::now(), counts));
        self.end.outgoing.try_send(tick).unwrap();
    }

    fn heard(&mut self, bytes: &Bytes) {
        match decode(bytes) {
            Ok(Some(Message::Ack(ack))) => {
                let receipt = ack.evidence.receipt;
                self.acked = receipt.total.msat();
                while let Some((seq, sent, counts)) = self.open.front().copied()
                    && seq <= receipt.seq.0
                {
                    self.open.pop_front();
                    if counts {
                        let us = sent.elapsed().as_micros();
                        self.waits.push(u32::try_from(us).unwrap());
                    }
                }
            }
            Ok(Some(Message::Nack(nack))) => panic!("refused: {nack:?}"),
            Ok(Some(Message::Close(close))) => panic!("closed: {close:?}"),
            _ => {}
        }
    }
}
