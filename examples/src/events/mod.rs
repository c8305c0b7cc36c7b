//! What the programs write with `--json`: every event, and every field of it. `spec/events.md` is
//! this table; what is not in it is not written.

mod fields;
mod table;

use serde_json::{Map, Value};

pub use fields::FIELDS;
pub use table::EVENTS;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name, under `event`.
    pub name: &'static str,
    /// Which commands say it.
    pub by: &'static str,
    /// What it says.
    pub says: &'static str,
    /// What else is in it, with spaces between.
    fields: &'static str,
    /// True where it is of a session: with `side` and `session`.
    pub of_session: bool,
}

/// Fields of an event of a session.
pub const OF_SESSION: [&str; 2] = ["side", "session"];

impl Event {
    /// What else is in it.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.fields.split_whitespace()
    }

    fn has(&self, field: &str) -> bool {
        field == "event"
            || self.fields().any(|of| of == field)
            || self.of_session && OF_SESSION.contains(&field)
    }
}

/// True where an event of this name may have these fields.
#[must_use]
pub fn is_known(name: &str, fields: &Map<String, Value>) -> bool {
    let mut named = EVENTS.iter().filter(|event| event.name == name);
    named.any(|event| fields.keys().all(|field| event.has(field)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    fn document() -> String {
        let mut text = "# Events of the two programs

What `streamer` and `viewer` write to stdout with `--json`: one JSON object a line, whose `event` is its name. Not
part of the protocol. Amounts are in millisatoshi or satoshi, as their names end, keys and names in hex. Events and
fields may be added; none changes its meaning. A field that is not known is null. What people read goes to stderr,
and may change at any time. This file is the table `EVENTS` of the programs, which write nothing else:
`STREAMPAY_WRITE_DOCS=1 cargo test -p streampay-examples --lib events::` writes it anew.

## Events

An event of a session also has `side` (`viewer` or `streamer`: who says it) and `session`.

| event | of a session | said by | says | fields |
|---|---|---|---|---|
"
        .to_owned();
        for event in EVENTS {
            let fields = event.fields().map(|field| format!("`{field}`"));
            let fields: Vec<_> = fields.collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                event.name,
                if event.of_session { "yes" } else { "" },
                event.by,
                event.says,
                fields.join(", ")
            );
        }
        text.push_str("\n## Fields\n\n| field | |\n|---|---|\n");
        for (field, says) in FIELDS {
            let _ = writeln!(text, "| `{field}` | {says} |");
        }
        text
    }

    #[test]
    fn the_document_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/events.md");
        if std::env::var_os("STREAMPAY_WRITE_DOCS").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), document());
    }

    #[test]
    fn every_field_is_explained_and_none_for_nothing() {
        let used: BTreeSet<&str> = EVENTS.iter().flat_map(Event::fields).collect();
        let explained: BTreeSet<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
        assert_eq!(used, explained);
        assert_eq!(explained.len(), FIELDS.len(), "one is there twice");
        let names: Vec<&str> = EVENTS.iter().map(|event| event.name).collect();
        assert!(names.is_sorted(), "in order of their names");
    }

    #[test]
    fn an_event_that_is_not_in_the_table_is_not_known() {
        let fields = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        for (name, text, known) in [
            ("live", r#"{"live": true}"#, true),
            ("live", r#"{"alive": true}"#, false),
            ("lively", r#"{"live": true}"#, false),
            (
                "stalled",
                r#"{"ms": 7, "side": "viewer", "session": "07"}"#,
                true,
            ),
            ("live", r#"{"live": true, "session": "07"}"#, false),
            // Both of that name.
            ("mint", r#"{"mint": "x", "usable": true}"#, true),
            ("mint", r#"{"mint": "x", "earned_msat": 7}"#, true),
            ("mint", r#"{"usable": true, "earned_msat": 7}"#, false),
        ] {
            assert_eq!(is_known(name, &fields(text)), known, "{name} {text}");
        }
    }

    /// Events that no test brings about are found too: every name in the sources that is said.
    #[test]
    fn every_name_in_the_sources_is_in_the_table() {
        let names: BTreeSet<&str> = EVENTS.iter().map(|event| event.name).collect();
        let mut found = BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for after in text.split(".say(").skip(1) {
                        let after = after.trim_start();
                        let literal = after.strip_prefix('"').unwrap_or_default();
                        let name = literal.split('"').next().unwrap_or_default();
                        // Others are no names: a variable, or this test.
                        if !name.is_empty()
                            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                        {
                            found.insert(name.to_owned());
                        }
                    }
                }
            }
        }
        assert!(found.len() > 15, "{found:?}");
        for name in &found {
            assert!(
                names.contains(name.as_str()),
                "`{name}` is said and not in the table"
            );
        }
    }
}
