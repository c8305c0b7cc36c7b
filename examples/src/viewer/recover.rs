//! After a crash: every session that is not settled is closed, and its money brought home.

use std::time::Duration;

use streampay_core::driver::{Connected, Ports, SessionTask, TellError, UserPorts};
use streampay_core::session::{
    CloseCode, Command, Event, PayerSession, Policy, Role, SEALED_MEDIA,
};
use streampay_core::store::StoreError;
use streampay_core::units::{Msat, SessionId, Unix};
use streampay_media::peer::{PeerConfig, ViewerPeer};
use streampay_media::whep::Client;
use tokio::sync::watch;

use super::account::Account;
use super::locked::{locked_until, words};
use crate::accounting::before_sessions;
use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::link::StreamLink;
use crate::progress::within;
use crate::report::Report;

/// How long one session may take; a mint that is away longer is asked again next time.
const LIMIT: Duration = Duration::from_secs(60);
/// The same for one whose lock still holds, by this machine's clock: the mint has the last word.
const LOCKED_LIMIT: Duration = Duration::from_secs(10);
/// How long the streamer may take to answer.
const REACH: Duration = Duration::from_secs(15);

/// What is told of an address that was shown in vain.
pub const UNPAID: &str = "nobody has paid to the address that was shown, so nothing is out. Should \
    somebody pay to it all the same, that comes back by itself after the channel's time, whenever \
    this folder is in use";

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
    let (mut all_settled, mut found) = (true, 0_usize);
    let open = crate::ledger::sessions(home).await?.into_iter();
    let open = open.filter(|of| of.role == Role::Payer && !of.settled);
    let open = open.count();
    for id in home.node.sessions().await? {
        let records = home.node.records_of(id).await?;
        let now = home.node.clock().now();
        let identity = home.identity.clone();
        let restored = PayerSession::restore(identity, Policy::nothing(), now, id, &records);
        let session = match restored {
            // A streamer that seals takes nobody back who does not say so.
            Ok(session) => session.offering(SEALED_MEDIA),
            // This folder was a streamer's too.
            Err(StoreError::OtherRole) => continue,
            Err(error) => {
                report.tell(&format!("session {id}: {error}; its money cannot be found"));
                all_settled = false;
                continue;
            }
        };
        if session.is_settled() {
            continue;
        }
        found = found.saturating_add(1);
        let which = format!("session {found} of {}", open.max(found));
        let (ports, user) = Ports::pair();
        let mut task = SessionTask::restored(home.node.clone(), session, &records, ports);
        let link = home.links.of(id);
        let mut coming = coming(home, task.session()).await?;
        let asked = match &link {
            Some(link) if coming.is_none() => {
                let asking = format!("{which}: asking its streamer");
                let most = REACH.saturating_add(LIMIT);
                within(
                    report,
                    &asking,
                    most,
                    ask_the_streamer(&mut task, user, link),
                )
                .await
            }
            _ => false,
        };
        // Without the streamer, what is locked comes home after its locktime and not before.
        let locked = locked_until(task.session()).is_some_and(|until| until > now.unix);
        if !(asked || link.is_some() && locked || coming.is_some()) {
            // One that has ended already only has to settle.
            if let Err(TellError::Store(error)) = task.tell(Command::Close(CloseCode::Done)).await {
                return Err(error.into());
            }
            let waits = locked || channel_locked(home, task.session()).await?.is_some();
            let limit = if waits { LOCKED_LIMIT } else { LIMIT };
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
        all_settled &= settled;
        if settled {
            home.links.forget(id);
        }
        let account = Account::of(home, task.session()).await?;
        let locked = locked_until(task.session()).filter(|_| !settled);
        tell(
            report,
            id,
            &account,
            (settled, unpaid, coming),
            locked.map(|until| (until, now.unix)),
            channel_locked,
        );
    }
    if found == 0 {
        report.tell("no session is open");
    }
    let none_lost = super::lost::find(home, report).await?;
    Ok(all_settled && none_lost)
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
async fn ask_the_streamer(
    task: &mut SessionTask<PayerSession>,
    user: UserPorts,
    link: &StreamLink,
) -> bool {
    let peer = PeerConfig::default();
    let initial = task.session().reading();
    let connecting = ViewerPeer::connect(&Client, &link.url, &peer, initial);
    let Ok(Ok(stream)) = tokio::time::timeout(REACH, connecting).await else {
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
    let ran = tokio::time::timeout(LIMIT, task.run(Some(connected))).await;
    closing.abort();
    let _ = stream.connection.close().await;
    ran.is_ok() && *is_bound.borrow()
}

fn tell(
    report: Report,
    id: SessionId,
    account: &Account,
    (settled, unpaid, coming): (bool, bool, Option<Msat>),
    locked: Option<(Unix, Unix)>,
    channel_locked: Option<String>,
) {
    let state = match (settled, locked) {
        (true, _) if unpaid => UNPAID.to_owned(),
        (true, _) => format!("settled; {account}"),
        (false, None) if coming.is_some() => {
            let sums = account.unsettled();
            format!("{}; {sums}", on_the_way(coming.unwrap_or_default()))
        }
        (false, Some((until, now))) => format!("{}; {}", account.unsettled(), words(until, now)),
        (false, None) => {
            let why =
                channel_locked.unwrap_or_else(|| "not settled yet; try again later".to_owned());
            format!("{why}; {}", account.unsettled())
        }
    };
    report.tell(&format!("session {id}: {state}"));
    report.say(
        "recovered",
        serde_json::json!({
            "session": id.to_string(), "settled": settled,
            "paid_msat": account.paid.msat(), "acknowledged_msat": account.acknowledged.msat(),
            "fees_msat": account.fees().msat(), "refunded_msat": account.refunded.msat(),
            "locked_until_unix_s": locked.map(|(until, _)| until.0),
        }),
    );
}
