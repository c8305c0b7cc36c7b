//! A viewer that comes, on its way to its session.

use std::sync::Arc;
use std::time::Duration;

use streampay_core::driver::{Link, LinkEnd, SessionTask, entropy};
use streampay_core::session::{PayeeConfig, PayeeSession};
use streampay_core::units::Msat;
use streampay_core::wire::peek_session;
use streampay_media::whep::{Arrival, Preview};
use tokio::sync::mpsc;

use super::offered::Offered;
use super::seated::turn_away;
use super::sessions::{Connection, Found, Leaves, Sessions};
use crate::error::AppError;

/// How long a fresh connection has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(15);
impl Sessions {
    /// Serves every viewer that comes.
    pub(super) async fn accept(
        self: Arc<Self>,
        offered: Arc<Offered>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        while let Some(arrival) = arrivals.recv().await {
            let (sessions, offered) = (self.clone(), offered.clone());
            tokio::spawn(async move {
                if let Err(error) = sessions.welcome(&offered, arrival).await {
                    let line = format!("a viewer could not be served: {error}");
                    sessions.report.tell(&line);
                    if let AppError::Store(error) = error {
                        sessions.note(error);
                    }
                }
            });
        }
    }

    /// Leads a viewer to its session: the one that is there, or a new one.
    async fn welcome(&self, offered: &Arc<Offered>, arrival: Arrival) -> Result<(), AppError> {
        let Arrival {
            mut link,
            connection: media,
            place,
            address,
        } = arrival;
        let hello = tokio::time::timeout(HELLO_WAIT, link.end.incoming.recv()).await;
        let Ok(Some(hello)) = hello else {
            return Ok(());
        };
        let Ok(id) = peek_session(&hello) else {
            return Ok(());
        };
        let link = with_first(link, hello).await;
        let connection = Connection {
            link,
            media,
            place,
            address,
        };
        let Some(mut doors) = self.enter(id, Some(connection)) else {
            return Ok(());
        };
        let _leaves = Leaves(self, id);
        let mut preview = None;
        let (task, doors) = match self.find(id).await? {
            Found::Session(session, records) => self.restored(*session, &records, doors),
            Found::Unusable(error) => return Err(error.into()),
            Found::New => {
                let sale = offered.now().await;
                let Some(terms) = &sale.terms else {
                    if let Ok(Connection {
                        link, media, place, ..
                    }) = doors.connections.try_recv()
                    {
                        turn_away(link, (media, place)).await;
                    }
                    return Ok(());
                };
                let taken = self.patience.preview(address, terms.preview);
                let preview_left = taken.as_ref().map_or(Msat::ZERO, Preview::given);
                preview = taken;
                let payee = PayeeConfig {
                    identity: self.identity.clone(),
                    preview_left,
                    terms: terms.clone().into(),
                    unpaid_ms: self.patience.unpaid_ms(),
                };
                let entropy = entropy().map_err(AppError::io("no randomness"))?;
                let session = PayeeSession::new(payee, &entropy)?.requiring(self.features);
                doors.with(|ports| SessionTask::new(self.node.clone(), session, ports))
            }
        };
        self.live(id, task, doors, preview).await?;
        Ok(())
    }
}

/// The link again, its first message still to come.
async fn with_first(link: Link, first: bytes::Bytes) -> Link {
    let Link {
        identity,
        end: LinkEnd {
            outgoing,
            mut incoming,
        },
    } = link;
    let (to, from) = mpsc::channel(LinkEnd::QUEUE);
    let _ = to.send(first).await;
    tokio::spawn(async move {
        let passed = async {
            while let Some(bytes) = incoming.recv().await {
                if to.send(bytes).await.is_err() {
                    return;
                }
            }
        };
        // A session that lets go of its link shows at once, and not at the viewer's next word.
        tokio::select! {
            () = passed => {}
            () = to.closed() => {}
        }
    });
    Link {
        identity,
        end: LinkEnd {
            outgoing,
            incoming: from,
        },
    }
}
