use std::io::Cursor;

use super::{
    annexb::AnnexBReader,
    frames::{FrameReader, Track},
    ivf::IvfReader,
    ogg::OggReader,
    *,
};

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/assets/clip.ivf");

fn open(bytes: &[u8]) -> Result<Track, SourceError> {
    let bytes = Cursor::new(bytes.to_vec());
    let reader: Box<dyn FrameReader> = match bytes.get_ref().first() {
        Some(b'D') => Box::new(IvfReader::new(bytes)?),
        Some(b'O') => Box::new(OggReader::new(bytes)?),
        _ => Box::new(AnnexBReader::new(bytes)?),
    };
    Track::new(reader)
}

/// Frames up to the end or the error.
fn read(bytes: &[u8]) -> Result<Vec<frames::Spanned>, SourceError> {
    let mut track = open(bytes)?;
    let mut frames = Vec::new();
    while let Some(frame) = track.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn ivf(frames: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = b"DKIF\0\0\x20\0VP80\x40\0\x40\0\x19\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    for (time, data) in frames {
        file.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        file.extend(time.to_le_bytes());
        file.extend(*data);
    }
    file
}

fn h264(units: &[&[u8]]) -> Vec<u8> {
    units
        .iter()
        .flat_map(|unit| [&[0, 0, 0, 1], *unit].concat())
        .collect()
}

#[test]
fn the_clip_is_as_its_script_says() {
    let video = read(&std::fs::read(CLIP).unwrap()).unwrap();
    assert_eq!(video.len(), 300);
    assert!(video.iter().all(|frame| frame.span == 3600));
    assert_eq!(video.iter().filter(|frame| frame.key).count(), 12);
    let audio = read(&std::fs::read(CLIP.replace("ivf", "ogg")).unwrap()).unwrap();
    assert!((600..=602).contains(&audio.len()));
    assert!(audio.iter().all(|packet| packet.span == 960));
}

#[test]
fn ivf_times_follow_its_time_base() {
    let frames = read(&ivf(&[(0, &[0, 1]), (1, &[1]), (4, &[1])])).unwrap();
    let times: Vec<_> = frames
        .iter()
        .map(|frame| (frame.ticks, frame.span, frame.key))
        .collect();
    assert_eq!(
        times,
        [
            (0, 3600, true),
            (3600, 10_800, false),
            (14_400, 10_800, false)
        ]
    );
}

#[test]
fn slices_of_a_picture_stay_together() {
    let file = h264(&[
        &[0x67, 0x42],
        &[0x68, 1],
        &[0x65, 0x88, 1],
        &[0x65, 0x48, 2],
        &[0x41, 0x9a, 1],
        &[0x41, 0x48, 2],
        &[0x06, 5],
        &[0x41, 0x9a, 3],
    ]);
    let frames = read(&file).unwrap();
    let keys: Vec<_> = frames.iter().map(|frame| frame.key).collect();
    assert_eq!(keys, [true, false, false]);
    assert_eq!(
        frames[0].data,
        h264(&[
            &[0x67, 0x42],
            &[0x68, 1],
            &[0x65, 0x88, 1],
            &[0x65, 0x48, 2]
        ])
    );
    assert_eq!(frames[2].data, h264(&[&[0x06, 5], &[0x41, 0x9a, 3]]));
    assert_eq!(frames[2].ticks, 7200);
}

#[test]
fn damaged_files_are_told_apart() {
    let whole = ivf(&[(0, &[0, 1, 2]), (1, &[1, 1, 1])]);
    let mut huge = whole.clone();
    huge[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut codec = whole.clone();
    codec[8..12].copy_from_slice(b"MJPG");
    for (file, expect) in [
        (&whole[..whole.len() - 1], "Truncated"),
        (&whole[..40], "Truncated"),
        (&whole[..32], "Empty"),
        (&whole[..10], "Truncated"),
        (&huge, "FrameTooLong"),
        (&codec, "UnknownCodec"),
        (&ivf(&[(0, &[1])]), "NoKeyFrame"),
        (&ivf(&[(5, &[0]), (5, &[1])]), "Malformed"),
        (&ivf(&[(u64::MAX, &[0])]), "Malformed"),
        (b"OggS", "Truncated"),
        (&[0, 0, 0, 1], "Empty"),
        (&[9; 100], "Malformed"),
        (&h264(&[&[0x41, 0x9a]]), "NoKeyFrame"),
    ] {
        let error = format!("{:?}", read(file).map(|_| ()).unwrap_err());
        assert!(error.starts_with(expect), "{expect}: {error}");
    }
}

#[test]
fn a_stream_without_a_start_code_is_not_read_for_ever() {
    let mut file = h264(&[&[0x65, 0x88]]);
    file.resize(Source::FRAME_MAX * 3, 7);
    assert!(matches!(read(&file), Err(SourceError::FrameTooLong { .. })));
}

#[test]
fn clips_with_a_broken_byte_give_frames_or_a_typed_error() {
    let video = std::fs::read(CLIP).unwrap();
    let audio = std::fs::read(CLIP.replace("ivf", "ogg")).unwrap();
    for file in [&video[..20_000], &audio[..20_000]] {
        for at in (0..400).chain((400..file.len()).step_by(397)) {
            let mut broken = file.to_vec();
            broken[at] ^= 0xff;
            let _ = read(&broken);
        }
    }
}

fn packet(kind: Kind, ms: u64, key: bool, length: usize) -> MediaPacket {
    MediaPacket {
        index: 0,
        kind,
        ticks: ms * kind.ticks_per_ms(),
        span: 3600,
        marker: true,
        key_start: key,
        payload: Bytes::from(vec![0; length]),
    }
}

fn count(ring: &Ring, next: u64) -> Option<usize> {
    Some(ring.pulled(next, usize::MAX)?.len())
}

#[test]
fn ring_holds_three_seconds_and_tells_who_lags() {
    let ring = Ring::new();
    (0..500).for_each(|at| ring.push([packet(Kind::Video, at * 40, at % 25 == 0, 100)]));
    let next = |reader| ring.entry(reader).next;
    assert_eq!(next(Reader::Picture), 475);
    assert_eq!(next(Reader::Sound), 500, "it needs no key frame");
    // Who has that key frame goes on; who has not, or stopped too long ago, does not.
    for (after, goes_on) in [(480, 480), (500, 500), (460, 475), (400, 475)] {
        assert_eq!(next(Reader::PictureAfter(after)), goes_on, "{after}");
    }
    let entry = ring.entry(Reader::Picture);
    assert_eq!(entry.of.unwrap().1, 475 * 40_000);
    assert_eq!(entry.now_us, 20_000_000);
    assert_eq!(count(&ring, 475), Some(25));
    assert_eq!(count(&ring, 500), Some(0));
    assert_eq!(count(&ring, 425), Some(75));
    assert_eq!(count(&ring, 420), None);
    for (next, beyond) in [(500, Some(0)), (499, Some(40_000)), (420, None)] {
        assert_eq!(ring.beyond(next).map(|it| it.1), beyond, "{next}");
    }
}

#[test]
fn a_group_of_pictures_that_is_too_long_or_too_large_is_not_begun_with() {
    for (step_ms, length, keeps) in [(1, 100_000, 31), (50, 100, 60)] {
        let ring = Ring::new();
        let push = |at: u64| ring.push([packet(Kind::Video, at * step_ms, at == 0, length)]);
        (0..20).for_each(push);
        assert_eq!(ring.entry(Reader::Picture).next, 0);
        (20..60).for_each(push);
        assert_eq!(ring.entry(Reader::Picture).next, 60);
        // Who is in the midst of it and not far behind goes on.
        assert_eq!(ring.entry(Reader::PictureAfter(40)).next, 40);
        let kept = (0..60).find_map(|next| count(&ring, next)).unwrap();
        assert!(kept <= keeps, "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_viewer_behind_is_given_what_is_due_and_told_when_the_next_is() {
    let ring = Ring::new();
    let began = Instant::now();
    for at in 0..5 {
        ring.push([packet(Kind::Audio, at * 20, true, 10)]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut due = Vec::new();
    for (delay_ms, expect, next_ms) in [(0, 5, None), (60, 3, Some(120)), (1_000, 0, Some(1_000))] {
        let delay = Duration::from_millis(delay_ms);
        let next = ring.pull_due(0, 10, delay, &mut due).unwrap();
        let next_at = next_ms.map(|ms| began + Duration::from_millis(ms));
        assert_eq!((due.len(), next), (expect, next_at), "{delay_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn key_frames_are_asked_for_once_a_second_whoever_asks_and_however_often() {
    let (writer, source) = Source::live(Description::NOTHING);
    let mut requests = writer.key_frame_requests();
    let began = Instant::now();
    let now_ms = || (Instant::now() - began).as_millis();
    // Many are one, at once.
    (0..5).for_each(|_| source.ring().want_key());
    requests.next().await;
    assert_eq!(now_ms(), 0);
    let no_more = tokio::time::timeout(Duration::from_millis(10_000), requests.next()).await;
    assert!(no_more.is_err());
    let ring = source.ring().clone();
    let asking = tokio::spawn(async move {
        loop {
            ring.want_key();
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    });
    for second in 10..15 {
        // Dropped half way, it comes again.
        let half_way = tokio::time::timeout(Duration::from_millis(1), requests.next()).await;
        if half_way.is_err() {
            requests.next().await;
        }
        let late = now_ms() - second * 1_000;
        assert!(late <= 10 * (second - 9), "{second}: {late}");
    }
    asking.abort();
}

#[tokio::test]
async fn a_file_plays_on_without_a_jump_when_it_begins_again() {
    let speed = NonZeroU32::new(400).unwrap();
    let source = Source::open(CLIP.as_ref(), FileOptions { speed })
        .await
        .unwrap();
    let video = source.description().video.unwrap();
    assert_eq!((video.codec, video.size), (Codec::Vp8, Some((480, 270))));
    assert_eq!(video.frames_per_1000_s, Some(25_000));
    assert_eq!(source.description().audio, Some(Codec::Opus));
    let loop_ms = source.description().duration_ms.unwrap();
    assert!((12_000..12_100).contains(&loop_ms), "{loop_ms}");
    let mut head = source.ring().head();
    let mut next = 0;
    let (mut video_ticks, mut largest) = (None::<u64>, 0);
    while video_ticks < Some(25_000 * 90) {
        head.changed().await.unwrap();
        let Some(packets) = source.ring().pulled(next, usize::MAX) else {
            next = source.ring().entry(Reader::Picture).next;
            video_ticks = None;
            continue;
        };
        for packet in packets {
            next = packet.index + 1;
            if packet.kind == Kind::Video {
                largest = largest.max(video_ticks.map_or(0, |last| packet.ticks - last));
                video_ticks = Some(packet.ticks);
            }
        }
    }
    assert!(largest <= 3600 + 100 * 90, "{largest}");
}

#[test]
fn any_bytes_give_frames_or_a_typed_error() {
    let mut state = 9_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    for _ in 0..3000 {
        let mut file: Vec<u8> = (0..byte()).map(|_| byte()).collect();
        for (magic, at) in [("DKIF", 0), ("OggS", 1), ("\0\0\0\u{1}e", 2)] {
            if byte() % 3 == at {
                file.splice(..0, magic.bytes());
            }
        }
        let _ = read(&file);
    }
}
