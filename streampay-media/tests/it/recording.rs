use std::{num::NonZeroU32, time::Duration};

use streampay_core::meter::Reading;
use streampay_media::{
    packet::Codec,
    record::{Container, Recorder, file_ending},
    source::{FileOptions, Source, SourceReader},
};
use tokio::sync::watch;

use crate::rig::{Rig, open, settled, until};

/// Blocks of each track, and the tracks in the order of their first blocks, by an EBML reader
/// that knows nothing of ours.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    doc_type: String,
    video: usize,
    audio: usize,
    first_is_key: bool,
    last_ms: u64,
    duration_ms: Option<u64>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A variable-length number: with its marker bit, without, and how long it is.
fn vint(bytes: &[u8]) -> (u64, u64, usize) {
    let length = usize::try_from(bytes[0].leading_zeros()).unwrap() + 1;
    let raw = number(&bytes[..length]);
    (raw, raw & !(1 << (7 * length)), length)
}

fn count(file: &[u8]) -> Counted {
    let mut counted = Counted::default();
    let (mut at, mut cluster) = (0, 0);
    while at < file.len() {
        let (id, _, id_length) = vint(&file[at..]);
        let (_, size, size_length) = vint(&file[at + id_length..]);
        at += id_length + size_length;
        // The segment's information: step in.
        if id == 0x1549_a966 {
            continue;
        }
        // Segment and cluster are of unknown size here: step in, too.
        if size == (1 << 56) - 1 {
            assert!(matches!(id, 0x1853_8067 | 0x1f43_b675), "{id:x}");
            continue;
        }
        let end = at + usize::try_from(size).unwrap();
        if end > file.len() {
            // Cut off by a crash.
            break;
        }
        let body = &file[at..end];
        match id {
            0x1a45_dfa3 => {
                let text = String::from_utf8_lossy(body).into_owned();
                counted.doc_type = if text.contains("webm") { "webm" } else { "mkv" }.to_owned();
            }
            0x4489 => {
                let duration = f64::from_be_bytes(body.try_into().unwrap());
                counted.duration_ms = Some(format!("{duration:.0}").parse().unwrap());
            }
            0xe7 => cluster = number(body),
            0xa3 => {
                if counted.video + counted.audio == 0 {
                    counted.first_is_key = body[0] == 0x81 && body[3] & 0x80 != 0;
                }
                if body[0] == 0x81 {
                    counted.video += 1
                } else {
                    counted.audio += 1
                }
                counted.last_ms = cluster + number(&body[1..3]);
            }
            _ => {}
        }
        at = end;
    }
    counted
}

/// With a file of one's own, for other codecs and players:
/// `MEDIA=x.h264 KEEP_RECORDING=x.mp4 cargo test -p streampay-media -- --ignored`.
#[tokio::test]
#[ignore = "needs MEDIA=FILE"]
async fn a_file_of_ones_own_is_recorded() {
    let media = std::env::var("MEDIA").unwrap();
    let mut rig = Rig::with(media.as_ref(), 1, |_| {}).await;
    let mut pair = rig.connect().await;
    let (_grants, receiver) = watch::channel(open(5000));
    let reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    let path = std::path::PathBuf::from(std::env::var("KEEP_RECORDING").unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let container = Container::of(&path);
    let mut recorder = Recorder::with(file, &pair.viewer.codecs, container).unwrap();
    while recorder.recorded().duration_ms < 4800 {
        let packet = pair.viewer.packets.recv().await.unwrap();
        recorder.push(&packet).unwrap();
    }
    settled(&mut pair.viewer.receiving, Duration::from_millis(300)).await;
    let (sent, got) = (*reading.borrow(), *pair.viewer.reading.borrow());
    println!(
        "{:?} {sent:?} {got:?} {:?}",
        rig.source.description(),
        recorder.finish_seekable()
    );
    assert!(sent.media_ms.abs_diff(got.media_ms) <= 80);
}

#[tokio::test]
async fn a_recording_holds_what_was_paid_and_can_be_cut_off_anywhere() {
    let mut rig = Rig::new(2).await;
    let mut pair = rig.connect().await;
    let (_grants, receiver) = watch::channel(open(5000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    assert_eq!(file_ending(&pair.viewer.codecs), "webm");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut recorder = Recorder::new(file.reopen().unwrap(), &pair.viewer.codecs).unwrap();
    let record = async {
        while recorder.recorded().duration_ms < 4900 {
            let packet = pair.viewer.packets.recv().await.unwrap();
            recorder.push(&packet).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), record)
        .await
        .unwrap();
    until(&mut reading, |reading| reading.media_ms > 4900).await;
    settled(&mut pair.viewer.receiving, Duration::from_millis(100)).await;
    // Not finished, as after SIGKILL.
    let bytes = std::fs::read(file.path()).unwrap();
    if let Ok(keep) = std::env::var("KEEP_RECORDING") {
        std::fs::copy(file.path(), keep).unwrap();
    }
    let counted = count(&bytes);
    assert_eq!(counted.duration_ms, None);
    let recorded = recorder.finish_seekable().unwrap();
    let whole = count(&std::fs::read(file.path()).unwrap());
    assert_eq!(whole.duration_ms, Some(recorded.duration_ms));
    assert_eq!(counted.doc_type, "webm");
    assert!(counted.first_is_key);
    assert!(counted.video >= 120 && counted.audio >= 150, "{counted:?}");
    assert!(recorded.video_frames >= u64::try_from(counted.video).unwrap());
    assert!(counted.last_ms >= 4900, "{counted:?}");
    for cut in [bytes.len() / 2, bytes.len() - 1] {
        let rest = count(&bytes[..cut]);
        assert!(rest.video > 0 && rest.first_is_key);
    }
}

#[tokio::test]
async fn what_is_streamed_is_recorded_in_files_that_can_be_streamed_again() {
    let speed = NonZeroU32::new(8).unwrap();
    let clip = crate::rig::asset("clip.ivf");
    let source = Source::open(&clip, FileOptions { speed }).await.unwrap();
    let mut reader = SourceReader::new(source);
    let codecs: Vec<_> = reader.description().codecs().collect();
    let folder = tempfile::tempdir().unwrap();
    let mut recorders: Vec<_> = ["x.ivf", "x.ogg", "x.webm", "x.mp4"]
        .map(|name| folder.path().join(name))
        .map(|path| {
            let file = std::fs::File::create(&path).unwrap();
            Recorder::with(file, &codecs, Container::of(&path)).unwrap()
        })
        .into();
    let nothing = Recorder::with(Vec::new(), &codecs, Container::of("x.h264".as_ref()));
    assert!(nothing.is_err(), "VP8 is no H.264");
    while recorders.iter().any(|it| it.recorded().duration_ms < 3_000) {
        let packet = reader.next().await;
        for recorder in &mut recorders {
            recorder.push(&packet).unwrap();
        }
    }
    let recorded: Vec<_> = recorders
        .into_iter()
        .map(|recorder| recorder.finish_seekable().unwrap())
        .collect();
    assert_eq!((recorded[0].audio_frames, recorded[1].video_frames), (0, 0));
    let head = std::fs::read(folder.path().join("x.ivf")).unwrap();
    let length = u32::from_le_bytes(head[24..28].try_into().unwrap());
    assert!((3_000..3_600).contains(&length), "{length}");
    // The reader of such files finds both, and the picture's size, and that they are whole.
    let written = folder.path().join("x.ivf");
    let again = Source::open(&written, FileOptions::default()).await;
    let again = *again.unwrap().description();
    assert_eq!(again.codecs().collect::<Vec<_>>(), codecs);
    let (now, before) = (again.video.unwrap(), reader.description().video.unwrap());
    assert_eq!((now.codec, now.size), (before.codec, before.size));
    let duration = again.duration_ms.unwrap();
    assert!((3_000..3_600).contains(&duration), "{duration}");
    if let Ok(keep) = std::env::var("KEEP_RECORDINGS") {
        for name in ["x.ivf", "x.ogg", "x.webm", "x.mp4"] {
            std::fs::copy(folder.path().join(name), format!("{keep}/{name}")).unwrap();
        }
    }
}

#[tokio::test]
async fn av1_is_negotiated_recorded_and_streamed_again() {
    let clip = crate::rig::asset("clip-av1.ivf");
    is_negotiated_recorded_and_streamed_again(Codec::Av1, &clip, ["ivf", "webm", "mp4"]).await;
}

#[tokio::test]
async fn vp9_is_negotiated_recorded_and_streamed_again() {
    let clip = crate::rig::asset("clip-vp9.ivf");
    is_negotiated_recorded_and_streamed_again(Codec::Vp9, &clip, ["ivf", "webm", "mp4"]).await;
}

#[tokio::test]
async fn h264_is_negotiated_recorded_and_streamed_again() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.h264");
    std::fs::write(&clip, byte_stream()).unwrap();
    is_negotiated_recorded_and_streamed_again(Codec::H264, &clip, ["h264", "mkv", "mp4"]).await;
}

/// Two seconds of H.264, 320 x 180, 30 pictures a second, of lengths from a packet to five. What is in its
/// slices nobody decodes.
fn byte_stream() -> Vec<u8> {
    // Of `ffmpeg -f lavfi -i testsrc=s=320x180:r=30 -pix_fmt yuv420p -c:v libx264 -profile:v
    // baseline out.h264`.
    const SPS: [u8; 25] = [
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
        0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0xa4, 0x80,
    ];
    const PPS: [u8; 4] = [0x68, 0xcb, 0x83, 0xcb];
    let mut stream = Vec::new();
    let mut put = |unit: &[u8]| {
        stream.extend([0, 0, 0, 1]);
        stream.extend(unit);
    };
    for picture in 0..60_u16 {
        let key = picture == 0;
        if key {
            put(&SPS);
            put(&PPS);
        }
        let length = 20 + usize::from(picture * 997 % 5_000);
        let [high, low] = picture.to_be_bytes();
        // No zeros: there is nothing to escape.
        let mut slice = vec![if key { 0x65 } else { 0x41 }, 0x88, high | 0x80, low | 0x80];
        slice.extend((1..=255).cycle().take(length));
        put(&slice);
    }
    stream
}

/// A codec over a connection, into every kind of file that holds it, and out of one again: the first.
async fn is_negotiated_recorded_and_streamed_again(
    codec: Codec,
    clip: &std::path::Path,
    endings: [&str; 3],
) {
    let mut rig = Rig::with(clip, 1, |_| {}).await;
    let mut pair = rig.connect().await;
    assert_eq!(pair.viewer.codecs, [codec]);
    let (_grants, receiver) = watch::channel(open(3000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    until(&mut reading, |reading| reading.media_ms > 2900).await;
    let received = settled(&mut pair.viewer.receiving, Duration::from_millis(300)).await;
    assert_eq!(received.gaps.video, 0);
    let folder = tempfile::tempdir().unwrap();
    let name = clip.file_stem().unwrap().to_str().unwrap();
    let names = endings.map(|kind| format!("{name}.{kind}"));
    let mut recorders = names.each_ref().map(|name| {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        Recorder::with(file, &pair.viewer.codecs, Container::of(&path)).unwrap()
    });
    while let Ok(packet) = pair.viewer.packets.try_recv() {
        for recorder in &mut recorders {
            recorder.push(&packet).unwrap();
        }
    }
    let before = rig.source.description().video.unwrap();
    let rate = before.frames_per_1000_s.unwrap();
    for recorder in recorders {
        let recorded = recorder.finish_seekable().unwrap();
        let whole = 3 * rate / 1000;
        assert!(
            (whole - 5..=whole).contains(&recorded.video_frames),
            "{recorded:?}"
        );
    }
    let recorded = folder.path().join(&names[0]);
    let (sent, arrived) = (frames(clip), frames(&recorded));
    assert!(u64::try_from(arrived.len()).unwrap() > 2 * rate / 1000);
    assert!(arrived.iter().eq(sent.iter().cycle().take(arrived.len())));
    let again = Source::open(&recorded, FileOptions::default()).await;
    let video = again.unwrap().description().video.unwrap();
    assert_eq!((video.codec, video.size), (codec, before.size));
    assert!(video.size.is_some());
    if let Ok(keep) = std::env::var("KEEP_RECORDINGS") {
        for name in names {
            std::fs::copy(folder.path().join(&name), format!("{keep}/{name}")).unwrap();
        }
    }
}

/// The frames of an IVF file or the units of an H.264 byte stream, byte for byte.
fn frames(path: &std::path::Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    if !file.starts_with(b"DKIF") {
        return units(&file);
    }
    let mut rest = &file[32..];
    let mut frames = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(12) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap());
        let (frame, after) = after.split_at(usize::try_from(length).unwrap());
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

/// What is between the start codes, which are of four bytes here.
fn units(stream: &[u8]) -> Vec<Vec<u8>> {
    let begins: Vec<usize> = (0..stream.len())
        .filter(|at| stream[*at..].starts_with(&[0, 0, 0, 1]))
        .collect();
    assert_eq!(begins.first(), Some(&0));
    let ends = begins.iter().skip(1).copied().chain([stream.len()]);
    let units = begins.iter().zip(ends);
    units
        .map(|(begin, end)| stream[begin + 4..end].to_vec())
        .collect()
}
