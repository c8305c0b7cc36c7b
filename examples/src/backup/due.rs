//! When a folder was saved last.

use std::path::Path;
use std::{fs, io};

use streampay_core::units::Unix;

use crate::durable;

const FILE: &str = "saved";

/// A backup of it is whole: it was made then, by the clock of this machine.
pub(super) fn saved(folder: &Path, at: Unix) -> io::Result<()> {
    durable::write(folder, FILE, at.0.to_string().as_bytes()).map(drop)
}

/// None where there is no backup, as far as the folder knows.
pub(crate) fn last(folder: &Path) -> Option<Unix> {
    let text = fs::read_to_string(folder.join(FILE)).ok()?;
    text.trim().parse().ok().map(Unix)
}
