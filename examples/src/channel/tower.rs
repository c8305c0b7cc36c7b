//! A watchtower: a process without keys, on another machine or for when the streamer is down, that
//! closes channels in time with transactions that are ready to broadcast.
//!
//! A streamer keeps one file of them in its folder, as new as its last look at the chain. An old
//! one pays the streamer less and harms nobody.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streampay_btc::bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use streampay_btc::bitcoin::{FeeRate, Network, OutPoint, ScriptBuf, Transaction};
use streampay_btc::chain::{ChainError, ChainSource, Watch};
use streampay_btc::kit::{TowerEntry, Watchtower};

use super::settings::{name_of, network};
use super::source::chain_source;
use crate::durable;
use crate::error::AppError;
use crate::report::Report;
use crate::signals::asked_to_end;

/// The file in a streamer's folder.
pub const FILE: &str = "watchtower.json";
/// Feerates of the closes, in sat/vB: each about twice the one before, up to a bad day.
const RATES: [u32; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];
/// The most of a file that is read, in bytes: some thousand channels.
const FILE_MAX: u64 = 32 * 1024 * 1024;
/// How often files and chain are looked at.
const LOOK: Duration = Duration::from_secs(20);
const VERSION: u64 = 1;

/// The rates at which closes are signed ahead.
#[must_use]
pub fn rates() -> Vec<FeeRate> {
    RATES.map(FeeRate::from_sat_per_vb_u32).to_vec()
}

/// The channels of one chain as they stand in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerFile {
    /// Which chain.
    pub network: Network,
    /// What is watched.
    pub entries: Vec<TowerEntry>,
}

impl TowerFile {
    /// As it is written.
    #[must_use]
    pub fn to_text(&self) -> String {
        let channels = self.entries.iter().map(|entry| {
            let closes = entry.closes.iter();
            let closes = closes.map(
                |(rate, tx)| json!({"sat_per_kwu": rate.to_sat_per_kwu(), "tx": serialize_hex(tx)}),
            );
            json!({
                "outpoint": entry.watch.outpoint.to_string(),
                "script": entry.watch.script.to_hex_string(), "since": entry.watch.since,
                "expiry": entry.expiry, "margin": entry.margin,
                "closes": closes.collect::<Vec<_>>(), "early": entry.early,
            })
        });
        json!({
            "version": VERSION, "network": name_of(self.network),
            "channels": channels.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// What [`TowerFile::to_text`] wrote; none where it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("version")?.as_u64()? != VERSION {
            return None;
        }
        let entries = value.get("channels")?.as_array()?.iter().map(entry_of);
        Some(Self {
            network: network(value.get("network")?.as_str()?).ok()?,
            entries: entries.collect::<Option<_>>()?,
        })
    }

    /// The file at `path`.
    ///
    /// # Errors
    /// [`AppError::File`] where there is none, or it is no such file.
    pub fn load(path: &Path) -> Result<Self, AppError> {
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        read.map_err(|error| AppError::file(path, &format!("cannot be read: {error}")))?;
        let what = "is no watchtower's file, or damaged: copy it from the streamer again";
        Self::parse(&text).ok_or_else(|| AppError::file(path, what))
    }
}

fn entry_of(value: &Value) -> Option<TowerEntry> {
    let number = |name: &str| value.get(name)?.as_u64()?.try_into().ok();
    let text = |name: &str| value.get(name)?.as_str();
    let outpoint: OutPoint = text("outpoint")?.parse().ok()?;
    let close = |value: &Value| {
        let rate = FeeRate::from_sat_per_kwu(value.get("sat_per_kwu")?.as_u64()?);
        let tx: Transaction = deserialize_hex(value.get("tx")?.as_str()?).ok()?;
        let mut inputs = tx.input.iter();
        let closes = inputs.any(|input| input.previous_output == outpoint);
        closes.then_some((rate, tx))
    };
    let closes = value.get("closes")?.as_array()?.iter().map(close);
    let mut closes = closes.collect::<Option<Vec<_>>>()?;
    closes.sort_by_key(|(rate, _)| *rate);
    // Older files do not tell.
    let early = value.get("early").map_or(Some(closes.len()), |early| {
        usize::try_from(early.as_u64()?).ok()
    })?;
    Some(TowerEntry {
        watch: Watch {
            outpoint,
            script: ScriptBuf::from_hex(text("script")?).ok()?,
            since: number("since")?,
        },
        expiry: number("expiry")?,
        margin: number("margin")?,
        closes,
        early,
    })
}

/// The file in a streamer's folder, written when something in it is new.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    network: Network,
    text: String,
}

impl Kept {
    pub(super) fn new(folder: &Path, network: Network) -> Self {
        let text = std::fs::read_to_string(folder.join(FILE));
        Self {
            folder: folder.to_owned(),
            network,
            text: text.unwrap_or_default(),
        }
    }

    pub(super) fn keep(&mut self, entries: Vec<TowerEntry>) -> std::io::Result<()> {
        if self.text.is_empty() && entries.is_empty() {
            return Ok(());
        }
        let network = self.network;
        let text = TowerFile { network, entries }.to_text();
        if text != self.text {
            durable::write(&self.folder, FILE, text.as_bytes())?;
            self.text = text;
        }
        Ok(())
    }
}

/// Copies the file that the streamer in `folder` keeps to `to`, also while it serves.
///
/// # Errors
/// [`AppError::File`] where there is none, or `to` cannot be written.
pub fn export(folder: &Path, to: &Path, report: Report) -> Result<(), AppError> {
    let from = folder.join(FILE);
    if !from.exists() {
        let why = "is not there: no channel with a payment was ever watched here";
        return Err(AppError::file(&from, why));
    }
    let file = TowerFile::load(&from)?;
    let name = to.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| AppError::file(to, "is no name for a file"))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    durable::write(
        parent.unwrap_or_else(|| Path::new(".")),
        name,
        file.to_text().as_bytes(),
    )
    .map_err(|error| AppError::file(to, &format!("cannot be written: {error}")))?;
    report.tell(&format!(
        "{} written to {}; the file holds no key. Copy it again as they are paid from: an old one \
         collects what was due then",
        channels(file.entries.len()),
        to.display()
    ));
    Ok(())
}

fn channels(count: usize) -> String {
    match count {
        1 => "1 channel".to_owned(),
        count => format!("{count} channels"),
    }
}

/// Watches the channels of `files` on the chain at `btc` until the user wants to end. The files are
/// read again when they change.
///
/// # Errors
/// [`AppError`]: a file or the source cannot be used; the files are of several chains.
pub async fn run(files: &[PathBuf], btc: &str, report: Report) -> Result<(), AppError> {
    let first = files.first().ok_or(AppError::Usage("name a file"))?;
    let network = TowerFile::load(first)?.network;
    let mut tower = Tower::new(files, chain_source(btc, network)?, network, report);
    tower.read()?;
    tower.chain.view(&[]).await?;
    report.tell(&format!(
        "watching {} on {}; Ctrl-C ends",
        channels(tower.tower.watched().len()),
        name_of(network),
    ));
    let watching = async {
        loop {
            if let Err(error) = tower.look().await {
                report.tell(&format!("{error}; looked at again in a moment"));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = watching => Ok(()),
        () = asked_to_end() => Ok(()),
    }
}

/// One that runs.
pub struct Tower {
    files: BTreeMap<PathBuf, Vec<TowerEntry>>,
    chain: Arc<dyn ChainSource>,
    network: Network,
    tower: Watchtower,
    report: Report,
}

impl Tower {
    /// One for these files, which are not read yet.
    #[must_use]
    pub fn new(
        files: &[PathBuf],
        chain: Arc<dyn ChainSource>,
        network: Network,
        report: Report,
    ) -> Self {
        let files = files.iter().map(|file| (file.clone(), Vec::new()));
        Self {
            files: files.collect(),
            chain,
            network,
            tower: Watchtower::new(),
            report,
        }
    }

    /// Takes up what is new in the files.
    ///
    /// # Errors
    /// [`AppError::File`] of the first one that cannot be used; what it held before is watched on.
    pub fn read(&mut self) -> Result<(), AppError> {
        let mut failed = Ok(());
        let mut changed = false;
        for (path, known) in &mut self.files {
            match TowerFile::load(path) {
                Ok(file) if file.network != self.network => {
                    failed = Err(AppError::file(path, "is of another chain than the others"));
                }
                Ok(file) if file.entries != *known => {
                    *known = file.entries;
                    changed = true;
                }
                Ok(_) => {}
                Err(error) => failed = Err(error),
            }
        }
        if changed {
            self.tower.set(self.files.values().flatten().cloned());
        }
        failed
    }

    /// Looks at the files and the chain, and broadcasts what is due.
    ///
    /// # Errors
    /// [`AppError`] where a file or the chain cannot be read; all else is done.
    pub async fn look(&mut self) -> Result<(), AppError> {
        let read = self.read();
        let view = self.chain.view(&self.tower.watched()).await?;
        for tx in self.tower.chain(&view) {
            let txid = tx.compute_txid();
            let line = match self.chain.broadcast(&tx).await {
                Ok(()) => format!("the time of a channel is nearly over: closed by {txid}"),
                Err(ChainError::Refused(why)) => format!("{txid} is not taken: {why}"),
                Err(error) => format!("{txid} cannot be broadcast: {error}"),
            };
            self.report.tell(&line);
            let txid = txid.to_string();
            self.report
                .say("watchtower", json!({"txid": txid, "height": view.tip}));
        }
        read
    }
}

impl core::fmt::Debug for Tower {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tower")
            .field("network", &self.network)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
