//! Transcripts: the same steps, the same outputs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::subject::Subject;
use super::{Report, same};
use crate::json::{Fields, Object, one_line};

/// One file.
pub(super) fn run(subject: &mut dyn Subject, report: &mut Report, file: &str, value: &Value) {
    report.add(file, play(subject, Fields::new(value)));
}

fn play(subject: &mut dyn Subject, file: Fields<'_>) -> Result<(), String> {
    let steps = file.list("steps").map_err(|bad| bad.to_string())?;
    let mut numbers = Numbers::default();
    for (at, step) in steps.iter().enumerate() {
        let fields = Fields::new(step);
        let given = ["now", "input", "take"];
        let request = given.iter().fold(Object::new(), |request, key| {
            request.maybe(key, fields.opt(key).cloned())
        });
        let found = subject.ask(request.with("cmd", "step"));
        found
            .map_err(|trouble| trouble.to_string())
            .and_then(|found| compare(&numbers.in_order(found), fields))
            .map_err(|why| format!("step {at}: {why}"))?;
    }
    Ok(())
}

fn compare(found: &Value, step: Fields<'_>) -> Result<(), String> {
    let found = Fields::new(found);
    let list = |fields: Fields<'_>| fields.list("outputs").cloned().unwrap_or_default();
    let (outputs, expected) = (list(found), list(step));
    for (at, expected) in expected.iter().enumerate() {
        match outputs.get(at) {
            Some(output) if same(output, expected) => {}
            other => {
                let other = other.map_or_else(|| "none".into(), one_line);
                let expected = one_line(expected);
                return Err(format!("output {at} must be {expected}, is {other}"));
            }
        }
    }
    if let Some(more) = outputs.get(expected.len()) {
        return Err(format!("one output more: {}", one_line(more)));
    }
    let state = |fields: Fields<'_>| without_timeout(fields.opt("state"));
    let (is, must) = (state(found), state(step));
    if same(&is, &must) {
        Ok(())
    } else {
        let (must, is) = (one_line(&must), one_line(&is));
        Err(format!("state must be {must}, is {is}"))
    }
}

/// When a side wants to be woken is its own affair, as long as it does the same at the moments of
/// the transcript.
fn without_timeout(state: Option<&Value>) -> Value {
    let mut state = state.cloned().unwrap_or_default();
    if let Some(map) = state.as_object_mut() {
        map.remove("timeout_ms");
    }
    state
}

/// A side numbers its requests as it likes; here they have the numbers in which they came.
#[derive(Debug, Default)]
pub(crate) struct Numbers(BTreeMap<String, usize>);

impl Numbers {
    fn in_order(&mut self, mut step: Value) -> Value {
        let outputs = step.get_mut("outputs").and_then(Value::as_array_mut);
        for output in outputs.into_iter().flatten() {
            self.number(output);
        }
        step
    }

    /// Numbers one output.
    pub(crate) fn number(&mut self, output: &mut Value) {
        let next = self.0.len();
        if let Some(request) = output.pointer_mut("/backend/request") {
            let number = *self.0.entry(request.to_string()).or_insert(next);
            *request = Value::String(number.to_string());
        }
    }
}
