//! A sealed stream, whole: served, paid, opened, recorded.

use std::path::Path;

use streampay_core::session::CloseCode;
use streampay_examples::pay::Pay;

use crate::stream::stage_with;

/// The pictures of the clip, in order.
fn pictures() -> Vec<Vec<u8>> {
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clip.ivf");
    let file = std::fs::read(clip).unwrap();
    let mut rest = &file[32..];
    let mut pictures = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(12) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap());
        let (picture, after) = after.split_at(usize::try_from(length).unwrap());
        pictures.push(picture.to_vec());
        rest = after;
    }
    pictures
}

/// How many of the clip's pictures are in that file.
fn pictures_in(recording: &Path) -> usize {
    let recording = std::fs::read(recording).unwrap();
    let holds = |picture: &Vec<u8>| {
        let mut windows = recording.windows(picture.len());
        windows.any(|window| window == picture.as_slice())
    };
    pictures().iter().filter(|picture| holds(picture)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_stream_is_paid_opened_and_recorded_at_both_ends_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let streamed = folder.path().join("streamed.webm");
    let stage = stage_with(100, Pay::Swap, |offer| {
        offer.seal = true;
        offer.record = Some(streamed.clone());
    })
    .await;
    let watched = stage.watch(14, "2sat/1s").await;
    assert_eq!(watched.code, Some(CloseCode::BudgetSpent));
    assert!(watched.settled);
    // What is paid is opened, as it is without a seal.
    assert_eq!(watched.ticks, 4, "{watched:?}");
    assert!((3_500..=4_000).contains(&watched.media_ms), "{watched:?}");
    let found = pictures_in(&watched.recording.unwrap());
    // 25 pictures a second.
    let least = usize::try_from(watched.media_ms / 40).unwrap() * 9 / 10;
    assert!(found >= least.min(pictures().len()), "{found} {least}");
    stage.assert_conserved().await;
    stage.serving.stop().await;
    let found = pictures_in(&streamed);
    assert!(found >= least.min(pictures().len()), "{found} {least}");
}
