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
