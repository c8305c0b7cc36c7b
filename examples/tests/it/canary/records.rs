//! Secrets that programs draw for themselves: found in their records, by what the other side's records have of
//! them, or in their memory. Then they are looked for in the logs as any other.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;

use streampay_core::session::{SecretKey, TaggedHash};

use super::*;

/// How a byte string of each length begins in a record. Source: RFC 8949, 3.1.
const OF_32: [u8; 2] = [0x58, 32];
const OF_33: [u8; 2] = [0x58, 33];
const OF_64: [u8; 2] = [0x58, 64];

/// All byte strings of `N` bytes in a store, and what follows each.
fn strings<const N: usize>(store: &[u8], head: [u8; 2]) -> Vec<([u8; N], &[u8])> {
    let begins =
        (0..store.len().saturating_sub(N + 1)).filter(|at| store[*at..].starts_with(&head));
    let found = begins.map(|at| {
        let (bytes, rest) = store[at + 2..].split_first_chunk::<N>().unwrap();
        (*bytes, rest)
    });
    found.collect()
}

/// What both sides' records have while a session is paid so.
pub(super) fn records(folders: &Folders, pay: &str, secrets: &mut Secrets) {
    let stores = ["streamer", "viewer"].map(|name| {
        let store = std::fs::read(folders.data(name).join("streampay.redb"));
        store.unwrap()
    });
    let strings_of_32 = stores.iter().flat_map(|store| strings::<32>(store, OF_32));
    let known: BTreeSet<[u8; 32]> = strings_of_32.map(|(bytes, _)| bytes).collect();
    let keys = session_keys(&known, secrets);
    let coins = coins(&stores, secrets);
    let seeds = seeds(&stores, &known, secrets);
    assert!(keys >= 2, "{pay}: a key of each side: {keys}");
    let enough = if pay == "swap" {
        coins >= 3
    } else {
        seeds >= 1
    };
    assert!(enough, "{pay}: {coins} coins, {seeds} seeds");
}

/// Of what the other side has the public part.
fn session_keys(known: &BTreeSet<[u8; 32]>, secrets: &mut Secrets) -> usize {
    let is_key = |bytes: &&[u8; 32]| {
        let key = SecretKey::from_bytes(**bytes);
        key.is_ok_and(|key| known.contains(&key.public().0))
    };
    let keys: Vec<_> = known.iter().filter(is_key).collect();
    secrets.extend(
        keys.iter()
            .map(|key| ("a session's key".into(), key.to_vec())),
    );
    keys.len()
}

/// Plain ecash: a secret, and the mint's signature, which is a point.
fn coins(stores: &[Vec<u8>], secrets: &mut Secrets) -> usize {
    let all = stores.iter().flat_map(|store| strings::<32>(store, OF_32));
    let is_signed = |rest: &[u8]| rest.starts_with(&OF_33) && matches!(rest.get(2), Some(2 | 3));
    let coins = all.filter(|(_, rest)| is_signed(rest));
    let coins: BTreeSet<[u8; 32]> = coins.map(|(secret, _)| secret).collect();
    for secret in &coins {
        secrets.push(("ecash of a tick".into(), secret.to_vec()));
        // As mints and tokens have it.
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        secrets.push(("ecash of a tick, as a mint has it".into(), hex.into_bytes()));
    }
    coins.len()
}

/// Purses' seeds, and with them all that is as long; by the salt that the streamer was told of each (cashu 3)
/// it is seen that they are among them.
fn seeds(stores: &[Vec<u8>], known: &BTreeSet<[u8; 32]>, secrets: &mut Secrets) -> usize {
    let all = stores.iter().flat_map(|store| strings::<64>(store, OF_64));
    let all: BTreeSet<[u8; 64]> = all.map(|(bytes, _)| bytes).collect();
    let salt = |seed: &[u8]| {
        TaggedHash::new("streampay/cashu/salt/v1")
            .blob(seed)
            .finish()
            .0
    };
    let seeds = all.iter().filter(|seed| known.contains(&salt(*seed)));
    let count = seeds.count();
    let all = all.into_iter();
    secrets.extend(all.map(|bytes| ("a purse's seed".into(), bytes.to_vec())));
    count
}

/// An epoch's number, and its key. Spec: media 4.3.
const GRANT: usize = 24;
/// How so much begins in an ack.
const OF_GRANT: [u8; 2] = [0x58, 24];
/// More epochs than any session here.
const EPOCHS: u64 = 4_000;

/// Keys of sealed media are in no file: what may be one in the memory of a running process.
pub(super) fn grants(process: u32) -> BTreeSet<[u8; GRANT]> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = BTreeSet::new();
    for line in maps.lines() {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let is_own = parts.len() == 5 || parts[5] == "[heap]";
        if !is_own || !parts[1].starts_with("rw") {
            continue;
        }
        let (from, to) = parts[0].split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let (mut page, mut bytes) = (vec![0; 4_096], Vec::new());
        let untouched = page.clone();
        for at in (from..to).step_by(page.len()) {
            // What is gone meanwhile cannot be read.
            let read = memory.read_exact_at(&mut page, at);
            if read.is_ok() && page != untouched {
                bytes.extend_from_slice(&page);
                continue;
            }
            found.extend(within(&std::mem::take(&mut bytes)));
        }
        found.extend(within(&bytes));
    }
    found
}

fn within(memory: &[u8]) -> Vec<[u8; GRANT]> {
    let all = strings::<GRANT>(memory, OF_GRANT).into_iter();
    all.map(|(grant, _)| grant).filter(is_grant).collect()
}

fn is_grant(bytes: &[u8; GRANT]) -> bool {
    let (epoch, key) = bytes.split_first_chunk::<8>().unwrap();
    let various: BTreeSet<&u8> = key.iter().collect();
    (1..EPOCHS).contains(&u64::from_be_bytes(*epoch)) && various.len() >= 8
}
