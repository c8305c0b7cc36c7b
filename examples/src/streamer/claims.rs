//! What plain players have paid for and not used yet. It is kept in the store of the sessions, so that
//! a streamer that dies goes on with it. Spec: media 5.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use streampay_core::driver::StoreWriter;
use streampay_core::meter::Reading;
use streampay_core::store::{ChangeSet, StoreError};
use streampay_core::units::Msat;
use streampay_media::whep::Kept;

use cdk_common::util::unix_time;

/// Its space in the store, beside those of the payment methods.
const SPACE: &str = "paywall";
/// How long a claim that nobody uses is kept, in seconds: as long as a session can be resumed.
const KEPT_S: u64 = 86_400;
/// Tokens whose mint gave no answer, at most. While there are so many no other one is taken: who sent
/// these has paid, and is to get something for it.
const BEGUN_MAX: usize = 1_024;
const CLAIM: u8 = b'c';
const BEGUN: u8 = b'b';

/// The name of a span, or of a token.
pub(super) type Name = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    kept: Kept,
    /// When it was last paid for or used, in seconds of Unix time.
    at: u64,
}

#[derive(Default)]
struct Table {
    claims: BTreeMap<Name, Claim>,
    /// Tokens that are being taken, and since when.
    begun: BTreeMap<Name, u64>,
}

pub(super) struct Claims {
    store: StoreWriter,
    table: Mutex<Table>,
    /// Held while a token is taken: finishing what was begun must not meet what is being done.
    pub(super) taking: tokio::sync::Mutex<()>,
}

impl Claims {
    /// Those that are in the store and not too old.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub(super) async fn open(store: StoreWriter) -> Result<Self, StoreError> {
        let space = space();
        let (mut table, mut old) = (Table::default(), ChangeSet::new());
        let since = unix_time().saturating_sub(KEPT_S);
        for (key, value) in store.scan(space.clone()).await? {
            let key = key.get(space.len()..).unwrap_or_default();
            let read = key.split_first().and_then(|(kind, name)| {
                let name = Name::try_from(name).ok()?;
                Some((*kind, name))
            });
            match (read, decode(&value)) {
                (Some((CLAIM, name)), Some(claim)) if claim.at >= since => {
                    table.claims.insert(name, claim);
                }
                (Some((BEGUN, name)), Some(claim)) if claim.at >= since => {
                    table.begun.insert(name, claim.at);
                }
                _ => old.remove(key),
            }
        }
        if !old.is_empty() {
            store.append(old.within_node(SPACE)).await?;
        }
        Ok(Self {
            store,
            table: Mutex::new(table),
            taking: tokio::sync::Mutex::default(),
        })
    }

    /// What there is of a span.
    pub(super) fn kept(&self, span: &Name) -> Option<Kept> {
        self.lock().claims.get(span).map(|claim| claim.kept)
    }

    /// True where this token was being taken, and it is not known what became of that.
    pub(super) fn begun(&self, token: &Name) -> bool {
        self.lock().begun.contains_key(token)
    }

    /// From now on it may be the mint's, whatever becomes of this process. False where there is no room
    /// for another one.
    pub(super) async fn begin(&self, token: Name) -> Result<bool, StoreError> {
        let at = unix_time();
        let mut changes = ChangeSet::new();
        {
            let mut table = self.lock();
            if table.begun.len() >= BEGUN_MAX {
                let since = at.saturating_sub(KEPT_S);
                table.begun.retain(|name, at| {
                    let kept = *at >= since;
                    if !kept {
                        changes.remove(key(BEGUN, name));
                    }
                    kept
                });
            }
            if table.begun.len() >= BEGUN_MAX {
                return Ok(false);
            }
            table.begun.insert(token, at);
        }
        let mark = Claim {
            kept: Kept::default(),
            at,
        };
        changes.put(key(BEGUN, &token), encode(&mark));
        self.append(changes).await?;
        Ok(true)
    }

    /// Nothing of it was taken.
    pub(super) async fn call_off(&self, token: &Name) -> Result<(), StoreError> {
        if self.lock().begun.remove(token).is_none() {
            return Ok(());
        }
        let mut changes = ChangeSet::new();
        changes.remove(key(BEGUN, token));
        self.append(changes).await
    }

    /// A token is taken: its span has so much more. Where that cannot be kept it has not, and the token
    /// is being taken still.
    pub(super) async fn sold(
        &self,
        span: Name,
        token: &Name,
        amount: Msat,
    ) -> Result<(), StoreError> {
        let mut changes = ChangeSet::new();
        let begun = {
            let mut table = self.lock();
            let begun = table.begun.remove(token);
            let claim = table.claims.entry(span).or_insert_with(|| Claim {
                kept: Kept::default(),
                at: 0,
            });
            claim.kept.paid = claim.kept.paid.saturating_plus(amount);
            claim.at = unix_time();
            changes.put(key(CLAIM, &span), encode(claim));
            begun
        };
        changes.remove(key(BEGUN, token));
        let kept = self.append(changes).await;
        if kept.is_err() {
            self.unsell(span, token, amount, begun);
        }
        kept
    }

    fn unsell(&self, span: Name, token: &Name, amount: Msat, begun: Option<u64>) {
        let mut table = self.lock();
        if let Some(claim) = table.claims.get_mut(&span) {
            claim.kept.paid = claim.kept.paid.saturating_minus(amount);
            if claim.kept.paid.is_zero() {
                table.claims.remove(&span);
            }
        }
        table.begun.extend(begun.map(|at| (*token, at)));
    }

    /// So much of a span is used.
    pub(super) async fn used(&self, span: &Name, used: Reading) -> Result<(), StoreError> {
        let mut changes = ChangeSet::new();
        {
            let mut table = self.lock();
            let Some(claim) = table.claims.get_mut(span) else {
                return Ok(());
            };
            claim.kept.used = claim.kept.used.max(used);
            claim.at = unix_time();
            changes.put(key(CLAIM, span), encode(claim));
        }
        self.append(changes).await
    }

    /// All of a span is used, of which so much was paid. One for which more was taken since stays.
    pub(super) async fn ended(&self, span: &Name, paid: Msat) -> Result<(), StoreError> {
        {
            let mut table = self.lock();
            let over = |claim: &Claim| claim.kept.paid <= paid;
            if !table.claims.get(span).is_some_and(over) {
                return Ok(());
            }
            table.claims.remove(span);
        }
        let mut changes = ChangeSet::new();
        changes.remove(key(CLAIM, span));
        self.append(changes).await
    }

    async fn append(&self, changes: ChangeSet) -> Result<(), StoreError> {
        self.store.append(changes.within_node(SPACE)).await
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(kind: u8, name: &Name) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(name);
    key
}

/// The start of every key.
fn space() -> Vec<u8> {
    let mut any = ChangeSet::new();
    any.put(Vec::new(), Vec::new());
    let any = any.within_node(SPACE);
    any.changes()
        .first()
        .map(|change| change.key.clone())
        .unwrap_or_default()
}

fn encode(claim: &Claim) -> Vec<u8> {
    let Kept { paid, used } = claim.kept;
    let numbers = [paid.msat(), used.media_ms, used.bytes, claim.at];
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn decode(bytes: &[u8]) -> Option<Claim> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let [paid, media_ms, bytes, at] = numbers else {
        return None;
    };
    let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    rest.is_empty().then_some(())?;
    Some(Claim {
        kept: Kept {
            paid: Msat::new(number(paid)).ok()?,
            used: Reading {
                media_ms: number(media_ms),
                bytes: number(bytes),
            },
        },
        at: number(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use streampay_core::store::{Key, RedbStore, Store};

    /// A disk that takes everything until it breaks.
    #[derive(Clone, Default)]
    struct Broken(Arc<AtomicBool>);

    impl Store for Broken {
        fn append(&mut self, _: &[ChangeSet]) -> Result<(), StoreError> {
            match self.0.load(Ordering::SeqCst) {
                true => Err(StoreError::Failed),
                false => Ok(()),
            }
        }

        fn scan(&self, _: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
            Ok(Vec::new())
        }
    }

    const SPAN: Name = [1; 32];
    const TOKEN: Name = [2; 32];

    fn sat(sat: u64) -> Msat {
        Msat::from_sat(sat).unwrap()
    }

    fn store(folder: &tempfile::TempDir) -> StoreWriter {
        let store = RedbStore::open(folder.path()).unwrap();
        StoreWriter::start(Box::new(store)).unwrap()
    }

    /// The last process's store is let go of a moment after it.
    async fn again(folder: &tempfile::TempDir) -> Claims {
        loop {
            match RedbStore::open(folder.path()) {
                Ok(store) => {
                    let store = StoreWriter::start(Box::new(store)).unwrap();
                    return Claims::open(store).await.unwrap();
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn what_is_paid_and_used_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(store(&folder)).await.unwrap();
        claims.begin(TOKEN).await.unwrap();
        drop(claims);
        let claims = again(&folder).await;
        assert!(claims.begun(&TOKEN));
        assert_eq!(claims.kept(&SPAN), None);
        claims.sold(SPAN, &TOKEN, sat(4)).await.unwrap();
        claims.sold(SPAN, &[3; 32], sat(4)).await.unwrap();
        let used = Reading {
            media_ms: 700,
            bytes: 12,
        };
        claims.used(&SPAN, used).await.unwrap();
        drop(claims);
        let claims = again(&folder).await;
        assert!(!claims.begun(&TOKEN));
        let paid = sat(8);
        assert_eq!(claims.kept(&SPAN), Some(Kept { paid, used }));
        // It never has less used than before.
        claims.used(&SPAN, Reading::default()).await.unwrap();
        assert_eq!(claims.kept(&SPAN), Some(Kept { paid, used }));
        // More was taken while it ended.
        claims.ended(&SPAN, sat(4)).await.unwrap();
        assert_eq!(claims.kept(&SPAN), Some(Kept { paid, used }));
        claims.ended(&SPAN, paid).await.unwrap();
        drop(claims);
        assert_eq!(again(&folder).await.kept(&SPAN), None);
    }

    #[tokio::test]
    async fn who_has_paid_without_an_answer_is_not_forgotten_for_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(store(&folder)).await.unwrap();
        let name = |number: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            name
        };
        for number in 0..BEGUN_MAX {
            assert!(claims.begin(name(number)).await.unwrap());
        }
        assert!(!claims.begin(name(BEGUN_MAX)).await.unwrap());
        assert!(claims.begun(&name(0)));
        assert!(!claims.begun(&name(BEGUN_MAX)));
        // Once one is too old to be sent again there is room.
        claims.lock().begun.insert(name(0), 0);
        assert!(claims.begin(name(BEGUN_MAX)).await.unwrap());
        assert!(!claims.begun(&name(0)));
        drop(claims);
        let claims = again(&folder).await;
        assert_eq!(claims.lock().begun.len(), BEGUN_MAX);
        assert!(!claims.begun(&name(0)));
    }

    #[tokio::test]
    async fn nothing_is_sold_that_is_not_kept() {
        let disk = Broken::default();
        let store = StoreWriter::start(Box::new(disk.clone())).unwrap();
        let claims = Claims::open(store).await.unwrap();
        assert!(claims.begin(TOKEN).await.unwrap());
        disk.0.store(true, Ordering::SeqCst);
        claims.sold(SPAN, &TOKEN, sat(4)).await.unwrap_err();
        assert_eq!(claims.kept(&SPAN), None);
        assert!(claims.begun(&TOKEN));
    }
}
