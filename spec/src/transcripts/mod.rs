//! Whole scenes of one side, step by step: what it is told, what it does, how it stands.

mod again;
#[cfg(feature = "cashu")]
pub mod cashu;
pub(crate) mod each_purse;
pub(crate) mod host;
mod large;
mod later;
mod meters;
mod notes;
pub(crate) mod payee;
mod payee_before;
mod payee_behind;
mod payee_end;
pub(crate) mod payee_room;
mod payee_trouble;
mod payee_waits;
pub(crate) mod payer;
mod payer_before;
pub(crate) mod payer_bounds;
mod payer_end;
pub(crate) mod payer_outstanding;
pub(crate) mod payer_room;
mod payer_tips;
mod payer_trouble;
mod purses;

use std::path::PathBuf;

use crate::adapter::Adapter;
use crate::conformance::{InProcess, Subject};
use crate::json::Object;
use crate::peer::{Payee, Payer, Played, Stage};
use crate::vectors::File;

/// A scene, and how it goes.
pub struct Scene {
    name: &'static str,
    about: &'static str,
    role: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
}

impl core::fmt::Debug for Scene {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Scene").field(&self.name).finish()
    }
}

/// The folder of the transcripts.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

/// All files of the folder.
///
/// # Errors
/// A text where a scene does not go as it should.
pub fn files() -> Played<Vec<File>> {
    let scenes = [
        payer::SCENES,
        payer_trouble::SCENES,
        payer_before::SCENES,
        payer_end::SCENES,
        payer_outstanding::SCENES,
        payer_bounds::SCENES,
        payee::SCENES,
        payee_trouble::SCENES,
        payee_before::SCENES,
        payee_behind::SCENES,
        payee_end::SCENES,
        payee_waits::SCENES,
        later::SCENES,
        again::SCENES,
        notes::SCENES,
        payer_room::SCENES,
        payer_tips::SCENES,
        payee_room::SCENES,
        purses::SCENES,
        each_purse::SCENES,
        meters::SCENES,
        large::SCENES,
        host::SCENES,
    ];
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for scene in scenes.into_iter().flatten() {
        let mut subject = InProcess::new(Adapter::default());
        match file(scene, &mut subject) {
            Ok(file) => files.push(file),
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() {
        return Ok(files);
    }
    Err(wrong.join("\n"))
}

/// What an inner module's table of scenes is made of.
const fn scene(
    role: &'static str,
    name: &'static str,
    about: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
) -> Scene {
    Scene {
        name,
        about,
        role,
        play,
    }
}

fn file(scene: &Scene, subject: &mut dyn Subject) -> Played<File> {
    let mut stage = Stage::new(subject);
    let name = format!("{}-{}", scene.role, scene.name);
    (scene.play)(&mut stage).map_err(|error| format!("{name}: {error}"))?;
    let file = Object::new()
        .int("format", 1_u64)
        .with("name", name.as_str())
        .with("about", scene.about)
        .with("role", scene.role)
        .with("steps", stage.into_steps());
    Ok((format!("{name}.json"), file.done()))
}

fn key_error(_: streampay_core::session::BadKey) -> String {
    "a fixed key is none".into()
}

pub(crate) fn puppet_payer() -> Played<Payer> {
    Payer::new().map_err(key_error)
}

pub(crate) fn puppet_payee(hello: streampay_core::wire::Hello) -> Played<Payee> {
    Payee::new(hello).map_err(key_error)
}
