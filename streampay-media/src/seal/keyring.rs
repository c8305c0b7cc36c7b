//! What a session learns of keys, for its connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use streampay_core::session::{Event, SEALED_MEDIA};
use tokio::sync::watch;

use super::{BadGrant, EpochGrant, OpenError, Opener};
use crate::packet::Codec;

/// A viewer's keys, for one connection of a session after the other. To be told every event of
/// the session; given to [`ViewerPeer::connect_sealable`](crate::peer::ViewerPeer::connect_sealable), it opens
/// what comes. Clones are the same keyring.
#[derive(Clone, Debug)]
pub struct Keyring(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    opener: Mutex<Opener>,
    /// Whether media is sealed, once that is agreed; changes with each grant, too.
    agreed: watch::Sender<Option<bool>>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyring {
    /// One without keys, of a session that is not bound yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            opener: Mutex::default(),
            agreed: watch::Sender::new(None),
        }))
    }

    /// Takes note of [`Event::Bound`] and [`Event::Grant`], and of nothing else.
    ///
    /// # Errors
    /// [`BadGrant`] where media is sealed and the grant is not the key of an epoch. Frames that it
    /// should have opened will not count.
    pub fn note(&self, event: &Event) -> Result<(), BadGrant> {
        match event {
            Event::Bound { features, .. } => {
                let sealed = features & SEALED_MEDIA != 0;
                self.0.agreed.send_replace(Some(sealed));
            }
            Event::Grant(grant) if *self.0.agreed.borrow() == Some(true) => {
                let grant = EpochGrant::from_bytes(&grant.0)?;
                self.lock().grant(&grant)?;
                // The same value again: it wakes all the same.
                self.0.agreed.send_modify(|_| {});
            }
            _ => {}
        }
        Ok(())
    }

    /// A new connection: its keys come anew, and what the last one opened may come again.
    pub(crate) fn begin(&self) {
        *self.lock() = Opener::new();
        self.0.agreed.send_replace(None);
    }

    /// The epoch whose key came last.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.lock().newest()
    }

    /// Whether media is sealed: changes when that is agreed and with every key.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<bool>> {
        self.0.agreed.subscribe()
    }

    pub(crate) fn is_sealed(&self) -> Option<bool> {
        *self.0.agreed.borrow()
    }

    pub(crate) fn open(&self, codec: Codec, frame: &[u8]) -> Result<Bytes, OpenError> {
        self.lock().open(codec, frame)
    }

    fn lock(&self) -> MutexGuard<'_, Opener> {
        // Nothing in an opener panics half way.
        self.0.opener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
