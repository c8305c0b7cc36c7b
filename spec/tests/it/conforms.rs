//! Ours passes everything; each broken one fails, where it must.

use std::time::Duration;

use serde_json::Value;
use streampay_spec::adapter::{Adapter, Broken, Found, find};
use streampay_spec::conformance::{Child, InProcess, Part, Subject, Trouble, not_asked, run};
use streampay_spec::json::Object;

#[test]
fn this_implementation_conforms() {
    let report = run(&mut InProcess::new(Adapter::new(None)), &Part::ALL).unwrap();
    assert!(report.failures().is_empty(), "{:#?}", report.failures());
    assert!(report.passed() > 1_750);
}

/// One that does all that it must do before it tells its user anything, or after.
struct TellsAtOnce(InProcess, bool);

impl Subject for TellsAtOnce {
    fn ask(&mut self, request: Object) -> Result<Value, Trouble> {
        let mut answer = self.0.ask(request)?;
        if let Some(outputs) = answer.get_mut("outputs").and_then(Value::as_array_mut) {
            outputs.sort_by_key(|output| output.get("event").is_some() != self.1);
        }
        Ok(answer)
    }
}

#[test]
fn when_the_user_is_told_does_not_matter() {
    for first in [false, true] {
        let mut subject = TellsAtOnce(InProcess::new(Adapter::new(None)), first);
        let report = run(&mut subject, &[Part::Transcripts, Part::Hostile]).unwrap();
        assert!(report.failures().is_empty(), "{:#?}", report.failures());
    }
}

#[test]
fn each_broken_adapter_is_found_where_it_must_be() {
    for broken in Broken::ALL.iter().copied() {
        let mut subject = InProcess::new(Adapter::new(Some(broken)));
        if broken.found() != Found::Line {
            assert_eq!(find(&mut subject, broken.found()), Ok(()), "{broken:?}");
        }
    }
}

/// Also where it never came to a transcript about it: the judge of the hostile peers sees it.
#[test]
fn payer_that_pays_from_another_purse_is_found_by_hostile_peers_alone() {
    let mut subject = InProcess::new(Adapter::new(Some(Broken::PaysElsewhere)));
    let report = run(&mut subject, &[Part::Hostile]).unwrap();
    assert!(!report.failures().is_empty());
}

/// Also where it decodes what it is asked to decode: an opening in parts shows it.
#[test]
fn adapter_that_takes_no_large_messages_is_found_by_transcripts_alone() {
    let mut subject = InProcess::new(Adapter::new(Some(Broken::SmallAlone)));
    let report = run(&mut subject, &[Part::Transcripts]).unwrap();
    let failures = report.failures();
    let about = |name: &str| failures.iter().any(|failure| failure.starts_with(name));
    assert!(about("payee-purse-cut-at-15360"), "{failures:#?}");
    assert!(about("payee-payload-of-15360"), "{failures:#?}");
}

#[test]
fn adapters_that_hang_die_or_babble_are_reported_and_not_waited_for() {
    for broken in Broken::ALL.iter().copied() {
        if broken.found() != Found::Line {
            continue;
        }
        let arguments = ["--broken".into(), broken.name().into()];
        let timeout = Duration::from_millis(200);
        let mut child = Child::new(env!("CARGO_BIN_EXE_adapter"), &arguments, timeout);
        assert_eq!(find(&mut child, broken.found()), Ok(()), "{broken:?}");
    }
}

#[test]
fn no_adapter_at_all_fails_in_everything() {
    let timeout = Duration::from_secs(1);
    let mut child = Child::new("/nonexistent/adapter", &[], timeout);
    let report = run(&mut child, &[Part::Vectors]).unwrap();
    assert_eq!(report.passed(), 0);
    assert!(report.summary().starts_with("0 passed, 1"));
}

/// Whoever adds a folder has its files asked for, or says that they are not.
#[test]
fn every_folder_of_cases_is_asked_for_or_said_not_to_be() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for part in ["vectors", "transcripts"] {
        for entry in std::fs::read_dir(root.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                found.push(format!("{part}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    let without: Vec<_> = Part::ALL
        .into_iter()
        .filter(|part| *part != Part::Cashu)
        .collect();
    let mut known: Vec<_> = not_asked(&without)
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    known.sort_unstable();
    assert_eq!(found, known);
    let asked = not_asked(&Part::ALL).unwrap();
    assert!(asked.iter().all(|(_, count)| *count > 0), "{asked:?}");
    let text = include_str!("../../conformance.md");
    let (_, section) = text.split_once("\n## 9.").unwrap();
    for (folder, _) in asked {
        assert!(section.contains(&format!("`{folder}/*.json`")), "{folder}");
    }
}
