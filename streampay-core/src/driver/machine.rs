use alloc::string::String;
use alloc::vec::Vec;

use crate::session::{ApiMisuse, Input, Output, PayeeSession, PayerSession};
use crate::units::{Mono, Now, PurseId, SessionId, XOnlyKey};

/// Either side's machine, as the driver sees it.
pub trait SessionMachine: Send {
    /// Takes what happened.
    ///
    /// # Errors
    /// [`ApiMisuse`], with the session unchanged.
    fn handle(&mut self, now: Now, input: Input) -> Result<(), ApiMisuse>;
    /// The next thing to do, if any.
    fn poll_output(&mut self) -> Option<Output>;
    /// When to come back with [`Input::Timeout`].
    fn poll_timeout(&self) -> Option<Mono>;
    /// When a session without a connection ends, if nobody resumes it.
    fn resume_by(&self) -> Option<Mono>;
    /// True once the session is over.
    fn is_ended(&self) -> bool;
    /// True once all money is where it belongs.
    fn is_settled(&self) -> bool;
    /// The session's name; none before its first hello.
    fn id(&self) -> Option<SessionId>;
    /// The session's purses and their methods.
    fn purses(&self) -> Vec<(PurseId, String)>;
    /// The payer's identity, while a payee's session is bound, connected and not closing.
    fn viewer(&self) -> Option<XOnlyKey> {
        None
    }
}

macro_rules! session_machine {
    ($name:ty $(, $viewer:item)?) => {
        impl SessionMachine for $name {
            fn handle(&mut self, now: Now, input: Input) -> Result<(), ApiMisuse> {
                self.handle(now, input)
            }

            fn poll_output(&mut self) -> Option<Output> {
                self.poll_output()
            }

            fn poll_timeout(&self) -> Option<Mono> {
                self.poll_timeout()
            }

            fn resume_by(&self) -> Option<Mono> {
                self.resume_by()
            }

            fn is_ended(&self) -> bool {
                self.is_ended()
            }

            fn is_settled(&self) -> bool {
                self.is_settled()
            }

            fn id(&self) -> Option<SessionId> {
                self.session().into()
            }

            fn purses(&self) -> Vec<(PurseId, String)> {
                self.purses()
            }

            $($viewer)?
        }
    };
}

session_machine!(PayerSession);
session_machine!(
    PayeeSession,
    fn viewer(&self) -> Option<XOnlyKey> {
        self.viewer()
    }
);
