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
    let is_host = file.text("role").is_ok_and(|role| role == "host");
    let mut numbers = Numbers::of(is_host);
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
        map.remove("wake_s");
    }
    state
}

/// A side numbers its requests as it likes, and a host marks names as it likes; here they have the
/// numbers in which they came.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    requests: BTreeMap<String, usize>,
    marks: BTreeMap<String, usize>,
    is_host: bool,
}

impl Numbers {
    /// For a side, or for a host.
    pub(crate) fn of(is_host: bool) -> Self {
        Self {
            is_host,
            ..Self::default()
        }
    }

    fn in_order(&mut self, mut step: Value) -> Value {
        let outputs = step.get_mut("outputs").and_then(Value::as_array_mut);
        if let Some(outputs) = outputs {
            self.order(outputs);
            outputs.iter_mut().for_each(|output| self.number(output));
        }
        if let Some(state) = step.get_mut("state") {
            self.state(state);
        }
        step
    }

    /// Whom a host tells first is its own affair, as long as each hears all in order, and what is
    /// written down stays where it is; so is when it tells its user.
    pub(crate) fn order(&self, outputs: &mut [Value]) {
        if !self.is_host {
            return;
        }
        outputs.sort_by_key(|output| output.get("event").is_some());
        let told = |output: &Value| output.pointer("/tell/session").map(ToString::to_string);
        for run in outputs.chunk_by_mut(|one, other| told(one).is_some() && told(other).is_some()) {
            run.sort_by_key(told);
        }
    }

    /// Numbers the names in a host's state, and puts them in order.
    pub(crate) fn state(&mut self, state: &mut Value) {
        if !self.is_host {
            return;
        }
        let names = state.get_mut("names").and_then(Value::as_array_mut);
        let Some(names) = names else { return };
        names.iter_mut().for_each(|name| self.mark(name));
        names.sort_by_key(ToString::to_string);
    }

    /// Numbers what a host put behind a name.
    fn mark(&mut self, name: &mut Value) {
        let next = self.marks.len();
        let Some((asked, mark)) = name.as_str().and_then(|name| name.rsplit_once('#')) else {
            return;
        };
        let number = *self.marks.entry(mark.into()).or_insert(next);
        *name = Value::String(format!("{asked}#{number}"));
    }

    fn mark_all(&mut self, value: &mut Value) {
        for (key, value) in value.as_object_mut().into_iter().flatten() {
            match key.as_str() {
                "name" | "sender" => self.mark(value),
                _ => self.mark_all(value),
            }
        }
    }

    /// Numbers one output.
    pub(crate) fn number(&mut self, output: &mut Value) {
        if self.is_host {
            self.mark_all(output);
        }
        let next = self.requests.len();
        if let Some(request) = output.pointer_mut("/backend/request") {
            let number = *self.requests.entry(request.to_string()).or_insert(next);
            *request = Value::String(number.to_string());
        }
    }
}
