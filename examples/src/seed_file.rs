//! 64 random bytes in a file that only its owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use streampay_core::driver::entropy;
use zeroize::Zeroizing;

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

fn create(folder: &Path, name: &str) -> io::Result<Zeroizing<[u8; 64]>> {
    let mut seed = Zeroizing::new([0; 64]);
    for half in seed.chunks_exact_mut(32) {
        half.copy_from_slice(&entropy()?.0);
    }
    let draft = folder.join(format!("{name}.new"));
    // A draft of a run that was cut short holds a seed that nothing was ever made with.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(&*seed)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(seed)
}
