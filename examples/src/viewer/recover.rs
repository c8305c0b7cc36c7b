//! After a crash: every session that is not settled is closed, and its money brought home.

use std::time::Duration;

use streampay_btc::machine::ChannelMachine;
use streampay_core::driver::{Connected, Ports, SessionTask, TellError, UserPorts};
use streampay_core::session::{
    CloseCode, Command, Event, PayerSession, Policy, PurseLedger, Role, SEALED_MEDIA,
};
use streampay_core::store::{Key, StoreError};
use streampay_core::units::{Msat, SessionId, Unix};
use streampay_media::peer::{PeerConfig, ViewerPeer};
use streampay_media::whep::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Account;
use super::late::{self, Unheard};
use super::locked::{locked_until, tell_left, words};
use crate::accounting::before_sessions;
use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::Ledger;
use crate::ledger::history::Sums;
use crate::ledger::unsettled::last_lock;
use crate::link::StreamLink;
use crate::progress::within;
use crate::report::Report;
use crate::signals::asked_to_end;

/// How long the parts of closing one session may take. A mint that is away longer is asked again next time.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Until the streamer answers.
    pub(super) reach: Duration,
    /// With the streamer.
    pub(super) asked: Duration,
    /// Without it.
    alone: Duration,
    /// Without it where the lock still holds, by this machine's clock: the mint has the last word.
    locked: Duration,
}

/// For a user who asked for it.
const PATIENT: Limits = Limits {
    reach: Duration::from_secs(15),
    asked: Duration::from_secs(60),
    alone: Duration::from_secs(60),
    locked: Duration::from_secs(10),
};
/// For one who wants to watch.
const BRIEF: Limits = Limits {
    reach: Duration::from_secs(4),
    asked: Duration::from_secs(10),
    alone: Duration::from_secs(8),
    locked: Duration::ZERO,
};
/// How long all sessions together may keep a user who wants to watch.
const AT_START: Duration = Duration::from_secs(20);

/// What is told of an address that was shown in vain.
pub const UNPAID: &str = "nobody has paid what was asked for to the address that was shown, so no channel \
    is out. Should somebody pay to it all the same, that comes back by itself after the channel's time, \
    whenever this folder is in use";

/// What is told of channels that are being closed.
#[must_use]
pub fn on_the_way(amount: Msat) -> String {
    format!(
        "the channel is being closed: {amount} of it are yours again as soon as that is in a block; \
         nothing is left to do, and `viewer channels` says how it stands. Should it never be, \
         `viewer recover` takes the channel back after its time"
    )
}

/// True where all that a session has out are channels that nobody has paid for, as far as the chain
/// says.
pub(crate) async fn only_unpaid(home: &Home, session: &PayerSession) -> Result<bool, AppError> {
    match &home.channels {
        Some(channels) => channels.only_unpaid(home, session).await,
        None => Ok(false),
    }
}

/// Finishes what was cut short in the wallet, and closes every session that is not settled. True where all
/// are settled then.
///
/// # Errors
/// [`AppError`] where the store cannot be read.
pub async fn recover(home: &Home, report: Report) -> Result<bool, AppError> {
    restored::ready(home, report, true).await?;
    before_sessions(home, report).await?;
    let (mut all_settled, mut found, mut alone) = (true, 0_usize, Vec::new());
    // How many is only told: one that cannot be read keeps no other from coming home.
    let open = crate::ledger::sessions(home).await.unwrap_or_default();
    let open = open.into_iter();
    let open = open.filter(|of| of.role == Role::Payer && !of.settled);
    let open = open.count();
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        let session = match restore(home, id, &records) {
            Ok(session) => session,
            // This folder was a streamer's too.
            Err(StoreError::OtherRole) => continue,
            Err(error) => {
                report.unusable("viewer", id, &error);
                all_settled = false;
                continue;
            }
        };
        if session.is_settled() {
            continue;
        }
        found = found.saturating_add(1);
        let which = format!("session {found} of {}", open.max(found));
        let of = Open {
            home,
            report,
            id,
            limits: PATIENT,
        };
        let closed = of.close(session, &records, &which).await?;
        all_settled &= closed.settled;
        if closed.unheard.is_some() && !closed.asked {
            alone.push(id);
        }
        tell(report, id, &closed);
    }
    Box::pin(late::ask(home, report, PATIENT, &alone)).await?;
    if found == 0 {
        report.tell("no session is open");
    }
    let none_lost = super::lost::find(home, report).await?;
    let none_besides = match &home.channels {
        Some(channels) => channels.find_besides(home).await?,
        None => true,
    };
    Ok(all_settled && none_lost && none_besides)
}

/// Before a session begins: closes those of before whose money is not home, as far as that can be done at
/// once, for what comes home can be paid with. The newest first, for a bounded time. Those with channels are
/// left, for they wait for blocks.
///
/// # Errors
/// [`AppError`] where the store cannot be read or written.
pub(crate) async fn close_earlier(home: &Home, report: Report) -> Result<(), AppError> {
    let Ledger {
        sessions: mut earlier,
        unreadable,
        ..
    } = crate::ledger::read(home).await?;
    for id in unreadable {
        report.unusable("viewer", id, &StoreError::Corrupt);
    }
    earlier.retain(|of| {
        let channel = |purse: &PurseLedger| purse.method == ChannelMachine::METHOD;
        let is_out = of.role == Role::Payer && !of.settled && !Sums::of(of).out.is_zero();
        is_out && !of.purses.iter().any(channel)
    });
    earlier.sort_by_key(|of| core::cmp::Reverse(of.began));
    let until = Instant::now() + AT_START;
    let mut alone = Vec::new();
    for (at, of) in earlier.iter().enumerate() {
        let records = home.node.records_of(of.session).await?;
        let Ok(session) = restore(home, of.session, &records) else {
            continue;
        };
        let which = format!(
            "an earlier session, {} of {}",
            at.saturating_add(1),
            earlier.len()
        );
        let open = Open {
            home,
            report,
            id: of.session,
            limits: BRIEF,
        };
        let closing = Box::pin(open.close(session, &records, &which));
        let closed = tokio::select! {
            closed = tokio::time::timeout_at(until, closing) => closed,
            () = asked_to_end() => return Ok(()),
        };
        let Ok(closed) = closed else { break };
        // What is not is told with all that is not.
        let closed = closed?;
        if closed.unheard.is_some() && !closed.asked {
            alone.push(of.session);
        }
        if closed.settled {
            tell(report, of.session, &closed);
        }
    }
    let asking = Box::pin(late::ask(home, report, BRIEF, &alone));
    let asking = tokio::time::timeout_at(until, asking);
    tokio::select! {
        // What there was no time for is asked next time.
        asked = asking => asked.unwrap_or(Ok(())),
        () = asked_to_end() => Ok(()),
    }
}

pub(super) fn restore(
    home: &Home,
    id: SessionId,
    records: &[(Key, Vec<u8>)],
) -> Result<PayerSession, StoreError> {
    let (identity, now) = (home.identity.clone(), home.node.clock().now());
    let session = PayerSession::restore(identity, Policy::nothing(), now, id, records)?;
    // A streamer that seals takes nobody back who does not say so.
    Ok(session.offering(SEALED_MEDIA))
}

/// What became of a session that was to be closed.
struct Closed {
    account: Account,
    settled: bool,
    /// With its streamer.
    asked: bool,
    /// What the streamer may have of it and did not acknowledge.
    unheard: Option<Unheard>,
    /// Nobody has paid to the address that was shown.
    unpaid: bool,
    /// What comes back by itself.
    coming: Option<Msat>,
    /// Until when the rest is locked, and the time now.
    locked: Option<(Unix, Unix)>,
    channel_locked: Option<String>,
}

/// A session that is not settled.
struct Open<'a> {
    home: &'a Home,
    report: Report,
    id: SessionId,
    limits: Limits,
}

impl Open<'_> {
    /// Closes it, with its streamer or without, and brings home what can come.
    async fn close(
        &self,
        session: PayerSession,
        records: &[(Key, Vec<u8>)],
        which: &str,
    ) -> Result<Closed, AppError> {
        let (ports, user) = Ports::pair();
        let mut task = SessionTask::restored(self.home.node.clone(), session, records, ports);
        let closed = self.close_over(&mut task, user, which).await;
        if let Err(AppError::Store(_)) = closed {
            let now = self.home.node.clock().now();
            tell_left(task.session(), now.unix, self.report);
        }
        closed
    }

    async fn close_over(
        &self,
        task: &mut SessionTask<PayerSession>,
        user: UserPorts,
        which: &str,
    ) -> Result<Closed, AppError> {
        let (home, report, limits) = (self.home, self.report, self.limits);
        let now = home.node.clock().now();
        let link = home.links.of(self.id);
        let mut coming = coming(home, task.session()).await?;
        let asked = match &link {
            Some(link) if coming.is_none() => {
                let asking = format!("{which}: asking its streamer");
                let most = limits.reach.saturating_add(limits.asked);
                let ask = ask_the_streamer(task, user, link, limits);
                within(report, &asking, most, ask).await
            }
            _ => false,
        };
        // Without the streamer, what is locked comes home after its locktime and not before.
        let locked = locked_until(task.session()).is_some_and(|until| until > now.unix);
        let waits = locked || channel_locked(home, task.session()).await?.is_some();
        let limit = if waits { limits.locked } else { limits.alone };
        let left = asked || link.is_some() && locked || coming.is_some() || limit.is_zero();
        if !left {
            // One that has ended already only has to settle.
            if let Err(TellError::Store(error)) = task.tell(Command::Close(CloseCode::Done)).await {
                return Err(error.into());
            }
            let bringing = format!("{which}: bringing its money home");
            let ran = tokio::time::timeout(limit, task.run(None));
            within(report, &bringing, limit, ran).await.ok();
        }
        if coming.is_none() {
            coming = self::coming(home, task.session()).await?;
        }
        let unpaid = only_unpaid(home, task.session()).await?;
        let channel_locked = channel_locked(home, task.session()).await?;
        let settled = task.session().is_settled() || unpaid;
        if unpaid {
            home.links.forget(self.id);
        }
        let unheard = late::unheard(home, self.id).await?;
        let locked = last_lock(home, task.session()).await?;
        let locked = locked.filter(|_| !settled);
        Ok(Closed {
            account: Account::of(home, task.session()).await?,
            settled,
            asked,
            unheard,
            unpaid,
            coming,
            locked: locked.map(|until| (until, now.unix)),
            channel_locked,
        })
    }
}

/// What comes back by itself, where all that a session has out is in channels that are being closed.
async fn coming(home: &Home, session: &PayerSession) -> Result<Option<Msat>, AppError> {
    match &home.channels {
        Some(channels) if !session.is_settled() => {
            // Without a chain to see nothing is known to be on its way.
            let _ = channels.look().await;
            channels.on_the_way(home, session).await
        }
        _ => Ok(None),
    }
}

/// Until when its channels are locked that nobody closes, in words.
async fn channel_locked(home: &Home, session: &PayerSession) -> Result<Option<String>, AppError> {
    match &home.channels {
        Some(channels) => channels.locked(home, session).await,
        None => Ok(None),
    }
}

/// Closes the session with its streamer, who signs over what it was not paid. True where that was
/// begun; false where nobody was there.
pub(super) async fn ask_the_streamer(
    task: &mut SessionTask<PayerSession>,
    user: UserPorts,
    link: &StreamLink,
    limits: Limits,
) -> bool {
    let peer = PeerConfig::for_viewer();
    let initial = task.session().reading();
    let connecting = ViewerPeer::connect(&Client, &link.url, &peer, initial);
    let Ok(Ok(stream)) = tokio::time::timeout(limits.reach, connecting).await else {
        return false;
    };
    let UserPorts {
        commands,
        mut events,
        gate: _gate,
    } = user;
    let (bound, is_bound) = watch::channel(false);
    let closing = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Bound { .. }) {
                bound.send_replace(true);
                let _ = commands.send(Command::Close(CloseCode::Done)).await;
            }
        }
    });
    let connected = Connected {
        link: stream.link,
        usage: stream.reading,
    };
    let ran = tokio::time::timeout(limits.asked, task.run(Some(connected))).await;
    closing.abort();
    let _ = stream.connection.close().await;
    ran.is_ok() && *is_bound.borrow()
}

fn tell(report: Report, id: SessionId, closed: &Closed) {
    let account = &closed.account;
    let state = match (closed.settled, closed.locked) {
        (true, _) if closed.unpaid => UNPAID.to_owned(),
        (true, _) => match closed.unheard {
            Some(unheard) => format!("settled; {account}. {}", unheard.words()),
            None => format!("settled; {account}"),
        },
        (false, None) if closed.coming.is_some() => {
            let sums = account.unsettled();
            format!("{}; {sums}", on_the_way(closed.coming.unwrap_or_default()))
        }
        (false, Some((until, now))) => format!("{}; {}", account.unsettled(), words(until, now)),
        (false, None) => {
            let later = || "not settled yet; try again later".to_owned();
            let why = closed.channel_locked.clone().unwrap_or_else(later);
            format!("{why}; {}", account.unsettled())
        }
    };
    let name = id.to_string();
    let short = name.get(..8).unwrap_or_default();
    report.tell(&format!("session [{short}]: {state}"));
    report.say(
        "recovered",
        serde_json::json!({
            "session": name, "settled": closed.settled,
            "paid_msat": account.paid.msat(), "acknowledged_msat": account.acknowledged.msat(),
            "fees_msat": account.fees().msat(), "refunded_msat": account.refunded.msat(),
            "locked_until_unix_s": closed.locked.map(|(until, _)| until.0),
            "unacknowledged_msat": closed.unheard.map(|of| of.amount.msat()),
            "ask_until_unix_s": closed.unheard.map(|of| of.until.0),
        }),
    );
}
