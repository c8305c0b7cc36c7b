use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn told() -> (Told, watch::Receiver<Reading>) {
    let initial = Reading {
        media_ms: 1000,
        bytes: 10,
    };
    let (reading, seen) = watch::channel(initial);
    let told = Told {
        initial,
        reading,
        packets: watch::Sender::default(),
    };
    (told, seen)
}

#[test]
fn fingerprints_are_those_of_sdp_and_nothing_else() {
    let text = ["Ab"; 32].join(":");
    assert_eq!(fingerprint(&text), Some([0xab; 32]));
    let short = ["00"; 31].join(":");
    let long = ["00"; 33].join(":");
    let signed = format!("+1:{short}");
    let bare = "00".repeat(32);
    for bad in ["", ":", &short, &long, &signed, &bare] {
        assert_eq!(fingerprint(bad), None, "{bad}");
    }
    let both = format!(r#"{{"payer": "{text}", "payee": "{text}"}}"#);
    assert!(identity(&both).is_some());
    for bad in ["", "[]", "{}", r#"{"payer": 1}"#] {
        assert!(identity(bad).is_none(), "{bad}");
    }
}

#[test]
fn what_a_page_tells_adds_to_the_session_and_never_goes_back() {
    let (told, seen) = told();
    let reading = |media_ms, bytes| Reading { media_ms, bytes };
    assert!(told.hear(r#"{"media_ms": 500, "bytes": 7, "packets": 3}"#));
    assert_eq!(*seen.borrow(), reading(1500, 17));
    assert!(told.hear(r#"{"media_ms": 400, "bytes": 8, "packets": 4}"#));
    assert_eq!(*seen.borrow(), reading(1500, 18));
    for bad in ["", "{}", r#"{"media_ms": -1, "bytes": 0, "packets": 0}"#] {
        assert!(!told.hear(bad), "{bad}");
    }
}

#[test]
fn the_page_runs_nothing_inline_and_talks_to_its_streamer_alone() {
    let html = PAGE.replace("{whep}", &escape("http://a:1/whep?\"><script>"));
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("data-whep=\"http://a:1/whep?&quot;&gt;&lt;script&gt;\""));
    assert!(!html.contains("<style") && !html.contains("style="));
    assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval("));
    let policy = policy("https://a.example:8443/x/whep");
    assert!(policy.starts_with("default-src 'none';"));
    assert!(policy.contains("connect-src 'self' https://a.example:8443;"));
}

#[tokio::test]
async fn the_page_is_at_its_secret_address_alone() {
    let browser = Browser::start("http://127.0.0.1:1/whep").await.unwrap();
    let get = |url: String| async move { bitreq::get(url).send_async().await.unwrap() };
    let page = get(browser.url().to_owned()).await;
    assert_eq!(page.status_code, 200);
    assert!(page.as_str().unwrap().contains("http://127.0.0.1:1/whep"));
    for file in ["page.js", "meter.js", "page.css"] {
        assert_eq!(get(browser.url().to_owned() + file).await.status_code, 200);
    }
    let root = browser.url().split('/').take(3).collect::<Vec<_>>();
    for path in ["/", "/page.js", "/session"] {
        assert_eq!(get(root.join("/") + path).await.status_code, 404, "{path}");
    }
}

/// A page's end of its WebSocket, by hand. Source: RFC 6455.
struct ByHand(TcpStream);

impl ByHand {
    /// As the page does, up to whom it is connected to.
    async fn open(browser: &Browser) -> Self {
        let rest = browser.url().strip_prefix("http://").unwrap();
        let (at, path) = rest.split_once('/').unwrap();
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = format!(
            "GET /{path}session HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
        let mut page = Self(stream);
        let print = ["Ab"; 32].join(":");
        let opening = format!(r#"{{"payer": "{print}", "payee": "{print}"}}"#);
        page.say(0x1, opening.as_bytes()).await;
        page
    }

    /// One frame, masked with zeros.
    async fn say(&mut self, kind: u8, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap();
        let mut frame = vec![0x80 | kind, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame: its kind, and what it carries.
    async fn heard(&mut self) -> (u8, Vec<u8>) {
        let (kind, length) = (
            self.0.read_u8().await.unwrap(),
            self.0.read_u8().await.unwrap(),
        );
        let length = match length {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        (kind & 0xf, payload)
    }
}

/// A session's page that has said `number` words, for which the session has no room.
async fn talkative(number: u32) -> (Browser, ByHand, Page) {
    let browser = Browser::start("http://127.0.0.1:1/whep").await.unwrap();
    let mut page = ByHand::open(&browser).await;
    let ours = browser.next(Reading::default()).await.unwrap();
    for number in 0..number {
        page.say(0x2, &number.to_be_bytes()).await;
    }
    while ours.link.end.incoming.len() < LinkEnd::QUEUE {
        tokio::task::yield_now().await;
    }
    (browser, page, ours)
}

/// As the notes of many purses are, at the end of a session.
#[tokio::test]
async fn page_that_says_much_at_once_is_held_up_until_it_is_heard() {
    const WORDS: u32 = 800;
    let (_browser, _page, mut ours) = talkative(WORDS).await;
    for number in 0..WORDS {
        let heard = ours.link.end.incoming.recv().await;
        assert_eq!(heard.as_deref(), Some(&number.to_be_bytes()[..]));
    }
}

#[tokio::test]
async fn what_a_session_said_last_reaches_its_page_while_that_talks() {
    let (_browser, mut page, ours) = talkative(800).await;
    let word = vec![7; LinkEnd::MESSAGE_MAX];
    for _ in 0..LinkEnd::QUEUE {
        let said = ours.link.end.outgoing.send(word.clone().into()).await;
        said.unwrap();
    }
    drop(ours.link);
    for number in 0..LinkEnd::QUEUE {
        assert_eq!(page.heard().await, (0x2, word.clone()), "{number}");
    }
    assert_eq!(page.heard().await.0, 0x8);
    drop(page);
    ours.parted.await.unwrap();
}

#[tokio::test]
async fn page_whose_session_makes_no_room_loses_its_link() {
    let (_browser, _page, mut ours) = talkative(100).await;
    tokio::time::pause();
    let mut heard = 0;
    // Not taken before it is over.
    ours.link.end.outgoing.closed().await;
    while ours.link.end.incoming.recv().await.is_some() {
        heard += 1;
    }
    assert_eq!(heard, LinkEnd::QUEUE);
}
