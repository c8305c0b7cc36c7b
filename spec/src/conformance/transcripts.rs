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
    let mut gates = Gates::default();
    for (at, step) in steps.iter().enumerate() {
        let fields = Fields::new(step);
        let given = ["now", "input", "take"];
        let request = given.iter().fold(Object::new(), |request, key| {
            request.maybe(key, fields.opt(key).cloned())
        });
        let found = subject.ask(request.with("cmd", "step"));
        found
            .map_err(|trouble| trouble.to_string())
            .and_then(|found| compare(&mut gates, &numbers.in_order(found), fields))
            .map_err(|why| format!("step {at}: {why}"))?;
    }
    Ok(())
}

/// What the gates were told last: that of the side, and that of the transcript.
#[derive(Debug, Default)]
struct Gates {
    found: Option<Value>,
    expected: Option<Value>,
}

/// Without what a gate is told once more: it has no effect.
fn without_repeated(gate: &mut Option<Value>, outputs: Vec<Value>) -> Vec<Value> {
    let is_new = |output: &Value| {
        let Some(told) = output.get("gate") else {
            return true;
        };
        let again = gate.as_ref().is_some_and(|last| same(last, told));
        *gate = Some(told.clone());
        !again
    };
    outputs.into_iter().filter(is_new).collect()
}

fn compare(gates: &mut Gates, found: &Value, step: Fields<'_>) -> Result<(), String> {
    let input = step.value("input").cloned().unwrap_or_default();
    if ["create", "restart"]
        .iter()
        .any(|key| input.get(key).is_some())
    {
        *gates = Gates::default();
    }
    let found = Fields::new(found);
    let list = |fields: Fields<'_>| fields.list("outputs").cloned().unwrap_or_default();
    let (events, outputs) = apart(list(found));
    let (expected_events, expected) = apart(list(step));
    let outputs = without_repeated(&mut gates.found, outputs);
    let mut expected = without_repeated(&mut gates.expected, expected);
    expected.dedup_by(|next, one| is_persist(next) && is_persist(one));
    compare_all("output", &without_more(outputs, &expected), &expected)?;
    // What the user of a process that died was told, nobody can say.
    if step.opt("take").is_none() {
        compare_all("event", &events, &expected_events)?;
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

/// Events, and all else. When the user is told is a side's own affair, as long as all of it is told
/// in order: nothing that anybody else sees depends on it.
fn apart(outputs: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    outputs.into_iter().partition(is_event)
}

fn is_persist(output: &Value) -> bool {
    output.get("persist").is_some()
}

/// Without what is written down more often than expected: that breaks no promise.
fn without_more(found: Vec<Value>, expected: &[Value]) -> Vec<Value> {
    let mut expected = expected.iter().peekable();
    let needed = |output: &Value| match (is_persist(output), expected.peek()) {
        (true, next) => next.is_some_and(|next| is_persist(next)) && expected.next().is_some(),
        // It should have been written down before: the comparison says so.
        (false, Some(next)) if is_persist(next) => true,
        (false, _) => {
            expected.next();
            true
        }
    };
    found.into_iter().filter(needed).collect()
}

/// True for what the user is told.
pub(crate) fn is_event(output: &Value) -> bool {
    output.get("event").is_some()
}

fn compare_all(what: &str, found: &[Value], expected: &[Value]) -> Result<(), String> {
    for (at, expected) in expected.iter().enumerate() {
        match found.get(at) {
            Some(found) if same(found, expected) => {}
            other => {
                let other = other.map_or_else(|| "none".into(), one_line);
                let expected = one_line(expected);
                return Err(format!("{what} {at} must be {expected}, is {other}"));
            }
        }
    }
    match found.get(expected.len()) {
        None => Ok(()),
        Some(more) => Err(format!("one {what} more: {}", one_line(more))),
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
    /// written down stays where it is.
    pub(crate) fn order(&self, outputs: &mut [Value]) {
        if !self.is_host {
            return;
        }
        outputs.sort_by_key(is_event);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(found: &Value, expected: &Value) -> bool {
        let found = json!({"outputs": found, "state": {}});
        let step = json!({"input": {}, "outputs": expected, "state": {}});
        compare(&mut Gates::default(), &found, Fields::new(&step)).is_ok()
    }

    #[test]
    fn what_is_written_or_told_more_often_or_at_another_moment_fits_and_no_less() {
        let (p, s, e) = (
            json!({"persist": {}}),
            json!({"send": "00"}),
            json!({"event": {"a": {}}}),
        );
        let gate = |limit: &str| json!({"gate": {"limit": limit}});
        let (g, h) = (gate("1"), gate("2"));
        let (t, f) = (json!({"send": "01"}), json!({"event": {"b": {}}}));
        for (found, expected, holds) in [
            (json!([p, s]), json!([p, s]), true),
            (json!([p, e, s]), json!([p, s, e]), true),
            (json!([p, p, s]), json!([p, s]), true),
            (json!([p, s]), json!([p, e, p, s, e]), false),
            (json!([p, s, e, e]), json!([p, e, p, s, e]), true),
            (json!([p, s, p, t, p]), json!([p, s, t]), true),
            (json!([p]), json!([]), true),
            (json!([s, p]), json!([p, s]), false),
            (json!([s]), json!([p, s]), false),
            (json!([p, s]), json!([p, s, p]), false),
            (json!([p, s, t]), json!([p, s, p, t]), false),
            (json!([p, t, s]), json!([p, s, t]), false),
            (json!([e, f]), json!([f, e]), false),
            (json!([e]), json!([e, f]), false),
            (json!([p, s, s]), json!([p, s]), false),
            (json!([g, s, g]), json!([g, g, s]), true),
            (json!([g, h, g]), json!([g, h]), false),
            (json!([g]), json!([g, h]), false),
        ] {
            assert_eq!(fits(&found, &expected), holds, "{found} for {expected}");
        }
    }
}
