use streampay_core::store::{RedbStore, StoreError};

use super::*;
use crate::home::Home;
use crate::ledger::cash::Cash;
use crate::mint::faults_for_testing::Fault;
use crate::mint::{EmbeddedMint, Storage};
use crate::wallet::{Begun, WalletError};

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

/// Its store ends on a thread of its own, after it is dropped.
async fn close(home: Home) {
    let folder = home.wallet.folder().to_owned();
    drop(home);
    while matches!(RedbStore::open(&folder), Err(StoreError::Locked)) {
        tokio::task::yield_now().await;
    }
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
    close(home).await;
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

async fn mint() -> EmbeddedMint {
    let listen = "127.0.0.1:0".parse().unwrap();
    EmbeddedMint::start(listen, Storage::Memory, 0)
        .await
        .unwrap()
}

/// Nobody listens there.
const AWAY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn what_is_at_a_mint_that_was_not_asked_since_is_held_back_until_it_answers() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (data, file) = (at("data"), at("saved.age"));
    let words = phrase(base.path(), "correct horse battery staple");
    let sat = |sat: u64| streampay_core::units::Msat::from_sat(sat).unwrap();
    let (away, there) = (mint().await, mint().await);
    let home = Home::open(&data).await.unwrap();
    home.wallet.deposit(&away.url(), sat(64)).await.unwrap();
    home.wallet.deposit(&there.url(), sat(16)).await.unwrap();
    close(home).await;
    backup(&data, &file, &words).await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    restore(&data, &file, &words, Vec::new()).await.unwrap();

    let report = crate::report::Report { json: false };
    let is_held = |error: WalletError| matches!(error, WalletError::Unasked(_));
    // Until the first command asks, and through a restart.
    for round in 0..2 {
        let home = Home::open(&data).await.unwrap();
        home.wallet.route_for_testing(&away.url(), AWAY);
        restored::ready(&home, report, false).await.unwrap();
        let send = home.wallet.send(sat(1), Some(&away.url())).await;
        assert!(send.is_err_and(is_held), "{round}");
        let deposit = home.wallet.deposit(&away.url(), sat(1)).await;
        assert!(deposit.is_err_and(is_held), "{round}");
        // There is more at the other, and none of it is taken.
        let send = home.wallet.send(sat(32), None).await;
        assert!(
            matches!(send, Err(WalletError::InsufficientFunds(..))),
            "{round}"
        );
        home.wallet.send(sat(1), None).await.unwrap();
        home.wallet.check_not_all_held().await.unwrap();
        let recovered = home.wallet.recover().await.unwrap();
        let troubled = |of: &&crate::wallet::Recovered| of.trouble.is_some();
        let troubled: Vec<_> = recovered.iter().filter(troubled).collect();
        assert_eq!(troubled.len(), 1);
        assert_eq!(troubled[0].balance.mint.to_string(), away.url());
        assert_eq!(troubled[0].balance.spendable, sat(64));
        restored::end(&home, report, false).await.unwrap();
        close(home).await;
    }
    let home = Home::open(&data).await.unwrap();
    let untried = home.wallet.send(sat(1), Some(&away.url())).await;
    assert!(
        untried.is_err_and(is_held),
        "nobody has asked in this process"
    );
    restored::ready(&home, report, false).await.unwrap();
    home.wallet.send(sat(1), Some(&away.url())).await.unwrap();
    close(home).await;
    let home = Home::open(&data).await.unwrap();
    home.wallet.send(sat(1), Some(&away.url())).await.unwrap();
}

#[tokio::test]
async fn mints_that_were_named_when_it_was_restored_are_in_the_next_backup() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (data, file, paper) = (at("data"), at("saved.age"), base.path().join("paper"));
    let (mint, other) = (mint().await, mint().await);
    let sat = streampay_core::units::Msat::from_sat(5).unwrap();
    let home = Home::open(&data).await.unwrap();
    home.wallet.deposit(&mint.url(), sat).await.unwrap();
    close(home).await;
    fs::create_dir(&paper).unwrap();
    let words = SeedWords::of(&data).unwrap().unwrap().text();
    let words = phrase(&paper, &words);
    fs::remove_dir_all(&data).unwrap();
    restore_words(&data, &words, vec![mint.url()]).unwrap();
    // Saved before anything was asked, and made again with another mint named.
    let phrase = phrase(base.path(), "correct horse battery staple");
    close(Home::open(&data).await.unwrap()).await;
    backup(&data, &file, &phrase).await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    restore(&data, &file, &phrase, vec![other.url()])
        .await
        .unwrap();
    let home = Home::open(&data).await.unwrap();
    let report = crate::report::Report { json: false };
    restored::ready(&home, report, true).await.unwrap();
    let balance = home.wallet.balance().await.unwrap();
    assert_eq!(
        balance.len(),
        1,
        "what was put in before the words were used"
    );
    assert_eq!(
        (balance[0].mint.to_string(), balance[0].spendable),
        (mint.url(), sat)
    );
}

#[tokio::test]
async fn what_was_begun_before_the_backup_is_finished_before_sessions_are_closed() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (data, file) = (at("data"), at("saved.age"));
    let words = phrase(base.path(), "correct horse battery staple");
    let (mint, sat) = (mint().await, streampay_core::units::Msat::from_sat(30));
    let (sat, faults) = (sat.unwrap(), mint.faults_for_testing());
    let home = Home::open(&data).await.unwrap();
    faults.set("/v1/mint/quote", Fault::Unpaid, u64::MAX);
    let begun = home.wallet.begin_deposit(&mint.url(), sat).await.unwrap();
    assert!(matches!(begun, Begun::Waits(_)), "{begun:?}");
    close(home).await;
    backup(&data, &file, &words).await.unwrap();
    faults.clear();
    for program in ["viewer", "streamer"] {
        fs::remove_dir_all(&data).unwrap();
        restore(&data, &file, &words, Vec::new()).await.unwrap();
        let home = Home::open(&data).await.unwrap();
        let report = crate::report::Report { json: false };
        let done = match program {
            "viewer" => crate::viewer::recover::recover(&home, report).await,
            _ => crate::streamer::serve::recover(&home, report).await,
        };
        assert!(done.unwrap(), "{program}");
        let balance = home.wallet.balance().await.unwrap();
        assert_eq!(balance.first().map(|at| at.spendable), Some(sat));
        close(home).await;
    }
}

#[tokio::test]
async fn mint_that_is_first_used_after_a_restore_is_asked_before() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (data, file) = (at("data"), at("saved.age"));
    let words = phrase(base.path(), "correct horse battery staple");
    let sat = |sat: u64| streampay_core::units::Msat::from_sat(sat).unwrap();
    let (known, new) = (mint().await, mint().await);
    let home = Home::open(&data).await.unwrap();
    home.wallet.deposit(&known.url(), sat(4)).await.unwrap();
    close(home).await;
    backup(&data, &file, &words).await.unwrap();
    // The self that is lost uses a mint of which the backup does not know.
    let home = Home::open(&data).await.unwrap();
    home.wallet.deposit(&new.url(), sat(16)).await.unwrap();
    close(home).await;
    fs::remove_dir_all(&data).unwrap();
    restore(&data, &file, &words, Vec::new()).await.unwrap();

    let report = crate::report::Report { json: false };
    let is_held = |error: WalletError| matches!(error, WalletError::Unasked(_));
    let of = |home: &Home| {
        let wallet = home.wallet.clone();
        let at = new.url();
        async move {
            let (lines, proofs) = wallet.book().await.unwrap();
            for (mint, cash) in Cash::count(&lines, &proofs).unwrap() {
                assert_eq!(cash.difference(), 0, "{mint}");
            }
            let mut balance = wallet.balance().await.unwrap();
            balance.retain(|balance| balance.mint.to_string() == at);
            balance.first().map(|at| at.spendable)
        }
    };
    let home = Home::open(&data).await.unwrap();
    restored::ready(&home, report, true).await.unwrap();
    restored::end(&home, report, true).await.unwrap();
    home.wallet.route_for_testing(&new.url(), AWAY);
    let away = home.wallet.deposit(&new.url(), sat(8)).await;
    assert!(away.is_err_and(is_held), "nobody knows what it has signed");
    close(home).await;
    let home = Home::open(&data).await.unwrap();
    restored::ready(&home, report, false).await.unwrap();
    home.wallet.deposit(&new.url(), sat(8)).await.unwrap();
    assert_eq!(of(&home).await, Some(sat(24)));
    close(home).await;

    // A folder in which it was used without: it is asked by the next command.
    let path = data.join(restored::FILE);
    let text = fs::read_to_string(&path).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["asked"].as_array().unwrap().len(), 2, "{text}");
    value["asked"] = serde_json::json!([known.url()]);
    fs::write(&path, value.to_string()).unwrap();
    let home = Home::open(&data).await.unwrap();
    let untried = home.wallet.send(sat(1), Some(&new.url())).await;
    assert!(untried.is_err_and(is_held));
    restored::ready(&home, report, false).await.unwrap();
    home.wallet.send(sat(1), Some(&new.url())).await.unwrap();
    of(&home).await;
}
