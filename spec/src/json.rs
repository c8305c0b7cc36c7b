//! JSON as the vectors use it: bytes are hexadecimal texts, integers decimal texts, what is
//! missing is left out.

use serde_json::{Map, Value};

/// A part of some JSON is missing or of another kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad or missing `{0}`")]
pub struct BadJson(pub String);

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits; none where it is something else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    let bytes = digits.chunks_exact(2).map(|pair| match pair {
        [high, low] => u8::try_from(value(high)? * 16 + value(low)?).ok(),
        _ => None,
    });
    bytes.collect()
}

/// An integer.
#[must_use]
pub fn int(value: impl Into<u64>) -> Value {
    Value::String(value.into().to_string())
}

/// Builds an object key by key.
#[derive(Debug, Default)]
pub struct Object(Map<String, Value>);

impl Object {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds anything.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Adds it where it is there.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds an integer.
    #[must_use]
    pub fn int(self, key: &str, value: impl Into<u64>) -> Self {
        self.with(key, int(value))
    }

    /// Adds bytes.
    #[must_use]
    pub fn hex(self, key: &str, bytes: &[u8]) -> Self {
        self.with(key, hex(bytes))
    }

    /// The object.
    #[must_use]
    pub fn done(self) -> Value {
        Value::Object(self.0)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        object.done()
    }
}

/// Reads an object key by key.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    /// Reads `value`. What is no object has no keys.
    #[must_use]
    pub const fn new(value: &'a Value) -> Self {
        Self(value)
    }

    /// The value at `key`, if there is one.
    #[must_use]
    pub fn opt(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The value at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there is none.
    pub fn value(self, key: &str) -> Result<&'a Value, BadJson> {
        self.opt(key).ok_or_else(|| BadJson(key.into()))
    }

    /// The object at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there is none.
    pub fn object(self, key: &str) -> Result<Self, BadJson> {
        self.value(key).map(Self)
    }

    /// The text at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there is none.
    pub fn text(self, key: &str) -> Result<&'a str, BadJson> {
        let text = self.value(key)?.as_str();
        text.ok_or_else(|| BadJson(key.into()))
    }

    /// The integer at `key`, as far as it fits.
    ///
    /// # Errors
    /// [`BadJson`] where there is none, or it is too large.
    pub fn int<T: TryFrom<u64>>(self, key: &str) -> Result<T, BadJson> {
        let value = self.value(key)?;
        let number = as_int(value).and_then(|value| T::try_from(value).ok());
        number.ok_or_else(|| BadJson(key.into()))
    }

    /// The bytes at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there are none.
    pub fn bytes(self, key: &str) -> Result<Vec<u8>, BadJson> {
        unhex(self.text(key)?).ok_or_else(|| BadJson(key.into()))
    }

    /// Exactly `N` bytes at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there is something else.
    pub fn array<const N: usize>(self, key: &str) -> Result<[u8; N], BadJson> {
        let bytes = self.bytes(key)?;
        bytes.try_into().map_err(|_| BadJson(key.into()))
    }

    /// Reads what is at `key` where there is something.
    ///
    /// # Errors
    /// [`BadJson`] as `read` says.
    pub fn maybe<T>(
        self,
        key: &str,
        read: impl FnOnce(Self) -> Result<T, BadJson>,
    ) -> Result<Option<T>, BadJson> {
        self.opt(key).map(|value| read(Self(value))).transpose()
    }

    /// The list at `key`.
    ///
    /// # Errors
    /// [`BadJson`] where there is none.
    pub fn list(self, key: &str) -> Result<&'a Vec<Value>, BadJson> {
        let list = self.value(key)?.as_array();
        list.ok_or_else(|| BadJson(key.into()))
    }

    /// The object without some of its keys.
    #[must_use]
    pub fn without(self, keys: &[&str]) -> Value {
        let mut value = self.0.clone();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
        value
    }

    /// True where `key` holds `true`.
    #[must_use]
    pub fn flag(self, key: &str) -> bool {
        self.opt(key).and_then(Value::as_bool).unwrap_or_default()
    }
}

/// An integer, as a text or, where somebody's JSON has it so, as a number.
#[must_use]
pub fn as_int(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// What Rust's serde says of an error, in the form of the vectors: numbers are texts.
#[must_use]
pub fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, plain(value)))
            .collect(),
        other => other,
    }
}

/// Keys that come first in an object, in this order; the rest follow by the alphabet.
const FIRST: [&str; 12] = [
    "format", "name", "about", "role", "message", "type", "now", "input", "outputs", "state",
    "hex", "valid",
];

/// The same value always gives the same text: short values on one line, keys in a fixed order,
/// whatever features serde has.
#[must_use]
pub fn render(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text.push('\n');
    text
}

/// How long a line may be before its value is broken up.
const WIDTH: usize = 110;

fn write(text: &mut String, value: &Value, indent: usize) {
    let line = one_line(value);
    let room = WIDTH.saturating_sub(indent);
    match value {
        Value::Object(map) if line.len() > room && !map.is_empty() => {
            let items = sorted(map).into_iter().map(|(key, value)| {
                let mut item = format!("{}: ", Value::from(key.as_str()));
                write(&mut item, value, indent.saturating_add(2));
                item
            });
            block(text, ('{', '}'), items.collect(), indent);
        }
        Value::Array(list) if line.len() > room && !list.is_empty() => {
            let items = list.iter().map(|value| {
                let mut item = String::new();
                write(&mut item, value, indent.saturating_add(2));
                item
            });
            block(text, ('[', ']'), items.collect(), indent);
        }
        _ => text.push_str(&line),
    }
}

fn block(text: &mut String, (open, close): (char, char), items: Vec<String>, indent: usize) {
    let inner = " ".repeat(indent.saturating_add(2));
    text.push(open);
    text.push('\n');
    let lines: Vec<String> = items
        .into_iter()
        .map(|item| format!("{inner}{item}"))
        .collect();
    text.push_str(&lines.join(",\n"));
    text.push('\n');
    text.push_str(&" ".repeat(indent));
    text.push(close);
}

/// The whole value on one line, in the same order of keys.
#[must_use]
pub fn one_line(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let items = sorted(map)
                .into_iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), one_line(value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            let items = list.iter().map(one_line).collect::<Vec<_>>();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let rank = |key: &str| {
        let found = FIRST.iter().position(|first| *first == key);
        found.unwrap_or(FIRST.len())
    };
    let mut items: Vec<_> = map.iter().collect();
    items.sort_by_key(|(key, _)| (rank(key), key.as_str()));
    items
}
