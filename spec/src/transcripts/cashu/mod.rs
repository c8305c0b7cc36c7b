//! Scenes of the machines of the Cashu methods: what a session asks of them, what they want done at
//! the mint, how that ends.

mod chain;
mod p2pk;
mod swap;
mod trouble;
mod world;

use std::path::PathBuf;

use self::world::{Cast, Who, World};
use crate::json::Object;
use crate::peer::Played;
use crate::vectors::File;

/// A scene; each side that has a part in it has a file.
struct Scene {
    name: &'static str,
    about: &'static str,
    cast: Cast,
    play: fn(&mut World) -> Played,
}

/// The folder of these transcripts.
#[must_use]
pub fn folder() -> PathBuf {
    super::folder().join("cashu")
}

/// All files of the folder.
///
/// # Errors
/// A text where a scene does not go as it should.
pub fn files() -> Played<Vec<File>> {
    let scenes = [chain::SCENES, trouble::SCENES, p2pk::SCENES, swap::SCENES];
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for scene in scenes.into_iter().flatten() {
        match played(scene) {
            Ok(played) => files.extend(played),
            Err(error) => wrong.push(format!("{} {}: {error}", scene.cast.method, scene.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(files);
    }
    Err(wrong.join("\n"))
}

fn played(scene: &Scene) -> Played<Vec<File>> {
    let mut world = World::new(scene.cast)?;
    (scene.play)(&mut world)?;
    let sides = world.into_steps().into_iter();
    // Who is only created has no part.
    let sides = sides.filter(|(_, steps)| steps.len() > 1);
    let files = sides.map(|(who, steps)| {
        let who = match who {
            Who::Payer => "payer",
            Who::Payee => "payee",
        };
        let method = scene.cast.method.trim_start_matches("cashu-");
        let name = format!("{method}-{who}-{}", scene.name);
        let file = Object::new()
            .int("format", 1_u64)
            .with("name", name.as_str())
            .with("about", scene.about)
            .with("role", "cashu")
            .with("steps", steps);
        (format!("{name}.json"), file.done())
    });
    Ok(files.collect())
}
