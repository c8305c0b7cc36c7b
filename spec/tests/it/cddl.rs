//! `streampay.cddl` says the same of every message as the table that the vectors are made from.

use std::collections::BTreeMap;

use streampay_core::backend::Consumed;
use streampay_core::meter::PauseReason;
use streampay_spec::fields::MESSAGES;
use streampay_spec::vectors::schema::{self, Key, Kind};

/// The longest bytes that a message has room for, as the text says it.
const FILLS: usize = 16 * 1024;

/// All rules by name, without comments.
struct Rules(BTreeMap<String, String>);

impl Rules {
    fn read() -> Self {
        let text = include_str!("../../streampay.cddl");
        let lines = text
            .lines()
            .map(|line| line.split(';').next().unwrap_or(""));
        let mut rules: Vec<(String, String)> = Vec::new();
        for line in lines {
            let begins = line.starts_with(|letter: char| letter.is_ascii_lowercase());
            match line.split_once(" = ") {
                Some((name, body)) if begins => {
                    rules.push((name.trim().to_owned(), body.trim().to_owned()));
                }
                _ => {
                    let Some((_, body)) = rules.last_mut() else {
                        continue;
                    };
                    *body = format!("{body} {}", line.trim());
                }
            }
        }
        let count = rules.len();
        let rules: BTreeMap<_, _> = rules.into_iter().collect();
        assert_eq!(rules.len(), count, "a rule is there twice");
        Self(rules)
    }

    fn rule(&self, name: &str) -> &str {
        let found = self.0.get(name);
        found.unwrap_or_else(|| panic!("no rule `{name}`")).trim()
    }

    /// The keys of a map, each as a line of what it must be.
    fn map(&self, body: &str) -> Vec<String> {
        let inner = body
            .trim()
            .strip_prefix('{')
            .and_then(|map| map.strip_suffix('}'));
        let inner = inner.unwrap_or_else(|| panic!("no map: {body}"));
        let mut lines: Vec<String> = Vec::new();
        let mut is_open = false;
        for entry in split(inner) {
            assert!(!is_open, "something follows `odd` in {body}");
            if entry == "odd" {
                is_open = true;
                continue;
            }
            let (key, value) = entry.split_once(": ").unwrap();
            let bare = key.trim_start_matches('?').trim();
            let optional = if bare == key { "" } else { "?" };
            lines.push(format!("{bare}{optional} {}", self.value(value.trim())));
        }
        assert!(is_open, "no odd keys may follow in {body}");
        lines
    }

    fn value(&self, value: &str) -> String {
        if let Some((least, most)) = value.split_once("..").filter(|_| is_range(value)) {
            return format!("uint {least}..{most}");
        }
        if value.bytes().all(|byte| byte.is_ascii_digit()) {
            return format!("uint {value}..{value}");
        }
        if let Some(size) = value.strip_prefix("bytes .size ") {
            let (least, most) = bounds(size);
            return format!("bytes {least}..{most}");
        }
        if let Some(size) = value.strip_prefix("text .size ") {
            let (least, most) = bounds(size);
            assert_eq!(least, "1", "a line has something in it");
            return format!("line ..{most}");
        }
        if let Some(pattern) = value.strip_prefix("text .regexp \"[a-z0-9-]{1,") {
            return format!("name ..{}", pattern.trim_end_matches("}\""));
        }
        if let Some(list) = value.strip_prefix('[') {
            let (count, item) = list.trim_end_matches(']').split_once(' ').unwrap();
            let (least, most) = count.split_once('*').unwrap();
            let what = match self.value(item) {
                item if item.starts_with("uint ") => "numbers".to_owned(),
                item => format!("list of {item}"),
            };
            return format!("{what}, {least} to {most}");
        }
        if value.starts_with('{') {
            return format!("map of {}", self.map(value).join(", "));
        }
        if let Some(choice) = value.strip_prefix("&(") {
            let numbers = choices(choice).into_iter().map(|(_, number)| number);
            let numbers: Vec<u16> = numbers.collect();
            return format!("uint {}..{}", numbers[0], numbers[numbers.len() - 1]);
        }
        if value == "text" {
            return "text".into();
        }
        self.value(self.rule(value))
    }
}

fn is_range(value: &str) -> bool {
    let of_range = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    value.bytes().all(of_range)
}

/// `32`, or `(0..64)`.
fn bounds(size: &str) -> (&str, &str) {
    let bare = size.trim_start_matches('(').trim_end_matches(')');
    bare.split_once("..").unwrap_or((bare, bare))
}

/// Names and numbers of a choice, behind its first bracket.
fn choices(choice: &str) -> Vec<(String, u16)> {
    let inner = choice.trim().trim_end_matches(')');
    let pair = |pair: &str| {
        let (name, number) = pair.split_once(": ").unwrap();
        (name.trim().to_owned(), number.trim().parse().unwrap())
    };
    inner.split(',').map(pair).collect()
}

/// At the commas that are in no bracket.
fn split(inner: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quoted) = (0_usize, false);
    for letter in inner.chars() {
        match letter {
            '"' => quoted = !quoted,
            '{' | '[' | '(' if !quoted => depth += 1,
            '}' | ']' | ')' if !quoted => depth -= 1,
            ',' if depth == 0 && !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// The same of the table.
fn lines(keys: &[Key]) -> Vec<String> {
    let line = |key: &Key| {
        let optional = if key.optional { "?" } else { "" };
        format!("{}{optional} {}", key.key, said(&key.kind))
    };
    keys.iter().map(line).collect()
}

fn said(kind: &Kind) -> String {
    match kind {
        Kind::Uint(least, most) => format!("uint {least}..{most}"),
        Kind::Bytes(least, most) => format!("bytes {least}..{}", most.min(&FILLS)),
        // How long it may be stands in a comment.
        Kind::Text(_) => "text".into(),
        Kind::Line(most) => format!("line ..{most}"),
        Kind::Name(most) => format!("name ..{most}"),
        Kind::Numbers(least, most) => format!("numbers, {least} to {most}"),
        Kind::Map(keys) => format!("map of {}", lines(keys).join(", ")),
        Kind::Maps(keys, least, most) => {
            format!(
                "list of map of {}, {least} to {most}",
                lines(keys).join(", ")
            )
        }
    }
}

#[test]
fn cddl_has_every_message_with_its_keys_and_their_bounds() {
    let rules = Rules::read();
    for (name, number) in MESSAGES {
        let found = rules.map(rules.rule(name));
        let kind = format!("0 uint {number}..{number}");
        let table = lines(&schema::message(number));
        let expected: Vec<String> = [kind].into_iter().chain(table).collect();
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(rules.map(rules.rule("terms")), lines(&schema::terms()));
    let listed = rules.rule("message").split('/').map(str::trim);
    let names = MESSAGES.iter().map(|(name, _)| *name);
    assert_eq!(sorted(listed), sorted(names));
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

#[test]
fn choices_of_the_cddl_are_the_codes_of_the_code() {
    let rules = Rules::read();
    let of = |rule: &str| choices(rules.rule(rule).strip_prefix("&(").unwrap());
    let bare = |name: String| name.replace('_', "");
    let found: Vec<_> = of("pause_reason")
        .into_iter()
        .map(|(n, code)| (bare(n), code))
        .collect();
    let reasons = PauseReason::ALL.iter();
    let known = reasons.map(|(reason, code)| (format!("{reason:?}").to_lowercase(), *code));
    assert_eq!(found, known.collect::<Vec<_>>());
    let consumed = (0..=u8::MAX).filter_map(Consumed::from_code);
    let consumed = consumed.map(|one| (format!("{one:?}").to_lowercase(), u16::from(one.code())));
    assert_eq!(of("consumed"), consumed.collect::<Vec<_>>());
}

/// The comment that the title has in place of a size.
#[test]
fn cddl_says_how_long_a_title_is() {
    let title = schema::terms().into_iter().next().map(|key| key.kind);
    let Some(Kind::Text(most)) = title else {
        panic!("no title");
    };
    let said = format!("; title, at most {most} bytes");
    assert!(include_str!("../../streampay.cddl").contains(&said));
}
