//! Vectors: one request each, one expected answer.

use serde_json::Value;

use super::subject::Subject;
use super::{Report, same};
use crate::json::{BadJson, Fields, Object, one_line};

/// All cases of one file.
pub(super) fn run(subject: &mut dyn Subject, report: &mut Report, file: &str, value: &Value) {
    let fields = Fields::new(value);
    let parts: [(_, Case); 4] = [
        ("valid", valid),
        ("invalid", invalid),
        ("ignored", ignored),
        ("cases", computed),
    ];
    for (part, case) in parts {
        for value in fields.list(part).ok().into_iter().flatten() {
            let at = At {
                file,
                whole: fields,
            };
            let title = Fields::new(value).text("name").unwrap_or("?");
            let name = format!("{file} {part} `{title}`");
            report.add(&name, case(subject, at, Fields::new(value)));
        }
    }
}

/// Which file a case is of.
#[derive(Clone, Copy)]
struct At<'a> {
    file: &'a str,
    whole: Fields<'a>,
}

type Case = fn(&mut dyn Subject, At<'_>, Fields<'_>) -> Result<(), String>;

fn bad(bad: BadJson) -> String {
    format!("the vector itself: {bad}")
}

fn expect(found: &Value, key: &str, expected: &Value) -> Result<(), String> {
    match Fields::new(found).opt(key) {
        Some(value) if same(value, expected) => Ok(()),
        _ => Err(format!(
            "expected {key} {}, found {}",
            one_line(expected),
            one_line(found)
        )),
    }
}

fn ask(subject: &mut dyn Subject, request: Object) -> Result<Value, String> {
    subject.ask(request).map_err(|trouble| trouble.to_string())
}

fn request(command: &str) -> Object {
    Object::new().with("cmd", command)
}

fn kind(at: At<'_>) -> &'static str {
    if at.file == "terms.json" {
        "terms"
    } else {
        "message"
    }
}

fn decode(subject: &mut dyn Subject, at: At<'_>, case: Fields<'_>) -> Result<Value, String> {
    let hex = case.text("hex").map_err(bad)?;
    let request = request("decode").with("as", kind(at)).with("hex", hex);
    ask(subject, request)
}

/// Decodes to its fields, and back to the same bytes where they are canonical.
fn valid(subject: &mut dyn Subject, at: At<'_>, case: Fields<'_>) -> Result<(), String> {
    let fields = case.value("fields").map_err(bad)?.clone();
    let kind = kind(at);
    let whole = match kind {
        "terms" => fields,
        _ => Object::new()
            .with("type", at.whole.text("message").map_err(bad)?)
            .with("fields", fields)
            .done(),
    };
    let found = decode(subject, at, case)?;
    expect(&found, kind, &whole)?;
    if !case.flag("canonical") {
        return Ok(());
    }
    let request = request("encode").with("as", kind).with(kind, whole);
    let found = ask(subject, request)?;
    expect(&found, "hex", case.value("hex").map_err(bad)?)
}

fn invalid(subject: &mut dyn Subject, at: At<'_>, case: Fields<'_>) -> Result<(), String> {
    let found = decode(subject, at, case)?;
    expect(&found, "error", case.value("error").map_err(bad)?)
}

fn ignored(subject: &mut dyn Subject, at: At<'_>, case: Fields<'_>) -> Result<(), String> {
    let found = decode(subject, at, case)?;
    expect(&found, "ignored", &Value::Bool(true))
}

/// A hash, a signature or a price.
fn computed(subject: &mut dyn Subject, at: At<'_>, case: Fields<'_>) -> Result<(), String> {
    let (command, keys, result): (_, &[&str], _) = match at.file {
        "hashes.json" => ("hash", &["what", "fields", "tag", "preimage"], "hash"),
        "signatures.json" => ("verify", &["key", "hash", "signature"], "valid"),
        _ => ("price", &["what", "fields"], "result"),
    };
    let mut asked = request(command);
    for key in keys {
        asked = asked.with(key, case.value(key).map_err(bad)?.clone());
    }
    let found = ask(subject, asked)?;
    expect(&found, result, case.value(result).map_err(bad)?)
}
