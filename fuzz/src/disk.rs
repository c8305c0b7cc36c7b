//! Disks that forget: what was not synced is lost with the process, in whole or in part.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use streampay_core::sim::Rng;

/// A sector: what a disk writes in whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct State {
    /// What the process reads.
    live: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// What is not synced, in order.
    pending: Vec<Write>,
    /// Fails at so many operations from here.
    fail_in: Option<u32>,
    /// The process is gone.
    dead: bool,
    /// Operations since it was made.
    operations: u64,
    /// Is cut off at that one.
    cut_at: Option<u64>,
    /// Nothing more gets there.
    cut: bool,
}

#[derive(Debug)]
enum Write {
    Len(usize),
    Bytes(usize, Vec<u8>),
}

/// A disk in memory on which redb runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("the process is gone"));
        }
        let number = state.operations;
        state.operations += 1;
        state.cut |= state.cut_at == Some(number);
        if state.cut {
            return Err(io::Error::other("the disk is cut off"));
        }
        match &mut state.fail_in {
            Some(0) => return Err(io::Error::other("the disk fails")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }

    /// Fails at so many operations from here, and at every one after that.
    pub(crate) fn fail_in(&self, operations: u32) {
        self.state().fail_in = Some(operations);
    }

    /// It fails no more.
    pub(crate) fn heal(&self) {
        self.state().fail_in = None;
    }

    /// True while it fails, or will.
    pub(crate) fn is_failing(&self) -> bool {
        let state = self.state();
        state.fail_in.is_some() || state.cut
    }

    /// Cuts it off at so many operations from here: that one is not done, and none after it.
    pub(crate) fn cut_in(&self, operations: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.operations + operations);
    }

    /// True once it was cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Operations since it was made.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Cuts the power: some of what is pending is there, some is not, some in part.
    pub(crate) fn crash(&self, rng: &mut Rng) -> (Self, bool) {
        let mut state = self.state();
        state.dead = true;
        let mut durable = core::mem::take(&mut state.durable);
        let mut torn = false;
        for write in core::mem::take(&mut state.pending) {
            match rng.next() % 4 {
                0 => torn = true,
                1 => {
                    torn = true;
                    apply(&mut durable, tear(write, rng));
                }
                _ => apply(&mut durable, write),
            }
        }
        let state = State {
            live: durable.clone(),
            durable,
            ..State::default()
        };
        (Self(Arc::new(Mutex::new(state))), torn)
    }
}

/// The first part of a write: whole sectors, or of a longer one up to any byte. What fits a sector
/// is written in whole or not at all: redb's header relies on it, and every disk does so.
fn tear(write: Write, rng: &mut Rng) -> Write {
    let Write::Bytes(at, mut bytes) = write else {
        return write;
    };
    if at % SECTOR + bytes.len() <= SECTOR {
        return Write::Bytes(at, Vec::new());
    }
    let any = usize::try_from(rng.next()).unwrap_or_default() % bytes.len().max(1);
    let cut = match rng.next() % 2 {
        0 => any,
        _ => any / SECTOR * SECTOR,
    };
    bytes.truncate(cut);
    Write::Bytes(at, bytes)
}

fn apply(disk: &mut Vec<u8>, write: Write) {
    match write {
        Write::Len(len) => disk.resize(len, 0),
        Write::Bytes(_, bytes) if bytes.is_empty() => {}
        Write::Bytes(at, bytes) => {
            let end = at + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            if let Some(place) = disk.get_mut(at..end) {
                place.copy_from_slice(&bytes);
            }
        }
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.used()?.live.len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset)?;
        let state = self.used()?;
        let found = state.live.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        let mut state = self.used()?;
        state.live.resize(len, 0);
        state.pending.push(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.used()?;
        for write in core::mem::take(&mut state.pending) {
            apply(&mut state.durable, write);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = place(offset)?;
        let mut state = self.used()?;
        apply(&mut state.live, Write::Bytes(at, data.to_vec()));
        state.pending.push(Write::Bytes(at, data.to_vec()));
        Ok(())
    }
}
