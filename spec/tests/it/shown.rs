//! Every row of the transition tables is shown: `transitions.md` names a transcript for it, and that has a
//! step from a state of the row to one of the next, by the input and with the outputs of the row.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use streampay_core::wire::decode;
use streampay_spec::adapter::Adapter;
use streampay_spec::conformance::read;
use streampay_spec::fields::{MESSAGES, name_of};
use streampay_spec::json::unhex;
use streampay_spec::transcripts;

const STATES: [&str; 12] = [
    "Offline",
    "Greeting",
    "Binding",
    "Live",
    "Closing",
    "Releasing",
    "Ended",
    "Waiting",
    "Greeted",
    "Settling",
    "Lingering",
    "dead",
];

/// A step of a transcript, as the tables speak of it.
#[derive(Debug)]
struct Step {
    from: &'static str,
    input: String,
    outputs: Vec<String>,
    to: &'static str,
}

fn names(hex: &Value) -> String {
    let bytes = unhex(hex.as_str().unwrap()).unwrap();
    match decode(&bytes) {
        Ok(Some(message)) => name_of(message.number()).into(),
        _ => "nonsense".into(),
    }
}

/// What an input or an output is, in a word or two.
fn label(map: &Map<String, Value>) -> String {
    let (kind, value) = map.iter().next().unwrap();
    match kind.as_str() {
        "received" | "send" => names(value),
        "command" => {
            let named = value.as_object().unwrap().keys().next().unwrap();
            format!("command {named}")
        }
        "backend" => {
            let value = value.as_object().unwrap();
            let outcome = value.get("outcome").and_then(Value::as_object);
            let inner = outcome.unwrap_or(value);
            let about = ["method", "purse", "request"];
            let named = inner.keys().find(|key| !about.contains(&key.as_str()));
            format!("backend {}", named.unwrap())
        }
        kind => kind.into(),
    }
}

fn steps(file: &Value) -> Vec<Step> {
    let mut adapter = Adapter::new(None);
    let mut steps = Vec::new();
    for step in file["steps"].as_array().unwrap() {
        let from = adapter.state_name().unwrap_or("dead");
        let mut request = step.clone();
        request["cmd"] = "step".into();
        let answer = adapter.answer(&request);
        let outputs = answer["ok"]["outputs"].as_array().unwrap().iter();
        let outputs = outputs.map(|output| label(output.as_object().unwrap()));
        steps.push(Step {
            from,
            input: label(step["input"].as_object().unwrap()),
            outputs: outputs.collect(),
            to: adapter.state_name().unwrap_or("dead"),
        });
    }
    steps
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(line.split('|').map(str::trim).collect())
}

/// The rows of the first table behind `heading`, whose header begins so.
fn table<'a>(text: &'a str, heading: &str, header: &str) -> Vec<Vec<&'a str>> {
    let (_, text) = text.split_once(heading).unwrap();
    let (_, text) = text.split_once(header).unwrap();
    let rows = text.lines().skip(2).map_while(cells);
    rows.collect()
}

fn states(cell: &str) -> Vec<&'static str> {
    let words: Vec<&str> = cell.split(|c: char| !c.is_alphanumeric()).collect();
    STATES
        .into_iter()
        .filter(|state| words.contains(state))
        .collect()
}

/// What a part of a row's outputs begins with, and what is in such a step then.
const DONE: [(&str, &str); 10] = [
    ("**P**", "persist"),
    ("ask the backend to open", "backend open"),
    ("ask the backend to pay", "backend pay"),
    ("ask the backend to accept", "backend accept"),
    ("show the backend", "backend note"),
    ("tell the backend", "backend acked"),
    ("tell the user", "event"),
    ("release it", "backend release"),
    ("gate", "gate"),
    ("pause ", "pause"),
];

/// What the row says is done in any case, part by part; of messages one of those that the part begins with.
fn done(outputs: &str) -> Vec<Vec<&str>> {
    let mut done = Vec::new();
    for part in outputs.split(';').map(str::trim) {
        if part.contains("where") || part.contains(" if ") {
            continue;
        }
        let named = part.split('`').skip(1).step_by(2);
        let is_message = |name: &&str| MESSAGES.iter().any(|(known, _)| known == name);
        let messages: Vec<&str> = named.filter(is_message).collect();
        let known = DONE.iter().find(|(begins, _)| part.starts_with(begins));
        match (known, part) {
            (Some((_, done_so)), _) => done.push(vec![*done_so]),
            (None, "release") => done.push(vec!["backend release"]),
            (None, "settle") => done.push(vec!["backend settle"]),
            (None, _) if part.starts_with('`') && !messages.is_empty() => done.push(messages),
            (None, _) => {}
        }
    }
    done
}

fn shows(row: &[&str], step: &Step, wanted: &str) -> bool {
    let [state, _, outputs, next] = row else {
        panic!("a row of another width: {row:?}");
    };
    let any = *state == "any" || state.starts_with("restart");
    let next_states = states(next);
    let to = match *next {
        "same" => step.to == step.from,
        _ => next_states.contains(&step.to),
    };
    let has = |name: &&str| step.outputs.iter().any(|output| output == name);
    let all = done(outputs).iter().all(|any| any.iter().any(has));
    // Nothing at all, but for what its user and its gate are told.
    let told = |output: &String| ["event", "gate"].contains(&output.as_str());
    let nothing = !outputs.is_empty() || step.outputs.iter().all(told);
    step.input == wanted
        && (any || states(state).contains(&step.from))
        && (!state.starts_with("restart") || step.input == "restart")
        && to
        && all
        && nothing
}

fn check(machine: &str, heading: &str) {
    let session = include_str!("../../02-session.md");
    let rows = table(session, heading, "| state | input | outputs | next |");
    let list = include_str!("../../transitions.md");
    let listed = table(list, machine, "| state | input | transcript | step |");
    let files: BTreeMap<String, Value> =
        read(&transcripts::folder()).unwrap().into_iter().collect();
    let mut wrong = Vec::new();
    let mut replayed: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for line in &listed {
        let [state, input, transcript, wanted] = line[..] else {
            panic!("{line:?}");
        };
        let found: Vec<_> = rows
            .iter()
            .filter(|row| row[..2] == [state, input])
            .collect();
        let [row] = found[..] else {
            wrong.push(format!("{} rows are: {state} | {input}", found.len()));
            continue;
        };
        let name = format!("{}.json", transcript.trim_matches('`'));
        let Some(file) = files.get(&name) else {
            wrong.push(format!("there is no {name}, for {state} | {input}"));
            continue;
        };
        let steps = replayed.entry(name).or_insert_with(|| steps(file));
        let wanted = wanted.trim_matches('`');
        if !steps.iter().any(|step| shows(row, step, wanted)) {
            wrong.push(format!("{transcript} does not show, by {wanted}: {row:?}"));
        }
    }
    for row in &rows {
        if !listed.iter().any(|line| line[..2] == row[..2]) {
            wrong.push(format!("no transcript is named for: {row:?}"));
        }
    }
    assert!(rows.len() > 50, "{}", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_transition_of_the_payer_is_shown() {
    check("## The payer", "## 10. ");
}

#[test]
fn every_transition_of_the_payee_is_shown() {
    check("## The payee", "## 11. ");
}

/// What a row is compared with: the same step of the same file is none of another row.
#[test]
fn a_step_shows_no_row_of_another_state_input_output_or_end() {
    let row = [
        "Live",
        "`close`",
        "gate closed; **P** closing; `closed`; settle",
        "Settling",
    ];
    let step = |from, input: &str, outputs: &[&str], to| Step {
        from,
        input: input.into(),
        outputs: outputs.iter().map(ToString::to_string).collect(),
        to,
    };
    let all = ["gate", "persist", "closed", "backend settle"];
    assert!(shows(
        &row,
        &step("Live", "close", &all, "Settling"),
        "close"
    ));
    for wrong in [
        step("Greeted", "close", &all, "Settling"),
        step("Live", "tick", &all, "Settling"),
        step("Live", "close", &all[..2], "Settling"),
        step("Live", "close", &all[1..], "Settling"),
        step("Live", "close", &all[..3], "Settling"),
        step("Live", "close", &all, "Lingering"),
    ] {
        assert!(!shows(&row, &wrong, "close"), "{wrong:?}");
    }
    assert_eq!(
        label(json!({"command": {"close": "1"}}).as_object().unwrap()),
        "command close"
    );
}
