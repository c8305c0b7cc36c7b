use tokio::sync::{mpsc, watch};

use crate::meter::Grant;
use crate::session::{Command, Event};

/// Commands and events that may wait. A user who reads no events loses the newest, never the
/// session.
const QUEUE: usize = 1024;

/// The session's ends of what connects it to its user and its gate.
#[derive(Debug)]
pub struct Ports {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) gate: watch::Sender<Grant>,
}

/// The user's ends.
#[derive(Debug)]
pub struct UserPorts {
    /// What the user wants. Dropping it changes nothing.
    pub commands: mpsc::Sender<Command>,
    /// What the user should know, in order.
    pub events: mpsc::Receiver<Event>,
    /// For the gate: the newest grant. It turns to an error when the session is gone.
    pub gate: watch::Receiver<Grant>,
}

impl Ports {
    /// Both ends.
    #[must_use]
    pub fn pair() -> (Self, UserPorts) {
        let (commands_in, commands) = mpsc::channel(QUEUE);
        let (events, events_out) = mpsc::channel(QUEUE);
        let (gate, gate_out) = watch::channel(Grant::Closed);
        let user = UserPorts {
            commands: commands_in,
            events: events_out,
            gate: gate_out,
        };
        (
            Self {
                commands,
                events,
                gate,
            },
            user,
        )
    }
}
