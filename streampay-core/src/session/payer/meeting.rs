//! Releasing, and there is a connection: the payee is told that the session closes, and shows what
//! its backend has left for ours. Nothing is paid, and the session does not wait for any of it.

use super::{PayerSession, Phase};
use crate::session::binding::sign_binding;
use crate::session::pace::Backoff;
use crate::session::record::PayerRecord;
use crate::session::{CloseCode, Role, Signature};
use crate::units::Mono;
use crate::wire::{Bind, Close, Message, Ready, Welcome};

/// How far a connection of a session that is closing has come.
pub(super) struct Meeting {
    said: Said,
    retry: Backoff,
}

/// What was said last. It is repeated until it is answered.
#[derive(Clone, Copy)]
enum Said {
    /// With this nonce.
    Hello([u8; 32]),
    Bind(Signature),
    Close,
}

impl Meeting {
    pub(super) fn timeout(&self) -> Mono {
        self.retry.at()
    }
}

impl PayerSession {
    pub(super) fn meet(&mut self, nonce: [u8; 32]) {
        self.say(Said::Hello(nonce));
    }

    /// A payee that knows of the closing answers with `closed`; one that does not, with its welcome.
    /// It is told once both have signed this connection.
    pub(super) fn met(&mut self, welcome: &Welcome) {
        let Some(Said::Hello(nonce)) = self.said() else {
            return;
        };
        let Some(up) = self.up.clone() else { return };
        let bound = self.bound(welcome, nonce, up.identity);
        let same = |record: &PayerRecord| self.is_same(record, welcome);
        let fits = self.record.as_ref().is_some_and(same);
        if !fits || self.judge(welcome, &bound).is_err() {
            return self.part();
        }
        let aux = up.entropy.derive("bind");
        let signature = sign_binding(&self.config.identity, bound.hash(), Role::Payer, &aux);
        self.say(Said::Bind(signature));
    }

    pub(super) fn met_and_bound(&mut self, ready: &Ready) {
        if !matches!(self.said(), Some(Said::Bind(_))) {
            return;
        }
        if let Some(evidence) = &ready.evidence {
            self.accept_evidence(evidence);
        }
        self.say(Said::Close);
    }

    /// Nothing more is said on this connection; what comes is still heard.
    pub(super) fn part(&mut self) {
        if let Phase::Releasing(releasing) = &mut self.phase {
            releasing.meeting = None;
        }
    }

    pub(super) fn advance_meeting(&mut self) {
        let now = self.now.mono;
        let Phase::Releasing(releasing) = &mut self.phase else {
            return;
        };
        let Some(meeting) = &mut releasing.meeting else {
            return;
        };
        if now < meeting.retry.at() {
            return;
        }
        if meeting.retry.is_overdue() {
            releasing.meeting = None;
        } else if meeting.retry.due(now) {
            let said = meeting.said;
            self.send_said(said);
        }
    }

    /// True where both sides have signed the connection on which it releases.
    pub(super) fn has_met(&self) -> bool {
        matches!(self.said(), Some(Said::Close))
    }

    fn said(&self) -> Option<Said> {
        match &self.phase {
            Phase::Releasing(releasing) => releasing.meeting.as_ref().map(|meeting| meeting.said),
            _ => None,
        }
    }

    fn say(&mut self, said: Said) {
        let retry = Backoff::start(self.now.mono);
        if let Phase::Releasing(releasing) = &mut self.phase {
            releasing.meeting = Some(Meeting { said, retry });
            self.send_said(said);
        }
    }

    fn send_said(&mut self, said: Said) {
        match said {
            Said::Hello(nonce) => self.say_hello(nonce),
            Said::Bind(binding) => self.send(&Message::Bind(Bind { binding })),
            Said::Close => {
                let record = self.record.as_ref();
                let code = record.and_then(|record| record.common.close_code());
                let code = code.unwrap_or(CloseCode::Done);
                self.send(&Message::Close(Close { code }));
            }
        }
    }
}
