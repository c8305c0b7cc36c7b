//! Looks for inputs that break a target, on stable Rust: changes what a corpus holds, as a seed
//! chooses, and calls the target with it. The same seed makes the same inputs. It does not see
//! which code an input reaches; cargo-fuzz does.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use streampay_core::sim::Rng;
use streampay_core::units::Msat;
use streampay_core::wire::{MESSAGE_MAX, encode};
use streampay_spec::vectors::cbor::{Item, head};
use streampay_spec::vectors::samples;

use crate::Target;

/// The longest input made.
const INPUT_MAX: usize = MESSAGE_MAX + 64;
/// The most inputs that are changed further.
const POOL_MAX: usize = 2_048;
/// One in so many changed inputs is changed further.
const KEEP: u64 = 64;
/// The longest field that is put into inputs.
const TOKEN_MAX: usize = 160;
/// The most tries to make a breaking input shorter.
const SHRINK_MAX: usize = 2_000;

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// At least this long.
    Passed(Duration),
    /// So many inputs.
    Executions(u64),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// Inputs tried.
    pub executions: u64,
    /// The longest that one took.
    pub slowest: Duration,
    /// What broke the target, if anything did.
    pub broken: Option<Broken>,
}

/// An input that breaks a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The input, made shorter.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics say nothing from here on; [`attempt`] tells what they would have said.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        SAID.with_borrow_mut(|said| *said = info.to_string());
    }));
}

/// One call; an error tells what its panic said.
///
/// # Errors
/// Where it panics.
pub fn attempt(target: Target, input: &[u8]) -> Result<(), String> {
    SAID.with_borrow_mut(String::clear);
    let called = catch_unwind(AssertUnwindSafe(|| target(input)));
    called.map_err(|_| SAID.with_borrow(String::clone))
}

/// Tries the corpus as it is, and then changed, until an input breaks the target or enough were
/// tried.
#[must_use]
pub fn hunt(target: Target, corpus: &[Vec<u8>], seed: u64, until: Until) -> Hunted {
    let mut mutator = Mutator {
        rng: Rng::new(seed),
        pool: corpus.to_vec(),
        tokens: tokens(),
        fields: fields(),
    };
    let start = Instant::now();
    let mut hunted = Hunted {
        executions: 0,
        slowest: Duration::ZERO,
        broken: None,
    };
    let mut seeds = corpus.iter();
    loop {
        let enough = match until {
            Until::Passed(time) => start.elapsed() >= time,
            Until::Executions(most) => hunted.executions >= most,
        };
        let seed = seeds.next();
        if enough && seed.is_none() {
            return hunted;
        }
        let is_seed = seed.is_some();
        let input = seed.cloned().unwrap_or_else(|| mutator.make());
        let begun = Instant::now();
        let done = attempt(target, &input);
        hunted.slowest = hunted.slowest.max(begun.elapsed());
        hunted.executions += 1;
        if done.is_err() {
            hunted.broken = Some(shrink(target, input));
            return hunted;
        }
        if !is_seed {
            mutator.keep(input);
        }
    }
}

/// Leaves out what is not needed to break it.
fn shrink(target: Target, mut input: Vec<u8>) -> Broken {
    let mut message = attempt(target, &input).err().unwrap_or_default();
    let (mut size, mut tries) = (input.len() / 2, 0);
    while size > 0 && tries < SHRINK_MAX {
        let mut at = 0;
        while at < input.len() && tries < SHRINK_MAX {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            tries += 1;
            match attempt(target, &shorter) {
                Ok(()) => at += size,
                Err(said) => (input, message) = (shorter, said),
            }
        }
        size /= 2;
    }
    Broken { input, message }
}

struct Mutator {
    rng: Rng,
    pool: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
    fields: Vec<(u64, Item)>,
}

impl Mutator {
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.rng.next() % end).unwrap_or_default()
    }

    /// A place in an input, or its end.
    fn place(&mut self, input: &[u8]) -> usize {
        self.below(input.len() + 1)
    }

    /// A part of it, short ones more often.
    fn part(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let from = self.place(input);
        let most = 1 << self.below(8);
        let size = 1 + self.below(most);
        from..(from + size).min(input.len())
    }

    fn picked(&mut self) -> Vec<u8> {
        let at = self.below(self.pool.len());
        self.pool.get(at).cloned().unwrap_or_default()
    }

    fn token(&mut self) -> Vec<u8> {
        let at = self.below(self.tokens.len());
        self.tokens.get(at).cloned().unwrap_or_default()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = 1 + self.below(most);
        let bytes = (0..count).map(|_| u8::try_from(self.rng.next() >> 56).unwrap_or_default());
        bytes.collect()
    }

    fn make(&mut self) -> Vec<u8> {
        let mut input = self.picked();
        for _ in 0..1 << self.below(4) {
            self.change(&mut input);
        }
        input.truncate(INPUT_MAX);
        input
    }

    /// Gives a message another field, or takes one away, so that it is still one.
    fn reshape(&mut self, input: &mut Vec<u8>) {
        if let Some((mut item, [])) = Item::parse(input) {
            self.reshape_map(&mut item);
            *input = item.encode();
        }
    }

    fn reshape_map(&mut self, item: &mut Item) {
        let Some(pairs) = item.pairs_mut() else {
            return;
        };
        let at = self.below(pairs.len());
        let (key, field) = {
            let field = self.below(self.fields.len());
            self.fields
                .get(field)
                .cloned()
                .unwrap_or((0, Item::Uint(0)))
        };
        match self.below(8) {
            0 if at < pairs.len() => {
                pairs.remove(at);
            }
            1..=3 => {
                if let Some((_, inner)) = pairs.get_mut(at) {
                    if inner.pairs().is_some() {
                        return self.reshape_map(inner);
                    }
                    *inner = field;
                }
            }
            _ => {
                pairs.retain(|(is, _)| *is != key);
                pairs.push((key, field));
                pairs.sort_by_key(|(key, _)| *key);
            }
        }
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.place(input);
        match self.below(16) {
            0..=2 => {
                let bit = self.below(8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            3 => {
                let by = if self.below(2) == 0 { 1 } else { 0xff };
                if let Some(byte) = input.get_mut(at) {
                    *byte = byte.wrapping_add(by);
                }
            }
            4 => input.truncate(at),
            5 => {
                let part = self.part(input);
                input.drain(part);
            }
            6 => {
                let bytes = self.bytes(16);
                input.splice(at..at, bytes);
            }
            7 => {
                let token = self.token();
                input.splice(at..at, token);
            }
            8 => {
                let (part, token) = (self.part(input), self.token());
                input.splice(part, token);
            }
            9 => {
                let part = self.part(input);
                let again = input.get(part).unwrap_or_default().to_vec();
                input.splice(at..at, again);
            }
            10 => {
                let (part, bytes) = (self.part(input), self.bytes(8));
                input.splice(part, bytes);
            }
            11 => {
                let other = self.picked();
                let from = self.place(&other);
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ => self.reshape(input),
        }
    }

    fn keep(&mut self, input: Vec<u8>) {
        if !self.rng.next().is_multiple_of(KEEP) {
            return;
        }
        if self.pool.len() < POOL_MAX {
            return self.pool.push(input);
        }
        let at = self.below(POOL_MAX);
        if let Some(place) = self.pool.get_mut(at) {
            *place = input;
        }
    }
}

/// The fields of the vectors' messages, those of their maps too.
fn fields() -> Vec<(u64, Item)> {
    let messages = samples::messages().unwrap_or_default();
    let mut fields = Vec::new();
    for (_, message) in messages {
        if let Some((item, _)) = Item::parse(&encode(&message)) {
            take(&item, &mut fields);
        }
    }
    fields
}

fn take(item: &Item, fields: &mut Vec<(u64, Item)>) {
    for (key, value) in item.pairs().unwrap_or_default() {
        if !fields.contains(&(*key, value.clone())) {
            fields.push((*key, value.clone()));
        }
        take(value, fields);
    }
}

/// Fields with and without their keys, and numbers at the ends of their sizes.
fn tokens() -> Vec<Vec<u8>> {
    let mut tokens = Vec::new();
    for (key, value) in fields() {
        tokens.push([head(0, key), value.encode()].concat());
        tokens.push(value.encode());
    }
    for size in [5, 8, 16, 32, 53, 64] {
        let most = u64::MAX >> (64 - size);
        for value in [most - 1, most, most.saturating_add(1)] {
            tokens.push(head(0, value));
            tokens.push(value.to_be_bytes().to_vec());
        }
    }
    tokens.push(head(0, Msat::MAX.msat()));
    tokens.retain(|token| token.len() <= TOKEN_MAX);
    tokens.sort();
    tokens.dedup();
    tokens
}

/// Writes an input that breaks `target` under `folder`, and tells where.
///
/// # Errors
/// Where it cannot be written.
pub fn save(folder: &Path, target: &str, input: &[u8]) -> io::Result<PathBuf> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    let hash = streampay_core::session::TaggedHash::new("streampay/fuzz").blob(input);
    let name = hash
        .finish()
        .0
        .first_chunk::<8>()
        .map(|at| u64::from_be_bytes(*at));
    let path = folder.join(format!("crash-{:016x}", name.unwrap_or_default()));
    fs::write(&path, input)?;
    Ok(path)
}
