//! The payee's room: what all its sessions have in common. Who may join, who is there, how many
//! watch, what they say, and who is sent out.
//!
//! Sans-IO as a session is: give it inputs, then take every output in order, each
//! [`RoomOutput::Persist`] durable before the next. No money passes through it: each session is
//! its own, and the room only hears of tips that are credited and durable.
//!
//! ```text
//!                 Bound              Join, admitted
//!   (not there) --------> watching ------------------> joined
//!        ^                 |    ^                        |
//!        +------ Gone -----+    +-------- Leave ---------+
//!        +------------------------- Gone ----------------+
//! ```
//!
//! | durable | before |
//! |---|---|
//! | that an invitation is used, and by whom | `joined`, or that only the fee is missing |
//! | a ban, a mute, an entry of the list | anybody is sent out, or hears of it |
//!
//! Who is there is in memory alone and comes from the sessions that are bound, so that the count
//! is exact after a crash as well: then nobody is there until bound again. Spec: rooms.

mod admission;
mod chat;
mod host;
mod io;
mod name;
mod presence;
mod record;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use self::chat::{Giving, Said};
use self::record::{Invited, Standing};
use crate::session::pace::Pace;
use crate::session::{ApiMisuse, RoomAsk, RoomNews};
use crate::store::{ChangeSet, Key, StoreError};
use crate::units::{Mono, Msat, Now, SessionId, XOnlyKey};

pub use self::io::{Admission, HostCommand, RoomConfig, RoomEvent, RoomId, RoomInput, RoomOutput};

/// One payee's room. Spec: rooms.
///
/// Contract: after each [`Room::handle`], take outputs with [`Room::poll_output`] until there is
/// none; make each [`RoomOutput::Persist`] durable before taking the next; then wait for an
/// input or for [`Room::poll_timeout`].
pub struct Room {
    config: RoomConfig,
    /// Sessions that are bound, connected and not closing.
    viewers: BTreeMap<SessionId, Viewer>,
    standings: BTreeMap<XOnlyKey, Standing>,
    invitations: BTreeMap<[u8; 32], Invited>,
    /// What each identity said lately, over all its sessions and connections.
    paces: BTreeMap<XOnlyKey, Pace>,
    /// The last lines, the oldest first.
    history: VecDeque<Said>,
    /// The last line that a session was told which is not there now.
    told: BTreeMap<SessionId, u64>,
    /// Tips on their way to be told.
    giving: BTreeMap<SessionId, Giving>,
    lines: u64,
    epoch: u64,
    /// When the number of viewers may be told again, and whether it changed since.
    quiet_until: Mono,
    count_changed: bool,
    out: VecDeque<RoomOutput>,
    now: Now,
    failed: bool,
}

/// A session that is there.
#[derive(Clone, Debug)]
struct Viewer {
    identity: XOnlyKey,
    /// The name that others see, once it joined.
    name: Option<String>,
    /// The last line that it was told.
    told: u64,
}

impl Room {
    /// A room that is empty and knows nobody.
    #[must_use]
    pub fn new(config: RoomConfig) -> Self {
        Self {
            config,
            viewers: BTreeMap::new(),
            standings: BTreeMap::new(),
            invitations: BTreeMap::new(),
            paces: BTreeMap::new(),
            history: VecDeque::new(),
            told: BTreeMap::new(),
            giving: BTreeMap::new(),
            lines: 0,
            epoch: 0,
            quiet_until: Mono(0),
            count_changed: false,
            out: VecDeque::new(),
            now: Now::default(),
            failed: false,
        }
    }

    /// A room from the records of [`RoomConfig::prefix`] in the store: lists and invitations. Who
    /// is there shows as the sessions are bound again.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a record is unreadable.
    pub fn restore(config: RoomConfig, records: &[(Key, Vec<u8>)]) -> Result<Self, StoreError> {
        let mut room = Self::new(config);
        room.read(records)?;
        Ok(room)
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// [`ApiMisuse`] only, with the room unchanged: everything a payer can cause is an output.
    pub fn handle(&mut self, now: Now, input: RoomInput) -> Result<(), ApiMisuse> {
        if now.mono < self.now.mono {
            return Err(ApiMisuse::TimeWentBack);
        }
        self.now = now;
        let failing = matches!(input, RoomInput::PersistFailed);
        match input {
            RoomInput::Bound { session, identity } => self.on_bound(session, identity),
            RoomInput::Gone { session } => self.on_gone(session),
            RoomInput::Asked { session, ask } => self.on_asked(session, ask),
            RoomInput::Host(command) => self.on_host(command),
            RoomInput::Timeout => {}
            RoomInput::PersistFailed => {}
        }
        self.advance();
        if self.failed {
            // Nothing leaves any more; who is there is still counted.
            let last = RoomOutput::Event(RoomEvent::StoreFailed);
            self.out.retain(|output| *output == last);
        } else if failing {
            self.failed = true;
            self.out.clear();
            self.out
                .push_back(RoomOutput::Event(RoomEvent::StoreFailed));
        }
        Ok(())
    }

    /// The next thing to do, if any.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<RoomOutput> {
        self.out.pop_front()
    }

    /// When to come back with [`RoomInput::Timeout`]; none while nothing is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        let giving = self.giving.values().map(Giving::at);
        let count = self.count_changed.then_some(self.quiet_until);
        giving.chain(count).min()
    }

    /// How many sessions are bound, connected and not closing. One identity in two sessions
    /// counts twice: it pays twice. Spec: rooms 2.
    #[must_use]
    pub fn viewers(&self) -> u32 {
        u32::try_from(self.viewers.len()).unwrap_or(u32::MAX)
    }

    /// True once the store failed: nothing that is asked for is done any more.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.failed
    }

    /// The names of those who joined, and their identities.
    pub fn names(&self) -> impl Iterator<Item = (&str, XOnlyKey)> {
        let viewers = self.viewers.values();
        viewers.filter_map(|viewer| Some((viewer.name.as_deref()?, viewer.identity)))
    }

    fn on_asked(&mut self, session: SessionId, ask: RoomAsk) {
        match ask {
            RoomAsk::Join {
                name,
                invitation,
                unpaid,
            } => self.on_join(session, &name, invitation, unpaid),
            RoomAsk::Leave => self.on_leave(session),
            RoomAsk::Chat(text) => self.on_chat(session, text),
            RoomAsk::Tip(amount) => self.on_tip(session, amount),
        }
    }

    /// Everything that time calls for.
    fn advance(&mut self) {
        self.tell_tips(None);
        self.tell_count();
    }

    /// Tells the host, who loses the newest where the outputs are not taken away.
    fn event(&mut self, event: RoomEvent) {
        if self.out.len() < self.config.backlog_max().saturating_mul(2) {
            self.out.push_back(RoomOutput::Event(event));
        }
    }

    fn persist(&mut self, changes: ChangeSet) {
        self.out.push_back(RoomOutput::Persist(changes));
    }

    /// Tells one session. What may be dropped is, where the outputs are not taken away: a store
    /// that is slow holds up what is said, and must not fill the memory.
    fn tell(&mut self, session: SessionId, news: RoomNews) {
        if news.may_be_dropped() && self.out.len() >= self.config.backlog_max() {
            return;
        }
        self.out.push_back(RoomOutput::Tell { session, news });
    }

    fn joined(&self) -> Vec<SessionId> {
        let viewers = self.viewers.iter();
        let joined = viewers.filter(|(_, viewer)| viewer.name.is_some());
        joined.map(|(session, _)| *session).collect()
    }

    fn tell_all(&mut self, news: &RoomNews) {
        for session in self.joined() {
            self.tell(session, news.clone());
        }
    }

    fn sessions_of(&self, identity: XOnlyKey) -> Vec<SessionId> {
        let viewers = self.viewers.iter();
        let own = viewers.filter(|(_, viewer)| viewer.identity == identity);
        own.map(|(session, _)| *session).collect()
    }

    /// True where this identity may say one more thing now.
    fn may_speak(&mut self, identity: XOnlyKey) -> bool {
        let (now, most) = (self.now.mono, self.config.lists_max());
        if self.paces.len() >= most {
            self.paces.retain(|_, pace| !pace.is_free(now));
        }
        if self.paces.len() >= most && !self.paces.contains_key(&identity) {
            return false;
        }
        let pace = self.paces.entry(identity).or_default();
        pace.take(now, SPEAK_EVERY_MS, SPEAK_BURST)
    }

    fn standing(&self, identity: XOnlyKey) -> Standing {
        self.standings.get(&identity).copied().unwrap_or_default()
    }
}

/// One text or attempt to join in so many milliseconds on average. Spec: rooms 3.
const SPEAK_EVERY_MS: u64 = 1_000;
/// So many at once. Spec: rooms 3.
const SPEAK_BURST: u64 = 5;

impl core::fmt::Debug for Room {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Room")
            .field("viewers", &self.viewers.len())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// Nothing paid is missing, and nothing is free.
const PAID: Msat = Msat::ZERO;

#[cfg(test)]
mod tests;
