//! What a folder keeps in mind that was made from a backup, until all of it is known again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cdk::mint_url::MintUrl;
use cdk::wallet::types::ProofInfo;
use cdk_common::wallet::Transaction;
use serde::{Deserialize, Serialize};
use serde_json::json;
use streampay_cashu::LockedMachine;
use streampay_core::session::{PurseLedger, Role, TaggedHash};
use streampay_core::store::purse_prefix;
use streampay_core::units::{PurseKey, Unix};
use uuid::Uuid;

use crate::durable;
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::cash::Cash;
use crate::ledger::notes::Note;
use crate::progress::during;
use crate::report::Report;
use crate::wallet::{WalletError, WalletFolder};

pub(super) const FILE: &str = "restored.json";

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// Not every mint was asked yet.
    New,
    /// Some session is not settled yet.
    Open,
    /// All is known.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restored {
    made_unix_s: u64,
    restored_unix_s: u64,
    stage: Stage,
    /// A recovery has told of it.
    #[serde(default)]
    told: bool,
    /// Those that the user named.
    mints: Vec<String>,
    /// Those that have answered since, while others have not.
    #[serde(default)]
    asked: Vec<String>,
}

impl Restored {
    pub(super) fn new(made_unix_s: u64, mints: Vec<String>) -> Self {
        Self {
            made_unix_s,
            restored_unix_s: cdk::util::unix_time(),
            stage: Stage::New,
            told: false,
            mints,
            asked: Vec::new(),
        }
    }

    /// Of a folder that was unpacked: where it was made from an older backup itself, its mints are asked
    /// too, for that may never have come to an end.
    pub(super) fn after(
        folder: &Path,
        made_unix_s: u64,
        mut mints: Vec<String>,
    ) -> Result<Self, AppError> {
        if let Some(before) = Self::read(folder)? {
            mints.extend(before.mints);
        }
        mints.sort();
        mints.dedup();
        Ok(Self::new(made_unix_s, mints))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), AppError> {
        let failed = AppError::io("what was restored cannot be noted");
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        durable::write(folder, FILE, &bytes).map_err(failed)?;
        Ok(())
    }

    /// None where the folder is its own, or all is known.
    fn of(folder: &Path) -> Result<Option<Self>, AppError> {
        let restored = Self::read(folder)?;
        Ok(restored.filter(|of| of.stage != Stage::Done))
    }

    /// None where the folder is its own.
    fn read(folder: &Path) -> Result<Option<Self>, AppError> {
        let bytes = match std::fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AppError::io("restored.json cannot be read")(error)),
        };
        let restored = serde_json::from_slice(&bytes)
            .map_err(|_| AppError::Failed("restored.json is damaged: restore the backup again"))?;
        Ok(Some(restored))
    }

    /// Changes what is on disk by now: others may have written while this one asked. None where the folder is
    /// its own.
    fn change(folder: &Path, edit: impl FnOnce(&mut Self)) -> Result<Option<Self>, AppError> {
        static WRITING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut restored) = Self::read(folder)? else {
            return Ok(None);
        };
        edit(&mut restored);
        restored.write(folder)?;
        Ok(Some(restored))
    }

    fn has_asked(folder: &Path, mint: &MintUrl) -> Result<(), AppError> {
        let mint = mint.to_string();
        Self::change(folder, |restored| {
            if !restored.asked.contains(&mint) {
                restored.asked.push(mint);
            }
        })?;
        Ok(())
    }

    /// The name of its line in the book of `mint`.
    fn operation(&self, mint: &MintUrl) -> Uuid {
        let hash = TaggedHash::new("streampay/wallet/restored/v1")
            .u64(self.made_unix_s)
            .u64(self.restored_unix_s)
            .blob(mint.to_string().as_bytes());
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip(hash.finish().0)
            .for_each(|(to, from)| *to = from);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// Holds back what is at mints that were not asked since `wallet`'s folder was restored, however long ago.
///
/// # Errors
/// [`AppError`] where the folder cannot be read.
pub(crate) fn hold_back(wallet: &WalletFolder) -> Result<(), AppError> {
    match Restored::read(wallet.folder())? {
        Some(Restored { mints, asked, .. }) => Ok(wallet.hold_back(&mints, &asked)?),
        None => Ok(()),
    }
}

/// Before a mint is used of which a restored folder does not know: the self that was lost may have used
/// it. It is asked what it has signed (NUT-09), and its line in the book written.
///
/// # Errors
/// [`AppError`]: ask again later.
pub(crate) async fn first_used(wallet: &WalletFolder, mint: &MintUrl) -> Result<(), AppError> {
    let Some(restored) = Restored::read(wallet.folder())? else {
        return Ok(());
    };
    wallet.find_again_at(mint).await?;
    let (lines, proofs) = wallet.book().await?;
    write_line(wallet, &restored, mint, (&lines, &proofs)).await?;
    Restored::has_asked(wallet.folder(), mint)?;
    wallet.let_go(mint);
    Ok(())
}

/// When `folder` was made from a backup, also once all is known of it: the self that was lost may have
/// signed purses over that are locked for longer. Of later purses it says nothing.
///
/// # Errors
/// [`AppError`] where the folder cannot be read.
pub(crate) fn at(folder: &Path) -> Result<Option<Unix>, AppError> {
    let restored = Restored::read(folder)?;
    Ok(restored.map(|restored| Unix(restored.restored_unix_s)))
}

/// Before anything is paid or earned: a home that was restored asks its mints what is still there.
/// Ecash that the wallet made after the backup is found, and nothing is made under a number that was
/// used (NUT-13, NUT-09). What is at a mint that does not answer is held back until it does. True where
/// it was restored and no recovery was told of it before.
///
/// # Errors
/// [`AppError`] where the folder cannot be read or written.
pub(crate) async fn ready(home: &Home, report: Report, recovers: bool) -> Result<bool, AppError> {
    let folder = home.wallet.folder();
    let Some(restored) = Restored::read(folder)? else {
        return Ok(false);
    };
    let is_done = restored.stage == Stage::Done;
    if is_done && home.wallet.held_back().await?.is_empty() {
        return Ok(false);
    }
    let first = !restored.told;
    let wallet = ask(home, report, &restored).await?;
    let all = restored.stage == Stage::New && ask_purses(home, report).await? && wallet;
    if !is_done {
        write_book(home, &restored).await?;
    }
    Restored::change(folder, |restored| {
        restored.told |= recovers;
        if all && restored.stage == Stage::New {
            restored.stage = Stage::Open;
        }
    })?;
    Ok(first && !is_done)
}

/// True where every mint has answered.
async fn ask(home: &Home, report: Report, restored: &Restored) -> Result<bool, AppError> {
    let mut all = true;
    for mint in home.wallet.held_back().await? {
        let asking = format!("asking {mint} what is newer than the backup");
        let found = during(report, &asking, home.wallet.find_again_at(&mint)).await;
        let amount = match found {
            Ok(amount) => amount,
            Err(error @ WalletError::Store(_)) => return Err(error.into()),
            Err(error) => {
                tracing::info!(%error, "a mint does not say what is newer than the backup");
                all = false;
                report.tell(&format!(
                    "{mint} does not answer, or not to the point: what is newer than the backup is not \
                     known there. Until it is, what you have there is held back"
                ));
                continue;
            }
        };
        if !amount.is_zero() {
            let fields = json!({"mint": mint.to_string(), "amount_msat": amount.msat()});
            report.say("found_again", fields);
            report.tell(&format!(
                "{mint}: {amount} found that is newer than the backup"
            ));
        }
        if restored.stage == Stage::Done {
            let (lines, proofs) = home.wallet.book().await?;
            write_line(&home.wallet, restored, &mint, (&lines, &proofs)).await?;
        }
        Restored::has_asked(home.wallet.folder(), &mint)?;
        home.wallet.let_go(&mint);
    }
    Ok(all)
}

/// What was redeemed from purses of viewers after the backup, whether or not they come back. True where
/// every mint has answered.
async fn ask_purses(home: &Home, report: Report) -> Result<bool, AppError> {
    let mut all = true;
    for session in crate::ledger::sessions(home).await? {
        if session.role != Role::Payee || session.settled {
            continue;
        }
        let records = home.node.records_of(session.session).await?;
        let locked = |row: &&PurseLedger| {
            let locked = [LockedMachine::CHAIN, LockedMachine::P2PK].contains(&row.method.as_str());
            locked && row.opened && !row.home
        };
        for row in session.purses.iter().filter(locked) {
            let prefix = purse_prefix(PurseKey {
                session: session.session,
                purse: row.purse,
            });
            let own = records.iter().filter_map(|(key, value)| {
                let sub = key.strip_prefix(prefix.as_slice())?;
                Some((sub.to_vec(), value.clone()))
            });
            let own: Vec<_> = own.collect();
            match home.runner.find_redeemed(&own).await {
                Ok(amount) if amount.is_zero() => {}
                Ok(amount) => {
                    let id = session.session.to_string();
                    let fields = json!({
                        "session": id, "purse": row.purse.0, "amount_msat": amount.msat(),
                    });
                    report.say("found_again", fields);
                    report.tell(&format!(
                        "session [{}]: {amount} found that was redeemed after the backup",
                        id.get(..8).unwrap_or_default()
                    ));
                }
                Err(error) => {
                    all = false;
                    report.tell(&format!(
                        "what was redeemed after the backup is not known yet: {error}"
                    ));
                }
            }
        }
    }
    Ok(all)
}

/// Sessions of viewers who can still come back and show what they paid since the backup.
///
/// # Errors
/// [`AppError`] where the records cannot be read.
pub(crate) async fn awaited(home: &Home) -> Result<usize, AppError> {
    let sessions = crate::ledger::sessions(home).await?;
    let awaited = sessions.iter().filter(|session| {
        let open = session.role == Role::Payee && session.code.is_none() && !session.settled;
        open && session.purses.iter().any(|row| row.opened && !row.home)
    });
    Ok(awaited.count())
}

/// After a recovery. `all` where every session and every mint has had its say: then what a restored
/// book does not know stays as it is.
///
/// # Errors
/// [`AppError`] where the folder cannot be read or written.
pub(crate) async fn end(home: &Home, report: Report, all: bool) -> Result<(), AppError> {
    let folder = home.wallet.folder();
    let Some(restored) = Restored::of(folder)? else {
        return Ok(());
    };
    write_book(home, &restored).await?;
    let is_open = restored.stage == Stage::Open;
    if all && is_open {
        Restored::change(folder, |restored| restored.stage = Stage::Done)?;
    } else {
        report.tell(
            "this folder was restored from a backup, and not everybody has answered: run \
             `recover` again",
        );
    }
    Ok(())
}

/// What the book of a restored wallet cannot know is one line in it a mint: what is there, less what
/// the other lines come to. The same again replaces it.
async fn write_book(home: &Home, restored: &Restored) -> Result<(), AppError> {
    let (lines, proofs) = home.wallet.book().await?;
    let mints: BTreeSet<MintUrl> = lines
        .iter()
        .map(|line| line.mint_url.clone())
        .chain(proofs.iter().map(|info| info.mint_url.clone()))
        .collect();
    for mint in mints {
        write_line(&home.wallet, restored, &mint, (&lines, &proofs)).await?;
    }
    Ok(())
}

async fn write_line(
    wallet: &WalletFolder,
    restored: &Restored,
    mint: &MintUrl,
    (lines, proofs): (&[Transaction], &[ProofInfo]),
) -> Result<(), AppError> {
    let operation = restored.operation(mint);
    let is_ours = |line: &Transaction| Note::SinceBackup.is_of(line, operation);
    let others = lines.iter().filter(|line| !is_ours(line));
    let others: Vec<Transaction> = others.cloned().collect();
    let cash = Cash::count(&others, proofs)?;
    let msat = cash.get(mint).map_or(0, |cash| -cash.difference());
    if msat != 0 || lines.iter().any(is_ours) {
        let wallet = wallet.wallet_of(&mint.to_string()).await?;
        let noted = Note::write_since(&wallet, operation, msat).await;
        noted.map_err(WalletError::Store)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two mints that answer at the same time, and a recovery that is told of.
    #[test]
    fn what_others_noted_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = (0..8).map(|host| format!("https://{host}.example"));
        Restored::new(5, Vec::new()).write(folder.path()).unwrap();
        std::thread::scope(|all| {
            for host in hosts {
                let folder = folder.path();
                let mint: MintUrl = host.parse().unwrap();
                all.spawn(move || Restored::has_asked(folder, &mint).unwrap());
            }
            let tell = |restored: &mut Restored| restored.told = true;
            Restored::change(folder.path(), tell).unwrap();
        });
        let restored = Restored::read(folder.path()).unwrap().unwrap();
        assert_eq!((restored.asked.len(), restored.told), (8, true));
    }

    #[test]
    fn folder_is_restored_until_all_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Restored::of(folder.path()).unwrap(), None);
        assert_eq!(at(folder.path()).unwrap(), None);
        let mut restored = Restored::new(5, vec!["https://mint.example".to_owned()]);
        for stage in [Stage::New, Stage::Open] {
            restored.stage = stage;
            restored.write(folder.path()).unwrap();
            assert_eq!(
                Restored::of(folder.path()).unwrap().as_ref(),
                Some(&restored)
            );
        }
        let mint = |host: &str| format!("https://{host}").parse().unwrap();
        assert_ne!(
            restored.operation(&mint("a")),
            restored.operation(&mint("b"))
        );
        restored.stage = Stage::Done;
        restored.write(folder.path()).unwrap();
        assert_eq!(Restored::of(folder.path()).unwrap(), None);
        // Locks of before outlive it.
        let since = Unix(restored.restored_unix_s);
        assert_eq!(at(folder.path()).unwrap(), Some(since));
        std::fs::write(folder.path().join(FILE), b"{").unwrap();
        assert!(Restored::of(folder.path()).is_err());
        assert!(at(folder.path()).is_err());
    }
}
