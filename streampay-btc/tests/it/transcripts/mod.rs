//! The transcripts of the bitcoin chapter: written by the example `vectors`, replayed here. Spec:
//! bitcoin 9.2.

pub(crate) mod json;
mod refusals;
pub(crate) mod scenes;
mod side;
pub(crate) mod stage;
mod together;

use std::path::PathBuf;

use serde_json::{Value, json};

pub(crate) use self::stage::Stage;

/// A scene, who is written down of it, and how it goes.
pub(crate) struct Scene {
    name: &'static str,
    about: &'static str,
    roles: &'static [&'static str],
    play: fn() -> Stage,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/transcripts/btc")
}

/// All files of the folder.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let scenes = scenes::SCENES.iter().chain(together::SCENES);
    for scene in scenes.chain(refusals::SCENES) {
        let stage = (scene.play)();
        let sides = [
            ("payer", stage.payer),
            ("payee", stage.payee),
            ("tower", stage.tower),
        ];
        for (role, told) in sides {
            if !scene.roles.contains(&role) {
                continue;
            }
            let file = json!({
                "format": "1",
                "name": format!("{role}-{}", scene.name),
                "about": scene.about,
                "role": role,
                "steps": told.steps,
            });
            let mut text = serde_json::to_string_pretty(&file).unwrap();
            text.push('\n');
            files.push((format!("{role}-{}.json", scene.name), text));
        }
    }
    files
}

#[test]
fn transcripts_are_up_to_date() {
    let files = files();
    for (name, text) in &files {
        let found = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(found == *text, "{name}: run the example `vectors`");
    }
    let found = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(found, files.len(), "files that nobody writes");
}

/// From the files alone: the same inputs, one after the other, to a side that knows nothing else.
#[test]
fn transcripts_replay() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut side = side::Side::default();
        for (number, step) in file["steps"].as_array().unwrap().iter().enumerate() {
            let (outputs, state) = side.step(&step["now"], &step["input"]);
            let place = format!("{} step {number}", path.display());
            assert_eq!(json!(outputs), step["outputs"], "{place}");
            assert_eq!(state, step["state"], "{place}");
        }
    }
}
