//! A streamer whose store can keep nothing any more.

use crate::processes::{STREAMER, Stage, VIEWER, msat, recovered, ticks};

/// It ends, so that whoever looks after it starts it again; then its viewer goes on.
#[test]
fn a_streamer_that_was_fenced_ends_and_goes_on_when_it_is_started_again() {
    let stage = Stage::new();
    let (mut streamer, link) = stage.serve("127.0.0.1:0");
    let mut viewer = stage.viewer("viewer", &link, "60sat");
    ticks(&viewer, 2);
    let lock = stage.folder.path().join("streamer").join("streampay.lock");
    std::fs::write(&lock, "another process\n").unwrap();
    assert_eq!(streamer.exit_code(), Some(1));
    let listen = link["http://".len()..].split('/').next().unwrap();
    let (mut streamer, _) = stage.serve(listen);
    let total = msat(&ticks(&viewer, 4), "total_msat");
    viewer.kill();
    let account = stage.recover(VIEWER, "viewer");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
    streamer.kill();
    assert!(msat(&recovered(&account, "recovered"), "acknowledged_msat") >= total);
    let account = stage.recover(STREAMER, "streamer");
    assert_eq!(account.status.code(), Some(0), "{account:?}");
}
