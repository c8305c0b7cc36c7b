//! Sessions without a viewer: what a crash interrupted, and what could not be settled.

use std::sync::Arc;
use std::time::Duration;

use streampay_core::store::StoreError;
use streampay_core::units::SessionId;

use super::sessions::{Found, Leaves, Sessions};

/// How long after a session could not settle it is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(60);

impl Sessions {
    /// Takes up every session that is not over: what a crash interrupted is finished, a payment
    /// whose swap had begun is redeemed, and its viewer may come back. Then, for as long as this
    /// runs, those again that a mint which was away kept from settling: what was acknowledged is
    /// the streamer's only once it is redeemed, and locked ecash goes back after its locktime.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut ids = self.all().await;
        loop {
            self.take_up(ids).await;
            tokio::time::sleep(SETTLE_AGAIN).await;
            ids = std::mem::take(&mut *self.waiting()).into_iter().collect();
        }
    }

    /// Every session that the store has. Where it cannot be read now, what is in it waits, and that is told.
    async fn all(&self) -> Vec<SessionId> {
        loop {
            let error = match self.node.sessions().await {
                Ok(ids) => return ids,
                Err(error) => error,
            };
            self.note(error);
            let line = "which sessions are not over cannot be read";
            self.report
                .tell(&format!("{line}: {error}; tried again each minute"));
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    async fn take_up(self: &Arc<Self>, ids: Vec<SessionId>) {
        for id in ids {
            let sessions = self.clone();
            // A viewer that is back already has done so.
            let Some(doors) = sessions.enter(id, None) else {
                continue;
            };
            let found = sessions.find(id).await;
            tokio::spawn(async move {
                let _leaves = Leaves(&sessions, id);
                let gone_on = match found {
                    Ok(Found::Session(session, records)) if !session.is_settled() => {
                        let (task, doors) = sessions.restored(*session, &records, doors);
                        sessions.live(id, task, doors, None).await
                    }
                    // This folder was a viewer's too; or it is over.
                    Ok(Found::Session(..) | Found::New) => Ok(()),
                    Ok(Found::Unusable(StoreError::OtherRole)) => Ok(()),
                    Ok(Found::Unusable(error)) | Err(error) => Err(error),
                };
                if let Err(error) = gone_on {
                    sessions.report.unusable("streamer", id, &error);
                    sessions.note(error);
                }
            });
        }
    }
}
