use super::*;

const PASSPHRASE: &str = "correct horse battery staple";

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::begin(Vec::new(), PASSPHRASE, 4).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

fn opened(sealed: &[u8], passphrase: &str) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Opener::begin(sealed, passphrase)?.read_to_end(&mut plain)?;
    Ok(plain)
}

fn why(error: &io::Error) -> Option<Unopened> {
    error.get_ref()?.downcast_ref().copied()
}

#[test]
fn what_is_sealed_opens_at_every_edge_of_a_chunk() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7] {
        let plain: Vec<u8> = (0..=250).cycle().take(length).collect();
        assert_eq!(
            opened(&sealed(&plain), PASSPHRASE).unwrap(),
            plain,
            "{length}"
        );
    }
}

/// Made by another program: pyrage 1.4, on the rage library.
#[test]
fn file_of_another_program_opens() {
    let file = include_bytes!("testdata/rage.age");
    let plain = opened(file, PASSPHRASE).unwrap();
    assert_eq!(plain, b"sealed elsewhere\n");
}

#[test]
fn another_passphrase_and_other_files_are_told_apart() {
    let good = sealed(b"text");
    let failed = |file: &[u8], passphrase: &str| why(&opened(file, passphrase).unwrap_err());
    assert_eq!(failed(&good, "another"), Some(Unopened::Passphrase));
    assert_eq!(failed(b"", PASSPHRASE), Some(Unopened::Foreign));
    assert_eq!(failed(b"\xff\n", PASSPHRASE), Some(Unopened::Foreign));
    let text = |from: &str, to: &str| {
        let at = good
            .windows(from.len())
            .position(|part| part == from.as_bytes());
        let at = at.unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    let to_a_key = text("-> scrypt", "-> X25519");
    assert_eq!(failed(&to_a_key, PASSPHRASE), Some(Unopened::Unknown));
    // More work than is done for a stranger's file, and numbers that are none.
    for work in ["21", "255", "04", "+4", ""] {
        let file = text(" 4\n", &format!(" {work}\n"));
        assert_eq!(failed(&file, PASSPHRASE), Some(Unopened::Unknown), "{work}");
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_found() {
    let plain = vec![7; CHUNK + 100];
    let good = sealed(&plain);
    let payload = good.len() - plain.len() - 2 * TAG;
    let near = |edge: usize| edge.saturating_sub(40)..edge + 40;
    let places = (0..payload + 40).chain(near(payload + CHUNK + TAG));
    for at in places.chain(good.len() - 40..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(opened(&bad, PASSPHRASE).is_err(), "byte {at}");
        assert!(opened(&good[..at], PASSPHRASE).is_err(), "cut at {at}");
    }
    // The first chunk alone would be a shorter file; so would none.
    let first = &good[..payload + CHUNK + TAG];
    assert_eq!(
        why(&opened(first, PASSPHRASE).unwrap_err()),
        Some(Unopened::Damaged)
    );
    let longer = [&good[..], b"x"].concat();
    assert!(opened(&longer, PASSPHRASE).is_err());
}
