//! The two machines of a session, and what they say to the world.

mod binding;
mod close;
mod crypto;
mod event;
mod flow;
mod io;
mod lease;
mod ledger;
mod member;
mod offer;
mod output;
pub(crate) mod pace;
mod parts;
mod payee;
mod payer;
mod proof;
mod receipt;
mod record;
mod resume;

pub use binding::{Binding, ChannelIdentity, Choice, Role, SEALED_MEDIA};
pub use close::CloseCode;
pub use crypto::{BadKey, Entropy, Hash, SecretKey, Signature, TaggedHash};
pub use event::{ApiMisuse, Event, Misbehaviour};
pub use io::{BackendEvent, Command, Input, LinkEvent, MediaGrant, Output};
pub use ledger::{PurseLedger, SessionLedger};
pub use member::{BadLine, Invitation, Line, Name, RoomAsk, RoomNews};
pub use payee::{BadConfig, PayeeConfig, PayeeSession};
pub use payer::{PayerConfig, PayerSession, Policy};
pub use proof::{BadProof, ReceiptProof};
pub use receipt::Receipt;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
