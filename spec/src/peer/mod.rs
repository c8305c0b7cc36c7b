//! Both sides as puppets, the stage they play on, and the judge who watches: for transcripts,
//! where they are honest, and for hostile peers, where they are not.

mod judge;
mod method;
mod payee;
mod payer;
mod stage;

use streampay_core::session::ChannelIdentity;

pub use self::judge::Judge;
pub use self::method::{METHOD, opening, payment};
pub use self::payee::Payee;
pub use self::payer::Payer;
pub use self::stage::{Cast, Stage};

/// The certificates of all connections here.
pub const CHANNEL: ChannelIdentity = ChannelIdentity {
    payer: [0xc1; 32],
    payee: [0xc2; 32],
};

/// What goes wrong on a stage, for people.
pub type Played<T = ()> = Result<T, String>;
