//! One folder with everything a user owns: identity, wallet, sessions. One process at a time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::{LockedMachine, LockedPolicy, Runner, SwapMachine, SwapPolicy};
use streampay_core::driver::{Node, StoreWriter};
use streampay_core::session::{Entropy, SecretKey};
use streampay_core::store::{RedbStore, StoreError};
use streampay_core::units::Unix;

use crate::backup::{due, restored};
use crate::channel::{Channels, Setup};
use crate::error::AppError;
use crate::links::Links;
use crate::seed_file;
use crate::seed_words;
use crate::wallet::{MintLimits, WalletError, WalletFolder};

/// An opened folder. Clones are the same; it is let go of with the last.
#[derive(Clone)]
pub struct Home {
    /// The ecash.
    pub wallet: Arc<WalletFolder>,
    /// The sessions' store and payment methods.
    pub node: Arc<Node>,
    /// Who the user is.
    pub identity: SecretKey,
    /// Where the streams of unsettled sessions are.
    pub links: Links,
    /// What locked ecash is locked to, in terms of this user.
    pub receiver: ReceiverKey,
    /// The bitcoin channels, where there is a chain to see them on.
    pub channels: Option<Arc<Channels>>,
    /// Where the sessions are kept, for what else must outlive the process.
    pub(crate) store: StoreWriter,
    /// What paces all that is asked of mints.
    pub(crate) runner: Arc<Runner>,
    /// When the folder was saved last, as far as it knows; not while this has it.
    pub(crate) saved: Option<Unix>,
}

impl Home {
    /// Opens `folder`, which is made on the first call.
    ///
    /// # Errors
    /// [`AppError`]: the folder is in use, or cannot be read or written.
    pub async fn open(folder: &Path) -> Result<Self, AppError> {
        Self::open_with(folder, MintLimits::default()).await
    }

    /// The same with other limits for the wallet's mints.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(folder: &Path, limits: MintLimits) -> Result<Self, AppError> {
        Self::open_for(folder, limits, None).await
    }

    /// The same with bitcoin channels, which are watched from now on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_for(
        folder: &Path,
        limits: MintLimits,
        setup: Option<Setup>,
    ) -> Result<Self, AppError> {
        let wallet = Arc::new(WalletFolder::open_with(folder, limits)?);
        restored::hold_back(&wallet)?;
        let seed = seed_file::load_or_derive(folder, seed_words::IDENTITY);
        let seed = seed.map_err(AppError::io("the identity cannot be read"))?;
        let mut entropy = Entropy([0; 32]);
        for (to, from) in entropy.0.iter_mut().zip(seed.iter()) {
            *to = *from;
        }
        let identity = SecretKey::derive(&entropy, "identity")
            .map_err(|_| AppError::Failed("the identity file is damaged"))?;
        let store = Box::new(store_in(folder, || std::thread::sleep(BETWEEN))?);
        let writer = StoreWriter::start(store).map_err(AppError::io("the store cannot start"))?;
        let receiver = crate::pay::receiver(&entropy)?;
        let channels = setup.map(|setup| Channels::open(folder, &entropy, writer.clone(), setup));
        let channels = channels.transpose()?.map(Arc::new);
        let runner = Arc::new(Runner::new(wallet.clone()));
        let mut policy = LockedPolicy::default();
        policy.exposure = limits.exposure;
        let mut swap = SwapPolicy::default();
        swap.max_fee_permille = limits.max_fee_permille;
        policy.restored = restored::at(folder)?;
        let mut chain = LockedMachine::chain(policy, Some(receiver.clone()));
        for own in limits.each {
            if let Some(most) = own.exposure {
                chain = chain.with_exposure_at(&own.mint, most);
            }
        }
        let p2pk = LockedMachine::p2pk(policy, Some(receiver.clone())).beside(&chain);
        let node = Node::builder(writer.clone())
            .method(Box::new(chain), runner.clone())
            .method(Box::new(p2pk), runner.clone())
            .method(Box::new(SwapMachine::new(swap)), runner.clone());
        let node = match &channels {
            Some(channels) => channels.method(node),
            None => node,
        };
        let node = node.build().await?;
        if let Some(channels) = &channels {
            channels.begin(&node, &identity).await?;
        }
        Ok(Self {
            wallet,
            node,
            identity,
            links: Links::new(folder),
            receiver,
            channels,
            store: writer,
            runner,
            saved: due::last(folder),
        })
    }
}

impl core::fmt::Debug for Home {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}

/// How often a folder in use is tried again, and after how long: who has just let go of it may have begun another
/// program, which has all its files for the moment until it is that program.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(10);

fn again<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_in_use: impl Fn(&E) -> bool,
    mut between: impl FnMut(),
) -> Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if is_in_use(&error) => between(),
            done => return done,
        }
    }
    attempt()
}

/// The store in a folder that is ours: a home of before lets go of it a moment after the folder, when its writer ends.
fn store_in(folder: &Path, between: impl FnMut()) -> Result<RedbStore, StoreError> {
    let in_use = |error: &StoreError| matches!(error, StoreError::Locked);
    again(|| RedbStore::open(folder), in_use, between)
}

/// The right to use `folder`, for as long as the file lives.
///
/// # Errors
/// [`WalletError::InUse`], [`WalletError::Folder`].
pub(crate) fn lock(folder: &Path, name: &str) -> Result<File, WalletError> {
    lock_again(folder, name, || std::thread::sleep(BETWEEN))
}

fn lock_again(folder: &Path, name: &str, between: impl FnMut()) -> Result<File, WalletError> {
    let failed = |error| WalletError::Folder(folder.to_owned(), error);
    let mut maker = std::fs::DirBuilder::new();
    maker.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
    maker.create(folder).map_err(failed)?;
    let file = private_file(&folder.join(name)).map_err(failed)?;
    let in_use = |error: &TryLockError| matches!(error, TryLockError::WouldBlock);
    match again(|| file.try_lock(), in_use, between) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalletError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A file that only its owner can read or write, as it is or empty: whoever reads ecash has it.
///
/// # Errors
/// Where it cannot be made.
pub(crate) fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// The folder to use: what `--data` says, or `name` in the user's data folder.
#[must_use]
pub fn folder(data: Option<PathBuf>, name: &str) -> PathBuf {
    data.unwrap_or_else(|| platform(Keeps::Data).join("streampay").join(name))
}

/// Where the settings are.
#[must_use]
pub fn config_folder() -> PathBuf {
    platform(Keeps::Settings).join("streampay")
}

/// What a folder of the platform is for.
#[derive(Clone, Copy)]
enum Keeps {
    Data,
    Settings,
}

/// The XDG base directory specification: empty or relative is unset.
#[cfg(not(any(windows, target_os = "macos")))]
fn platform(keeps: Keeps) -> PathBuf {
    let (variable, usual) = match keeps {
        Keeps::Data => ("XDG_DATA_HOME", ".local/share"),
        Keeps::Settings => ("XDG_CONFIG_HOME", ".config"),
    };
    absolute(variable).unwrap_or_else(|| absolute("HOME").unwrap_or_default().join(usual))
}

#[cfg(target_os = "macos")]
fn platform(_: Keeps) -> PathBuf {
    let home = absolute("HOME").unwrap_or_default();
    home.join("Library/Application Support")
}

#[cfg(windows)]
fn platform(keeps: Keeps) -> PathBuf {
    // What is owned stays on this machine, settings go with the user.
    absolute(match keeps {
        Keeps::Data => "LOCALAPPDATA",
        Keeps::Settings => "APPDATA",
    })
    .unwrap_or_default()
}

fn absolute(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_is_let_go_of_a_moment_later_is_had() {
        let folder = tempfile::tempdir().unwrap();
        let mut other = Some(lock(folder.path(), "a.lock").unwrap());
        let mut tries = 0;
        let had = lock_again(folder.path(), "a.lock", || {
            tries += 1;
            if tries == 3 {
                other = None;
            }
        });
        let _had = had.unwrap();
        assert_eq!(tries, 3);
        let mut other = Some(RedbStore::open(folder.path()).unwrap());
        let mut tries = 0;
        let store = store_in(folder.path(), || {
            tries += 1;
            if tries == 3 {
                other = None;
            }
        });
        store.unwrap();
        assert_eq!(tries, 3);
        let refused = lock_again(folder.path(), "a.lock", || ());
        assert!(matches!(refused, Err(WalletError::InUse(_))));
    }
}
