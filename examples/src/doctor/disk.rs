//! The folder, who can read it, and the disk that it is on.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Finding;
use crate::wallet::{MintLimits, WalletError, WalletFolder};

/// Space below which the disk will soon be full, and below which it is, in MiB. A session's records
/// are some KiB; recordings are what fills a disk. Chosen arbitrarily.
const SPACE_LOW_MIB: u64 = 1024;
const SPACE_OUT_MIB: u64 = 64;
/// How long syncing is tried, and how often at least.
const TRYING: Duration = Duration::from_millis(400);
const SYNCS_MIN: u32 = 5;
/// A sync that takes longer delays the acks of all sessions by so much.
const SLOW: Duration = Duration::from_millis(50);
const FOLDER: &str = "folder";
const DISK: &str = "disk";

/// What there is to say of the folder itself, and the mints at which it has money.
pub(super) async fn folder(data: &Path) -> (Vec<Finding>, Vec<String>) {
    let shown = data.display();
    if !data.exists() {
        let found = format!("{shown} is made at the first use");
        return (vec![Finding::ok(FOLDER, found)], Vec::new());
    }
    let mut findings = open_to_others(data);
    let mut mints = Vec::new();
    let failed = match WalletFolder::open_with(data, MintLimits::default()) {
        Ok(wallet) => match wallet.balance().await {
            Ok(balances) => {
                mints = balances.iter().map(|at| at.mint.to_string()).collect();
                let found = match mints.len() {
                    1 => format!("{shown}, with money at a mint"),
                    more => format!("{shown}, with money at {more} mints"),
                };
                findings.push(Finding::ok(FOLDER, found));
                None
            }
            Err(error) => Some(error),
        },
        Err(error) => Some(error),
    };
    match failed {
        None => {}
        Some(WalletError::InUse(_)) => {
            let found =
                format!("{shown} is in use by another process: its mints are not looked at");
            findings.push(Finding::ok(FOLDER, found));
        }
        Some(error) => {
            let advice = "bring the folder back from its backup, or name another with --data";
            let found = format!("{shown} cannot be used: {error}");
            findings.push(Finding::fail(FOLDER, found, advice));
        }
    }
    (findings, mints)
}

/// What others of this machine could read: it is as good as money.
#[cfg(unix)]
fn open_to_others(data: &Path) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let open = paths.filter(|path| {
        let mode = path.metadata().map(|data| data.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o077 != 0)
    });
    let closed = data
        .metadata()
        .is_ok_and(|data| data.permissions().mode() & 0o077 == 0);
    // Where nobody else gets into the folder, what is in it is safe.
    let open = open.filter(|_| !closed);
    open.map(|path| {
        let found = format!("others can read {}", path.display());
        Finding::fail(
            FOLDER,
            found,
            "chmod -R go= the folder: whoever reads it has the money",
        )
    })
    .collect()
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Vec<Finding> {
    Vec::new()
}

/// How fast the disk makes things durable, and how much room it has.
pub(super) fn disk(data: &Path) -> Vec<Finding> {
    let Some(folder) = nearest_folder(data) else {
        let found = format!("there is no folder to make {} in", data.display());
        return vec![Finding::fail(DISK, found, "name a folder with --data")];
    };
    let synced = match syncs(&folder) {
        Ok((times, took)) => judged(times, took),
        Err(error) => {
            let found = format!("{} cannot be written: {error}", folder.display());
            let advice = "nothing is paid or taken until it can: make room, or name another --data";
            Finding::fail(DISK, found, advice)
        }
    };
    let room = free_mib(&folder).map(room);
    room.into_iter().chain([synced]).collect()
}

fn nearest_folder(data: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(data).ok()?;
    let mut above = absolute.ancestors();
    above.find(|folder| folder.is_dir()).map(Path::to_owned)
}

/// How many syncs of a small write there were, and how long they took in all.
fn syncs(folder: &Path) -> std::io::Result<(u32, Duration)> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let begun = Instant::now();
    let mut times = 0_u32;
    while times < SYNCS_MIN || begun.elapsed() < TRYING {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times = times.saturating_add(1);
    }
    Ok((times, begun.elapsed()))
}

pub(super) fn judged(times: u32, took: Duration) -> Finding {
    let each = took.checked_div(times).unwrap_or(took);
    let millis = each.as_secs_f64() * 1000.0;
    let rate = f64::from(times) / took.as_secs_f64().max(0.001);
    let found = format!("{rate:.0} syncs a second, {millis:.1} ms each");
    if each <= SLOW {
        return Finding::ok(DISK, found);
    }
    let advice = "every payment waits for one: keep the folder on another disk, with --data";
    Finding::warn(DISK, found, advice)
}

pub(super) fn room(free_mib: u64) -> Finding {
    let found = format!("{free_mib} MiB free");
    let advice = "make room: when it is full, nothing is paid or taken, and streams pause";
    if free_mib < SPACE_OUT_MIB {
        Finding::fail(DISK, found, advice)
    } else if free_mib < SPACE_LOW_MIB {
        Finding::warn(DISK, found, advice)
    } else {
        Finding::ok(DISK, found)
    }
}

#[cfg(unix)]
fn free_mib(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024))
}

#[cfg(not(unix))]
fn free_mib(_: &Path) -> Option<u64> {
    None
}
