//! What the codec must refuse, made from what it takes: one thing wrong at a time, and the error
//! that the specification names for it.

use serde_json::Value;

use super::cbor::{Item, head, long_head};
use super::schema::{Key, Kind};
use crate::json::Object;

/// An invalid case: its name, its bytes, and the error it must end in.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    /// What is wrong.
    pub(super) name: String,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// Name, number and, where it has one, field of the error.
    pub(super) error: Value,
}

/// Names and numbers of the errors that have no field.
const PLAIN: [(&str, u64); 12] = [
    ("Empty", 1),
    ("TooLong", 2),
    ("Truncated", 3),
    ("Trailing", 4),
    ("NotShortest", 5),
    ("Indefinite", 6),
    ("KeyOrder", 7),
    ("KeyType", 8),
    ("TooDeep", 9),
    ("Unsupported", 10),
    ("NotUtf8", 11),
    ("NoType", 12),
];

/// An error without a field.
#[must_use]
pub(super) fn plain(name: &str) -> Value {
    let found = PLAIN.iter().find(|(known, _)| *known == name);
    let code = found.map(|(_, code)| *code).unwrap_or_default();
    Object::new().with("name", name).int("code", code).done()
}

/// An error about a message type that is not known.
#[must_use]
pub(super) fn unknown_type(number: u64) -> Value {
    Object::new()
        .with("name", "UnknownType")
        .int("code", 13_u64)
        .int("message", number)
        .done()
}

/// An error about a key of a message.
pub(super) fn about(name: &str, code: u64, message: u64, key: u64) -> Value {
    Object::new()
        .with("name", name)
        .int("code", code)
        .int("message", message)
        .int("key", key)
        .done()
}

/// All invalid cases of one message, or of terms (`number` 1000), made from a valid one that has
/// every field.
#[must_use]
pub(super) fn cases(number: u64, keys: &[Key], valid: &[u8]) -> Vec<Invalid> {
    let Some((whole, _)) = Item::parse(valid) else {
        return vec![];
    };
    let mut maker = Maker {
        number,
        whole,
        cases: Vec::new(),
    };
    maker.framing(valid);
    maker.order();
    maker.kinds();
    maker.values(&[], keys);
    maker.cases
}

struct Maker {
    number: u64,
    whole: Item,
    cases: Vec<Invalid>,
}

/// Where a value is: the keys and, in lists, the places that lead to it.
type Path = [u64];

impl Maker {
    fn add(&mut self, name: impl Into<String>, bytes: Vec<u8>, error: Value) {
        let name = name.into();
        self.cases.push(Invalid { name, bytes, error });
    }

    /// What is wrong before anything is looked at.
    fn framing(&mut self, valid: &[u8]) {
        let cut = |at: usize| valid.get(..at).unwrap_or_default().to_vec();
        self.add(
            "last byte missing",
            cut(valid.len() - 1),
            plain("Truncated"),
        );
        if valid.len() > 4 {
            self.add(
                "cut in the middle",
                cut(valid.len() / 2),
                plain("Truncated"),
            );
        }
        let first = cut(1);
        self.add("cut after the first byte", first, plain("Truncated"));
        let more = [valid, &[0]].concat();
        self.add("a byte follows", more, plain("Trailing"));
        let twice = [valid, valid].concat();
        self.add("the same message follows", twice, plain("Trailing"));
        let pairs = self.pairs();
        let body = |from: usize| pairs.get(from..).map(encode_pairs).unwrap_or_default();
        let count = u64::try_from(pairs.len()).unwrap_or_default();
        let long = [long_head(5, count), body(0)].concat();
        self.add("map head in eight bytes", long, plain("NotShortest"));
        if let Some((key, value)) = pairs.first() {
            let first = [head(5, count), long_head(0, *key), value.encode()].concat();
            let long_key = [first, body(1)].concat();
            self.add("first key in eight bytes", long_key, plain("NotShortest"));
            let value = match value {
                Item::Uint(value) => long_head(0, *value),
                Item::Text(text) => {
                    let len = u64::try_from(text.len()).unwrap_or_default();
                    [long_head(3, len), text.clone()].concat()
                }
                other => other.encode(),
            };
            let long_value = [head(5, count), head(0, *key), value, body(1)].concat();
            self.add(
                "first value in eight bytes",
                long_value,
                plain("NotShortest"),
            );
        }
        let endless = [vec![0xbf], body(0), vec![0xff]].concat();
        self.add("a map without an end", endless, plain("Indefinite"));
    }

    /// Keys in the wrong order, twice, unknown, or of another kind.
    fn order(&mut self) {
        let pairs = self.pairs();
        if pairs.len() > 1 {
            let mut swapped = pairs.clone();
            swapped.rotate_right(1);
            self.with_pairs("last key first", swapped, plain("KeyOrder"));
        }
        if let Some(last) = pairs.last() {
            let twice = [pairs.as_slice(), std::slice::from_ref(last)].concat();
            self.with_pairs("last key twice", twice, plain("KeyOrder"));
        }
        let more = |key, value: Item| [pairs.as_slice(), &[(key, value)]].concat();
        let next = pairs.last().map_or(2, |(key, _)| key - key % 2 + 2);
        for key in [next, 1 << 20] {
            let name = format!("unknown even key {key}");
            let error = about("UnknownKey", 14, self.number, key);
            self.with_pairs(&name, more(key, Item::Uint(0)), error);
        }
        let odd = next + 1;
        for (name, value, error) in [
            ("null", vec![0xf6], "Unsupported"),
            ("a negative number", vec![0x20], "Unsupported"),
            ("a tag", vec![0xc0, 0x00], "Unsupported"),
            ("a float", vec![0xf9, 0x3c, 0x00], "Unsupported"),
            (
                "lists five deep",
                vec![0x81, 0x81, 0x81, 0x81, 0x80],
                "TooDeep",
            ),
            ("bytes without an end", vec![0x5f, 0xff], "Indefinite"),
            (
                "a text that is not UTF-8",
                vec![0x62, 0xc3, 0x28],
                "NotUtf8",
            ),
            (
                "a text that is a surrogate",
                vec![0x63, 0xed, 0xa0, 0x80],
                "NotUtf8",
            ),
        ] {
            let name = format!("{name} at an odd key");
            self.with_pairs(&name, more(odd, Item::Raw(value)), plain(error));
        }
        let key = |bytes: &[u8]| {
            let count = u64::try_from(pairs.len()).unwrap_or_default();
            [&head(5, count + 1)[..], &encode_pairs(&pairs), bytes].concat()
        };
        self.add(
            "a text as a key",
            key(&[0x61, 0x61, 0x00]),
            plain("KeyType"),
        );
        self.add("a negative key", key(&[0x20, 0x00]), plain("KeyType"));
    }

    /// Whole maps of another kind.
    fn kinds(&mut self) {
        let list = Item::List(vec![Item::Uint(0), Item::Uint(self.number)]).encode();
        self.add("a list", list, plain("NoType"));
        let pairs = self.pairs();
        if self.number == crate::fields::TERMS {
            return;
        }
        let rest = pairs.get(1..).unwrap_or_default().to_vec();
        self.with_pairs("no type", rest.clone(), plain("NoType"));
        let text = [&[(0, Item::Text(b"type".to_vec()))][..], &rest].concat();
        self.with_pairs("a text as type", text, plain("NoType"));
    }

    /// Each key missing, of another kind, out of its bounds.
    fn values(&mut self, path: &Path, keys: &[Key]) {
        for key in keys {
            let at = [path, &[key.key]].concat();
            let Some(good) = find(&self.whole, &at) else {
                continue;
            };
            let name = describe(&at);
            if !key.optional {
                let error = about("Missing", 15, self.number, key.key);
                self.without(&format!("{name} missing"), &at, error);
            }
            let error = about("WrongKind", 16, self.number, key.key);
            self.put(
                &format!("{name} of another kind"),
                &at,
                key.kind.wrong(),
                error,
            );
            self.outside(&at, &key.kind, &good);
            self.inner(&at, &key.kind);
        }
    }

    fn outside(&mut self, at: &Path, kind: &Kind, good: &Item) {
        let Some(key) = at.last() else { return };
        let error = about("OutOfRange", 17, self.number, *key);
        for (what, value) in kind.outside(good) {
            // What fills a message is refused as too long before anybody looks at it.
            if value.encode().len() < 16_000 {
                let name = format!("{} {what}", describe(at));
                self.put(&name, at, value, error.clone());
            }
        }
        if matches!(kind, Kind::Text(_) | Kind::Line(_) | Kind::Name(_)) {
            let half = Item::Raw(vec![0x61, 0xc3]);
            let name = format!("{} is half a letter", describe(at));
            self.put(&name, at, half, plain("NotUtf8"));
        }
    }

    fn inner(&mut self, at: &Path, kind: &Kind) {
        let error = about(
            "WrongKind",
            16,
            self.number,
            at.last().copied().unwrap_or(0),
        );
        match kind {
            Kind::Map(keys) => {
                self.values(at, keys);
                self.inner_even(at, keys);
            }
            Kind::Maps(keys, ..) => {
                let first = [at, &[0]].concat();
                let name = format!("{} holds a number", describe(at));
                self.put(&name, &first, Item::Uint(1), error);
                self.values(&first, keys);
            }
            Kind::Numbers(..) => {
                let first = [at, &[0]].concat();
                let name = format!("{} holds a text", describe(at));
                self.put(&name, &first, Item::Text(b"1".to_vec()), error);
            }
            _ => {}
        }
    }

    fn inner_even(&mut self, at: &Path, keys: &[Key]) {
        let next = keys.last().map_or(0, |key| key.key + 2);
        let Some(Item::Map(mut pairs)) = find(&self.whole, at) else {
            return;
        };
        pairs.push((next, Item::Uint(0)));
        let name = format!("{}: unknown even key {next}", describe(at));
        let error = about("UnknownKey", 14, self.number, next);
        self.put(&name, at, Item::Map(pairs), error);
    }

    fn put(&mut self, name: &str, at: &Path, value: Item, error: Value) {
        let mut whole = self.whole.clone();
        if let Some(place) = find_mut(&mut whole, at) {
            *place = value;
            self.add(name, whole.encode(), error);
        }
    }

    fn without(&mut self, name: &str, at: &Path, error: Value) {
        let mut whole = self.whole.clone();
        let Some((last, above)) = at.split_last() else {
            return;
        };
        if let Some(pairs) = find_mut(&mut whole, above).and_then(Item::pairs_mut) {
            pairs.retain(|(key, _)| key != last);
            self.add(name, whole.encode(), error);
        }
    }

    fn with_pairs(&mut self, name: &str, pairs: Vec<(u64, Item)>, error: Value) {
        self.add(name, Item::Map(pairs).encode(), error);
    }

    fn pairs(&self) -> Vec<(u64, Item)> {
        self.whole.pairs().unwrap_or_default().to_vec()
    }
}

fn encode_pairs(pairs: &(impl AsRef<[(u64, Item)]> + ?Sized)) -> Vec<u8> {
    let pair = |(key, value): &(u64, Item)| [head(0, *key), value.encode()].concat();
    pairs.as_ref().iter().flat_map(pair).collect()
}

fn describe(path: &Path) -> String {
    let keys = path.iter().map(ToString::to_string);
    format!("key {}", keys.collect::<Vec<_>>().join("."))
}

fn find(item: &Item, path: &Path) -> Option<Item> {
    let mut whole = item.clone();
    find_mut(&mut whole, path).cloned()
}

fn find_mut<'a>(item: &'a mut Item, path: &Path) -> Option<&'a mut Item> {
    let Some((first, rest)) = path.split_first() else {
        return Some(item);
    };
    let inner = match item {
        Item::Map(pairs) => {
            let found = pairs.iter_mut().find(|(key, _)| key == first);
            found.map(|(_, value)| value)
        }
        Item::List(items) => items.get_mut(usize::try_from(*first).ok()?),
        _ => None,
    };
    find_mut(inner?, rest)
}
