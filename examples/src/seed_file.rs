//! 64 random bytes in a file that only its owner can read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use streampay_core::driver::entropy;
use zeroize::Zeroizing;

use crate::durable;
use crate::seed_words::SeedWords;

/// The seed in `folder/name`, drawn and made durable on the first call. Never printed.
pub(crate) fn load_or_create(folder: &Path, name: &str) -> io::Result<Zeroizing<[u8; 64]>> {
    let path = folder.join(name);
    match File::open(&path) {
        Ok(mut file) => read(&mut file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(folder, name),
        Err(error) => Err(error),
    }
}

fn read(file: &mut File) -> io::Result<Zeroizing<[u8; 64]>> {
    let mut seed = Zeroizing::new([0; 64]);
    file.read_exact(&mut *seed)?;
    if file.read(&mut [0])? == 0 {
        Ok(seed)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The seed in `folder/name` if it is there, else the one of the folder's words, if it has any, else
/// as [`load_or_create`].
pub(crate) fn load_or_derive(folder: &Path, name: &str) -> io::Result<Zeroizing<[u8; 64]>> {
    if !folder.join(name).exists()
        && let Some(words) = SeedWords::of(folder)?
    {
        durable::write(folder, name, &*words.seed(name))?;
    }
    load_or_create(folder, name)
}

fn create(folder: &Path, name: &str) -> io::Result<Zeroizing<[u8; 64]>> {
    let mut seed = Zeroizing::new([0; 64]);
    for half in seed.chunks_exact_mut(32) {
        half.copy_from_slice(&entropy()?.0);
    }
    durable::write(folder, name, &*seed)?;
    Ok(seed)
}

/// Forgets the seed in `folder/name`, if there is one.
pub(crate) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
