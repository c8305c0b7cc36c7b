//! Closing sessions: all that are open, when the streamer ends or recovers.

use std::sync::Arc;
use std::time::Duration;

use streampay_core::driver::{Ports, SessionTask, TellError};
use streampay_core::session::{CloseCode, Command, PurseLedger, SessionLedger};
use streampay_core::store::StoreError;
use streampay_core::units::{PurseKey, SessionId};
use tokio::task::JoinSet;

use super::sessions::{Found, Sessions, tell};
use super::strangers::Stranger;
use crate::progress::during;
use crate::report::Next;

/// How long closing one session may take; a mint that is away longer is asked again next time.
const CLOSE: Duration = Duration::from_secs(30);
/// How often it is looked whether anything is left to wait for.
const LOOK: Duration = Duration::from_millis(500);
/// How many sessions are closed at once.
const CLOSE_AT_ONCE: usize = 8;
/// How long live sessions have to close when the streamer ends.
const GOODBYE: Duration = Duration::from_secs(10);

impl Sessions {
    /// Closes every session that is not over, and settles it. True where nothing is left to do.
    pub(super) async fn close_all(self: Arc<Self>) -> Result<bool, StoreError> {
        let mut under_way = JoinSet::new();
        let (mut all_well, mut left) = (true, self.node.sessions().await?);
        let (all, report) = (left.len(), self.report);
        loop {
            while under_way.len() < CLOSE_AT_ONCE
                && let Some(id) = left.pop()
            {
                under_way.spawn(self.clone().close_one(id));
            }
            let over = all.saturating_sub(left.len().saturating_add(under_way.len()));
            let closing = format!("closing sessions: {over} of {all} are done");
            let Some(done) = during(report, &closing, under_way.join_next()).await else {
                return Ok(all_well);
            };
            all_well &= done.unwrap_or(false);
        }
    }

    async fn close_one(self: Arc<Self>, id: SessionId) -> bool {
        let (session, records) = match self.find(id).await {
            Ok(Found::Session(session, records)) => (session, records),
            // This folder was a viewer's too.
            Ok(Found::New | Found::Unusable(StoreError::OtherRole)) => return true,
            Ok(Found::Unusable(error)) | Err(error) => {
                self.report.unusable("streamer", id, &error);
                return false;
            }
        };
        if session.is_settled() {
            return true;
        }
        let (ports, user) = Ports::pair();
        let mut task = SessionTask::restored(self.node.clone(), *session, &records, ports);
        let watcher = tokio::spawn(tell(
            user.events,
            Arc::new(Stranger::new(true)),
            id,
            self.report,
            Next::after,
        ));
        let closing = task.tell(Command::Close(CloseCode::Done)).await;
        if !matches!(closing, Err(TellError::Store(_))) {
            let run = task.run(None);
            tokio::select! {
                _ = tokio::time::timeout(CLOSE, run) => {}
                () = self.nothing_to_wait_for(id) => {}
            }
        }
        let settled = task.session().is_settled();
        drop(task);
        let _ = watcher.await;
        settled
    }

    /// Ready once all that a session has out are channels that something spends, as the chain shows: what is left
    /// waits for blocks. Never where there is anything else.
    async fn nothing_to_wait_for(&self, id: SessionId) {
        let Some(channels) = &self.channels else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK).await;
            let Ok(records) = self.node.records_of(id).await else {
                continue;
            };
            let leaves = |row: &PurseLedger| {
                let purse = row.purse;
                row.home || channels.is_leaving(PurseKey { session: id, purse })
            };
            let read = SessionLedger::read(id, &records);
            if read.is_ok_and(|of| of.purses.iter().all(leaves)) {
                return;
            }
        }
    }

    /// Closes every session that has a task, and waits until each has told its viewer.
    pub(super) async fn goodbye(&self) {
        let slots: Vec<_> = self.lock().values().cloned().collect();
        for slot in slots {
            let _ = slot.commands.send(Command::Close(CloseCode::Done)).await;
        }
        let all_gone = async {
            while !self.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all_gone).await;
    }
}
