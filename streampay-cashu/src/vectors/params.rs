//! The methods' part of the terms: mints with a price and a limit each; and openings against them.

mod openings;

use minicbor::Encoder;
use serde_json::{Value, json};

use self::openings::openings;
use super::{KEY, hex, root};
use crate::params::ParamsError;
use crate::{AcceptedMint, LockedParams, SwapParams};

const URL: &str = "https://mint.example";
const TICKS: [u64; 5] = [1, 9, 10, 21, 1_000_000];

/// A mint as it stands in a list: what is right and what is not.
#[derive(Clone, Copy)]
struct Mint {
    url: &'static str,
    unit: &'static str,
    price: Option<u64>,
    most: Option<u64>,
}

const PLAIN: Mint = Mint {
    url: URL,
    unit: "sat",
    price: None,
    most: None,
};

impl Mint {
    fn encode(self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        let optional = u64::from(self.price.is_some()) + u64::from(self.most.is_some());
        encoder.map(2 + optional).unwrap();
        encoder.u8(0).unwrap().str(self.url).unwrap();
        encoder.u8(1).unwrap().str(self.unit).unwrap();
        for (key, value) in [(2, self.price), (3, self.most)] {
            if let Some(value) = value {
                encoder.u8(key).unwrap().u64(value).unwrap();
            }
        }
        encoder.into_writer()
    }

    fn json(self) -> Value {
        let mut value = json!({"url": self.url, "unit": self.unit});
        for (key, at) in [("price", self.price), ("most", self.most)] {
            if let Some(at) = at {
                value[key] = Value::String(at.to_string());
            }
        }
        value
    }
}

/// Root, lock, margin, fee.
type Locked = ([u8; 33], u64, u64, u64);

fn locked() -> Locked {
    (root().public().to_bytes(), 14_400, 1_800, 1_000)
}

fn encode(mints: &[Mint], locked: Option<Locked>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(if locked.is_some() { 5 } else { 1 }).unwrap();
    let count = u64::try_from(mints.len()).unwrap();
    encoder.u8(0).unwrap().array(count).unwrap();
    for mint in mints {
        encoder.writer_mut().extend(mint.encode());
    }
    if let Some((root, lock, margin, fee)) = locked {
        encoder.u8(1).unwrap().bytes(&root).unwrap();
        for (key, value) in [(2, lock), (3, margin), (4, fee)] {
            encoder.u8(key).unwrap().u64(value).unwrap();
        }
    }
    encoder.into_writer()
}

fn read(bytes: &[u8], is_locked: bool) -> Result<Vec<AcceptedMint>, ParamsError> {
    match is_locked {
        true => LockedParams::decode(bytes).map(|params| params.mints().to_vec()),
        false => SwapParams::decode(bytes).map(|params| params.mints().to_vec()),
    }
}

fn method(is_locked: bool) -> &'static str {
    if is_locked { "locked" } else { "cashu-swap" }
}

fn valid(name: &str, mints: &[Mint], locked: Option<Locked>) -> Value {
    let bytes = encode(mints, locked);
    let found = read(&bytes, locked.is_some()).unwrap();
    let ticks = found.iter().map(|mint| {
        let of = |tick: &u64| {
            json!({
                "tick": tick.to_string(),
                "net": mint.price_of(*tick).to_string(),
                "ticks_max": mint.ticks_max(*tick).to_string(),
            })
        };
        TICKS.iter().map(of).collect::<Value>()
    });
    let mut value = json!({
        "name": name,
        "params": method(locked.is_some()),
        "hex": hex(&bytes),
        "mints": mints.iter().map(|mint| mint.json()).collect::<Value>(),
        "ticks": ticks.collect::<Value>(),
    });
    if let Some((root, lock, margin, fee)) = locked {
        value["root"] = hex(&root).into();
        value["lock"] = lock.to_string().into();
        value["margin"] = margin.to_string().into();
        value["max_fee"] = fee.to_string().into();
    }
    value
}

fn invalid(name: &str, bytes: &[u8], is_locked: bool) -> Value {
    let error = read(bytes, is_locked).expect_err(name);
    // Nothing of it is said on the wire: such terms open nothing.
    json!({
        "name": name, "params": method(is_locked), "hex": hex(bytes), "error": format!("{error:?}"),
    })
}

const fn priced(price: u64) -> Mint {
    Mint {
        price: Some(price),
        ..PLAIN
    }
}

const fn limited(most: u64) -> Mint {
    Mint {
        most: Some(most),
        ..PLAIN
    }
}

const fn at(url: &'static str) -> Mint {
    Mint { url, ..PLAIN }
}

fn all_valid() -> Vec<Value> {
    let both = Mint {
        price: Some(1_050),
        most: Some(10_000),
        ..at("https://other.example/Bitcoin")
    };
    let cheaper = Mint {
        price: Some(999),
        ..at("https://third.example:8443")
    };
    let loopback = [at("http://127.0.0.1:3338"), at("http://[::1]:3338")];
    let short = Some((locked().0, 2, 1, 0));
    let long = Some((locked().0, 2_592_000, 0, u64::MAX));
    vec![
        valid("one mint at par", &[PLAIN], None),
        valid("dearer", &[priced(1_001)], None),
        valid("the dearest", &[priced(10_000)], None),
        valid("the cheapest", &[priced(1)], None),
        valid("purses of one satoshi", &[limited(1)], None),
        valid("purses of almost any size", &[limited(u64::MAX)], None),
        valid("each with its own", &[both, cheaper, limited(64)], None),
        valid("on this very machine", &loopback, None),
        valid("locked, as is usual", &[PLAIN], Some(locked())),
        valid("locked, with price and limit", &[both], Some(locked())),
        valid("locked for the shortest time", &[PLAIN], short),
        valid("locked for 30 days, no margin", &[PLAIN], long),
    ]
}

fn mints_invalid() -> Vec<Value> {
    let long = format!("https://mint.example/{}", "a".repeat(236));
    let long: &'static str = long.leak();
    let urls = (0..8).map(|n| format!("https://mint.example/{n}{}", "a".repeat(120)));
    let wide: Vec<Mint> = urls.map(|url| at(url.leak())).collect();
    let nine: Vec<Mint> = (0..9)
        .map(|n| at(format!("https://m{n}.example").leak()))
        .collect();
    let unit = |unit| Mint { unit, ..PLAIN };
    let cases: Vec<(&str, Vec<Mint>)> = vec![
        ("no mint", vec![]),
        ("nine mints", nine),
        ("too long for terms", wide),
        ("par, said", vec![priced(1_000)]),
        ("no price at all", vec![priced(0)]),
        ("a price above ten times", vec![priced(10_001)]),
        ("the highest number as a price", vec![priced(u64::MAX)]),
        ("a purse of nothing", vec![limited(0)]),
        (
            "the second is wrong",
            vec![
                PLAIN,
                Mint {
                    price: Some(0),
                    ..at("https://b.example")
                },
            ],
        ),
        ("a mint twice", vec![PLAIN, PLAIN]),
        ("a mint twice, at two prices", vec![PLAIN, priced(900)]),
        ("another unit", vec![unit("msat")]),
        ("a unit in capitals", vec![unit("SAT")]),
        ("a slash at the end", vec![at("https://mint.example/")]),
        ("a host in capitals", vec![at("https://Mint.example")]),
        ("http to another machine", vec![at("http://mint.example")]),
        ("another scheme", vec![at("ftp://mint.example")]),
        ("a query", vec![at("https://mint.example?a=b")]),
        ("a fragment", vec![at("https://mint.example#a")]),
        ("a user name", vec![at("https://me@mint.example")]),
        ("white space", vec![at("https://mint.example/a b")]),
        ("nothing for a URL", vec![at("")]),
        ("a URL of 257 bytes", vec![at(long)]),
    ];
    let cases = cases.iter();
    cases
        .map(|(name, mints)| invalid(name, &encode(mints, None), false))
        .collect()
}

/// Bytes that are not the one encoding of anything.
fn bytes_invalid() -> Vec<Value> {
    let good = encode(&[priced(900)], None);
    // Map of one, key 0, list of one; map of three, key 0, a text of 20.
    assert_eq!(
        good.get(..7),
        Some(&[0xa1, 0, 0x81, 0xa3, 0, 0x74, b'h'][..])
    );
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let end = good.len();
    let cases = [
        ("nothing", Vec::new()),
        ("cut off", changed(&|bytes| bytes.truncate(end - 1))),
        ("something behind it", changed(&|bytes| bytes.push(0))),
        (
            "a longer integer than needed",
            changed(&|bytes| {
                // The price, in four bytes instead of two.
                bytes.splice(end - 3..end - 2, [0x1a, 0, 0]);
            }),
        ),
        (
            "a key of nobody",
            changed(&|bytes| {
                bytes[3] = 0xa4;
                bytes.extend([5, 0]);
            }),
        ),
        (
            "a price that is a text",
            changed(&|bytes| {
                bytes.splice(end - 3.., [0x61, b'1']);
            }),
        ),
        (
            "a map of indefinite length",
            changed(&|bytes| {
                bytes[0] = 0xbf;
                bytes.push(0xff);
            }),
        ),
    ];
    let cases = cases.iter();
    cases
        .map(|(name, bytes)| invalid(name, bytes, false))
        .collect()
}

fn locked_invalid() -> Vec<Value> {
    let good = locked();
    let cases = [
        ("root: no point", ([9; 33], good.1, good.2, good.3)),
        ("a lock of a second", (good.0, 1, 0, good.3)),
        (
            "a lock of more than 30 days",
            (good.0, 2_592_001, good.2, good.3),
        ),
        (
            "a margin as long as the lock",
            (good.0, 1_800, 1_800, good.3),
        ),
    ];
    let mut all: Vec<Value> = (cases.into_iter())
        .map(|(name, locked)| invalid(name, &encode(&[PLAIN], Some(locked)), true))
        .collect();
    all.push(invalid("only mints", &encode(&[PLAIN], None), true));
    let more = encode(&[PLAIN], Some(good));
    all.push(invalid("more than mints", &more, false));
    all.push(invalid(
        "locked: par, said",
        &encode(&[priced(1_000)], Some(good)),
        true,
    ));
    all
}

pub(super) fn file() -> Value {
    let invalid = [mints_invalid(), bytes_invalid(), locked_invalid()].concat();
    json!({
        "format": "1",
        "session": hex(&KEY.session.0),
        "purse": KEY.purse.0,
        "valid": all_valid(),
        "invalid": invalid,
        "openings": openings(),
    })
}
