use super::*;
use crate::home::Home;
use crate::wallet::WalletError;

fn phrase(folder: &Path, text: &str) -> SecretPlace {
    let path = folder.join("phrase");
    fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, own).unwrap();
    }
    format!("file:{}", path.display()).parse().unwrap()
}

fn why(error: &AppError) -> String {
    error.to_string()
}

#[tokio::test]
async fn folder_is_saved_and_made_again_and_asks_its_mints_first() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (data, file) = (at("data"), at("saved.age"));
    let words = phrase(base.path(), "correct horse battery staple");
    let nothing = backup(&data, &file, &words).await.unwrap_err();
    assert!(why(&nothing).contains("nothing here"), "{nothing}");
    assert!(!data.exists());
    let home = Home::open(&data).await.unwrap();
    let identity = home.identity.public();
    let in_use = backup(&data, &file, &words).await.unwrap_err();
    assert!(
        matches!(in_use, AppError::Wallet(WalletError::InUse(_))),
        "{in_use}"
    );
    drop(home);
    fs::create_dir_all(data.join("channels")).unwrap();
    fs::write(data.join("channels/kit.txt"), b"a descriptor").unwrap();

    let short = phrase(base.path(), "too short");
    assert!(why(&backup(&data, &file, &short).await.unwrap_err()).contains("guessed"));
    let words = phrase(base.path(), "correct horse battery staple");
    let within = backup(&data, &data.join("saved.age"), &words)
        .await
        .unwrap_err();
    assert!(why(&within).contains("within the folder"), "{within}");
    fs::write(&file, b"a letter").unwrap();
    let other = backup(&data, &file, &words).await.unwrap_err();
    assert!(why(&other).contains("no backup"), "{other}");
    assert_eq!(fs::read(&file).unwrap(), b"a letter");
    fs::remove_file(&file).unwrap();

    let made = backup(&data, &file, &words).await.unwrap();
    assert_eq!(made.contents.rescue_kits, 1);
    assert_eq!(look(&file, &words).unwrap(), made);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let sealed = fs::read(&file).unwrap();
    let seed = fs::read(data.join("identity")).unwrap();
    assert!(!sealed.windows(16).any(|part| part == &seed[..16]));

    // Nothing is overwritten, and nothing is left of what failed.
    let taken = restore(&data, &file, &words, Vec::new()).await.unwrap_err();
    assert!(why(&taken).contains("overwrite"), "{taken}");
    let again = at("again");
    let wrong = phrase(base.path(), "another horse battery staple");
    let wrong = restore(&again, &file, &wrong, Vec::new())
        .await
        .unwrap_err();
    assert!(why(&wrong).contains("passphrase"), "{wrong}");
    let words = phrase(base.path(), "correct horse battery staple");
    fs::write(&file, &sealed[..sealed.len() - 1]).unwrap();
    assert!(restore(&again, &file, &words, Vec::new()).await.is_err());
    assert!(!again.exists());
    let hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    let left = fs::read_dir(base.path())
        .unwrap()
        .map(|entry| entry.unwrap());
    assert_eq!(left.filter(hidden).count(), 0);

    fs::write(&file, &sealed).unwrap();
    fs::create_dir(&again).unwrap();
    let restored = restore(&again, &file, &words, Vec::new()).await.unwrap();
    assert_eq!(restored, made);
    assert_eq!(
        fs::read(again.join("channels/kit.txt")).unwrap(),
        b"a descriptor"
    );
    let home = Home::open(&again).await.unwrap();
    assert_eq!(home.identity.public(), identity);
    let report = crate::report::Report { json: false };
    assert!(restored::ready(&home, report, false).await.unwrap());
    assert!(restored::ready(&home, report, true).await.unwrap());
    assert!(
        !restored::ready(&home, report, true).await.unwrap(),
        "told once"
    );
    restored::end(&home, report, true).await.unwrap();
    let done = fs::read_to_string(again.join(restored::FILE)).unwrap();
    assert!(done.contains("done"), "{done}");
}
