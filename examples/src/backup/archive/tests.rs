use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    fs::create_dir(folder.path().join("links")).unwrap();
    write("identity", &[7; 64]);
    write("links/abc", b"http://there");
    write("wallet.redb", &vec![3; 200_000]);
    write("wallet.lock", b"");
    write(".identity.0.draft", b"half");
    write("restored.json", b"{}");
    folder
}

fn archive(folder: &Path) -> (List, Vec<u8>) {
    let list = List::of(folder, Contents::default(), 1_700_000_000).unwrap();
    let mut bytes = Vec::new();
    list.write(folder, &mut bytes).unwrap();
    (list, bytes)
}

/// An archive of these files, under the list of others.
fn doctored(list: &List, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let text = serde_json::to_vec(list).unwrap();
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
    archive
        .append_data(&mut list.header(length(&text)), LIST, text.as_slice())
        .unwrap();
    for (name, bytes) in files {
        let mut header = list.header(length(bytes));
        // As somebody would who wants a file elsewhere.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn folder_comes_back_as_it_was_for_its_owner_alone() {
    let folder = folder();
    let (list, bytes) = archive(folder.path());
    let names: Vec<&str> = list.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        ["identity", "links/abc", "restored.json", "wallet.redb"]
    );
    let into = tempfile::tempdir().unwrap();
    assert_eq!(
        List::read(bytes.as_slice(), Some(into.path())).unwrap(),
        list
    );
    for name in names {
        let read = |of: &Path| fs::read(of.join(name)).unwrap();
        assert_eq!(read(folder.path()), read(into.path()), "{name}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let about = into.path().join(name).metadata().unwrap();
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 4);
    assert_eq!(List::read(bytes.as_slice(), None).unwrap(), list);
}

#[test]
fn archive_that_is_cut_or_changed_anywhere_is_refused() {
    let folder = folder();
    let (_, bytes) = archive(folder.path());
    // The last kibibyte is the end, after the padding of the last file: nothing in them is read.
    for at in (0..bytes.len() - 1_024 - 512).step_by(509) {
        assert!(List::read(&bytes[..at], None).is_err(), "cut at {at}");
        let mut bad = bytes.clone();
        bad[at] ^= 0x11;
        // A field of a header that says nothing may change; the files may not.
        if let Ok(list) = List::read(bad.as_slice(), None) {
            assert_eq!(list.files.len(), 4, "byte {at}");
        }
    }
}

#[test]
fn names_that_leave_the_folder_and_files_beside_the_list_are_refused() {
    let entry = |name: &str| Entry {
        name: name.to_owned(),
        bytes: 1,
        // Of one letter a.
        sha256: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb".to_owned(),
    };
    let list = |names: &[&str]| List {
        form: FORM.to_owned(),
        made_unix_s: 1,
        contents: Contents::default(),
        files: names.iter().map(|name| entry(name)).collect(),
    };
    let read = |list: &List, names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, b"a".as_slice())).collect();
        let into = tempfile::tempdir().unwrap();
        let inner = into.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let read = List::read(doctored(list, &files).as_slice(), Some(&inner));
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1, "{names:?}");
        read
    };
    assert!(read(&list(&["a", "b/c"]), &["a", "b/c"]).is_ok());
    for name in [
        "../a",
        "/a",
        "a/../../b",
        "a/b/c",
        ".a",
        "a/.b",
        "",
        "a\\b",
        "a b",
        "ä",
    ] {
        let refused = read(&list(&[name]), &[name]);
        assert!(matches!(refused, Err(Unfit::Name(_))), "{name}");
    }
    for (listed, there) in [
        (["a"].as_slice(), [].as_slice()),
        (&["a"], &["b"]),
        (&["a"], &["a", "b"]),
        (&["b", "a"], &["b", "a"]),
        (&["a", "a"], &["a", "a"]),
    ] {
        let refused = read(&list(listed), there);
        assert!(
            matches!(refused, Err(Unfit::Damaged(_))),
            "{listed:?} {there:?}"
        );
    }
    let mut large = list(&["a"]);
    large.files[0].bytes = BYTES_MAX + 1;
    assert!(matches!(read(&large, &["a"]), Err(Unfit::Size)));
    let mut newer = list(&["a"]);
    newer.form = "streampay-backup/2".to_owned();
    assert!(matches!(read(&newer, &["a"]), Err(Unfit::Newer)));
}

#[test]
fn folder_with_what_cannot_be_saved_is_refused_by_name() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("links/deep")).unwrap();
    let refused = List::of(folder.path(), Contents::default(), 1);
    assert!(matches!(refused, Err(Unfit::Name(name)) if name == "links/deep"));
}
