//! A session that one side's process leaves in its middle, and takes up again from its folder while the
//! other side's goes on.

use std::time::Duration;

use streampay_core::driver::{
    ChannelIdentity, Connected, Link, LinkEnd, Ports, SessionMachine, SessionTask, Stopped,
    UserPorts, entropy,
};
use streampay_core::meter::{PauseReason, Reading};
use streampay_core::session::{CloseCode, Command, Event, PayeeSession, PayerSession};
use streampay_core::units::{Msat, SessionId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cashu_node::sat;
use crate::live::{Party, Plan, Played, media};

/// Whose process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dies {
    Payer,
    Payee,
}

/// A side's loop, and where its connections come from. It ends in what was paid, and whether that side's money is
/// where it belongs.
struct Side {
    task: JoinHandle<(Msat, bool)>,
    links: mpsc::Sender<Connected>,
}

impl Side {
    fn new<S: SessionMachine + Send + 'static>(
        mut task: SessionTask<S>,
        end: fn(&S) -> (Msat, bool),
    ) -> Self {
        let (links, mut coming) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            while let Ok(Some(Some(connected))) = task.idle(coming.recv()).await {
                if task.run(Some(connected)).await != Stopped::LinkDown {
                    break;
                }
            }
            end(task.session())
        });
        Self { task, links }
    }

    /// At once: what was only in memory is gone.
    async fn dies(self) {
        self.task.abort();
        assert!(self.task.await.is_err(), "it had ended before");
    }
}

/// The meters of both sides, which outlive their processes.
struct Meters {
    payer: watch::Sender<Reading>,
    payee: watch::Sender<Reading>,
}

impl Meters {
    async fn connect(&self, payer: &Side, payee: &Side) {
        let (a, b) = LinkEnd::pair();
        let identity = ChannelIdentity {
            payer: [1; 32],
            payee: [2; 32],
        };
        for (links, end, meter) in [
            (&payer.links, a, &self.payer),
            (&payee.links, b, &self.payee),
        ] {
            let connected = Connected {
                link: Link { identity, end },
                usage: meter.subscribe(),
            };
            links.send(connected).await.expect("the side goes on");
        }
    }

    /// Media of a payee, until its gate is gone.
    fn flow(&self, payee: &UserPorts) {
        let (sent, received) = (self.payee.clone(), self.payer.clone());
        tokio::spawn(media(payee.gate.clone(), sent, received));
    }
}

async fn payee_again(payee: &Party, session: SessionId) -> (Side, UserPorts) {
    let home = payee.home();
    let records = home.node.records_of(session).await.unwrap();
    let (identity, now) = (home.identity.clone(), home.node.clock().now());
    let restored = PayeeSession::restore(identity, 60_000, now, session, &records).unwrap();
    let (ports, user) = Ports::pair();
    let task = SessionTask::restored(home.node.clone(), restored, &records, ports);
    (Side::new(task, end_of_payee), user)
}

async fn payer_again(
    payer: &Party,
    payee: &Party,
    plan: &Plan,
    session: SessionId,
) -> (Side, UserPorts) {
    let home = payer.home();
    let records = home.node.records_of(session).await.unwrap();
    let (identity, now) = (home.identity.clone(), home.node.clock().now());
    let policy = plan.payer(home, payee.home()).policy;
    let restored = PayerSession::restore(identity, policy, now, session, &records).unwrap();
    let (ports, user) = Ports::pair();
    let task = SessionTask::restored(home.node.clone(), restored, &records, ports);
    (Side::new(task, end_of_payer), user)
}

fn end_of_payer(session: &PayerSession) -> (Msat, bool) {
    (session.acknowledged(), session.is_settled())
}

fn end_of_payee(session: &PayeeSession) -> (Msat, bool) {
    (session.credited(), session.is_settled())
}

/// As a program does where nobody can be asked, or once it has all it stays for.
fn closes(plan: &Plan, event: &Event) -> Option<CloseCode> {
    match event {
        Event::TickPaid { total, .. } if *total >= sat(plan.leave_at) => Some(CloseCode::Done),
        Event::Paused {
            by_peer: false,
            reason: PauseReason::Drift,
        } => Some(CloseCode::Drift),
        Event::TickLost { .. } => Some(CloseCode::PaymentLost),
        _ => None,
    }
}

/// Plays a session in which `dies` does so when its third tick is acknowledged. `at_tick` is called with the
/// number of each until then. What it did not live to hear of is not in what it was told.
pub(crate) async fn play(
    payer: &mut Party,
    payee: &mut Party,
    plan: &Plan,
    dies: Dies,
    at_tick: impl Fn(usize),
) -> Played {
    let entropy = || entropy().unwrap();
    let meters = Meters {
        payer: watch::channel(Reading::default()).0,
        payee: watch::channel(Reading::default()).0,
    };
    let session = PayeeSession::new(plan.payee(payee.home()), &entropy()).unwrap();
    let (ports, mut payee_user) = Ports::pair();
    let mut of_payee = Side::new(
        SessionTask::new(payee.home().node.clone(), session, ports),
        end_of_payee,
    );
    let config = plan.payer(payer.home(), payee.home());
    let session = PayerSession::new(config, &entropy()).unwrap();
    let (ports, mut user) = Ports::pair();
    let mut of_payer = Side::new(
        SessionTask::new(payer.home().node.clone(), session, ports),
        end_of_payer,
    );
    meters.flow(&payee_user);
    meters.connect(&of_payer, &of_payee).await;

    let mut played = Played::default();
    let (mut ticks, mut bound) = (0, None);
    let limit = tokio::time::Instant::now() + plan.limit;
    while let Ok(Some(event)) = tokio::time::timeout_at(limit, user.events.recv()).await {
        // Nobody is kept waiting for somebody to read.
        while let Ok(event) = payee_user.events.try_recv() {
            played.payee.push(event);
        }
        if let Some(code) = closes(plan, &event) {
            let _ = user.commands.send(Command::Close(code)).await;
        }
        match event {
            Event::Bound { session, .. } => bound = Some(session),
            Event::TickPaid { .. } if ticks < 3 => {
                ticks += 1;
                at_tick(ticks);
            }
            _ => {}
        }
        played.payer.push(event);
        if ticks != 3 {
            continue;
        }
        // It dies once.
        ticks += 1;
        let session = bound.expect("it is bound before it pays");
        match dies {
            Dies::Payee => {
                of_payee.dies().await;
                payee.restart().await;
                (of_payee, payee_user) = payee_again(payee, session).await;
                meters.flow(&payee_user);
            }
            Dies::Payer => {
                of_payer.dies().await;
                payer.restart().await;
                (of_payer, user) = payer_again(payer, payee, plan, session).await;
            }
        }
        meters.connect(&of_payer, &of_payee).await;
    }
    assert!(ticks > 3, "{dies:?} never died");
    let reading = tokio::spawn(async move {
        let mut said = Vec::new();
        while let Some(event) = payee_user.events.recv().await {
            said.push(event);
        }
        said
    });
    let most = Duration::from_secs(30);
    let of_payer = tokio::time::timeout(most, of_payer.task).await;
    let (acknowledged, payer_settled) = of_payer.expect("the payer ends").unwrap();
    drop(of_payee.links);
    let of_payee = tokio::time::timeout(most, of_payee.task).await;
    let (credited, payee_settled) = of_payee.expect("the payee ends").unwrap();
    assert!(credited >= acknowledged, "{credited} of {acknowledged}");
    played.payee.extend(reading.await.unwrap());
    (played.acknowledged, played.credited) = (acknowledged, credited);
    played.settled = (payer_settled, payee_settled);
    played.media_ms = meters.payee.borrow().media_ms;
    played
}
