//! A nutshell of one's own, which can be stopped and started again, made to sign with other keys, and
//! to limit its callers. `.ci/nutshell run COMMAND` says where it is installed; without it the tests
//! that want it say what they left out.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// The folder of its programs.
const VARIABLE: &str = "STREAMPAY_NUTSHELL_BIN";
/// Python starts slowly, most of all three at once on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// Where its programs are, if anywhere.
pub(crate) fn programs() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(Into::into)
}

/// A mint in Python, with a folder of its own.
pub(crate) struct Nutshell {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// Of its management, which gives it other keys.
    rpc: u16,
    ppk: u64,
    child: Child,
}

fn free_port() -> u16 {
    let any = TcpListener::bind("127.0.0.1:0").unwrap();
    any.local_addr().unwrap().port()
}

impl Nutshell {
    pub(crate) async fn start(programs: PathBuf, ppk: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, rpc) = (free_port(), free_port());
        let child = spawn(&programs, &folder, (port, rpc), ppk);
        let mint = Self {
            programs,
            folder,
            port,
            rpc,
            ppk,
            child,
        };
        mint.answers().await;
        mint
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) {
        let until = Instant::now() + STARTS_WITHIN;
        let info = format!("{}/v1/info", self.url());
        while !matches!(ask(&info, None, None).await, Some(200)) {
            assert!(Instant::now() < until, "nutshell does not start");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its process is killed, and another one goes on with its database.
    pub(crate) async fn restart(&mut self) {
        self.child.kill().await.unwrap();
        self.lets_go_of_swaps().await;
        let ports = (self.port, self.rpc);
        self.child = spawn(&self.programs, &self.folder, ports, self.ppk);
        self.answers().await;
    }

    /// Killed in the middle of a swap it calls what went in pending, for ever: when it starts it looks after
    /// melts alone. Nobody has that home before its operator lets go of it.
    async fn lets_go_of_swaps(&self) {
        let script = "import sqlite3, sys\n\
                      db = sqlite3.connect(sys.argv[1])\n\
                      gone = db.execute('DELETE FROM proofs_pending WHERE melt_quote IS NULL')\n\
                      db.commit()\n\
                      print(gone.rowcount)\n";
        let done = Command::new(self.programs.join("python"))
            .args(["-c", script])
            .arg(self.folder.path().join("mint.sqlite3"))
            .output();
        let done = done.await.unwrap();
        assert!(done.status.success(), "{done:?}");
        let left = String::from_utf8_lossy(&done.stdout);
        if left.trim() != "0" {
            println!(
                "nutshell was killed with {} proofs of swaps pending",
                left.trim()
            );
        }
    }

    /// From now on it signs with a new keyset alone. Without an end it says that the end is 0, and
    /// hashes that into the id.
    pub(crate) async fn change_keys(&self, end: Option<u64>) {
        let end = end.map(|end| end.to_string());
        let ppk = self.ppk.to_string();
        let rpc = self.rpc.to_string();
        let rotate = Command::new(self.programs.join("mint-cli"))
            .args(["--insecure", "--host", "127.0.0.1", "--port", &rpc])
            .args(["next-keyset", "sat", &ppk, "32"])
            .args(end)
            .current_dir(self.folder.path())
            .output();
        let said = rotate.await.unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(text.contains("successfully"), "{said:?}");
    }
}

fn spawn(programs: &std::path::Path, folder: &TempDir, ports: (u16, u16), ppk: u64) -> Child {
    let settings = [
        ("MINT_PRIVATE_KEY", "streampay tests".into()),
        ("MINT_BACKEND_BOLT11_SAT", "FakeWallet".into()),
        ("MINT_LISTEN_HOST", "127.0.0.1".into()),
        ("MINT_LISTEN_PORT", ports.0.to_string()),
        ("MINT_DATABASE", folder.path().display().to_string()),
        ("CASHU_DIR", folder.path().display().to_string()),
        // Of others than this machine.
        ("MINT_RATE_LIMIT", "TRUE".into()),
        ("MINT_INPUT_FEE_PPK", ppk.to_string()),
        ("MINT_RPC_SERVER_ENABLE", "TRUE".into()),
        ("MINT_RPC_SERVER_ADDR", "127.0.0.1".into()),
        ("MINT_RPC_SERVER_PORT", ports.1.to_string()),
        ("MINT_RPC_SERVER_MUTUAL_TLS", "FALSE".into()),
        ("FAKEWALLET_BRR", "TRUE".into()),
        ("FAKEWALLET_DELAY_INCOMING_PAYMENT", "0".into()),
        ("TOR", "FALSE".into()),
    ];
    Command::new(programs.join("mint"))
        .envs(settings)
        // It reads a file .env where it starts.
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The status of an answer, as somebody else's if `from` says whose.
async fn ask(url: &str, body: Option<&str>, from: Option<&str>) -> Option<i32> {
    let request = match body {
        Some(body) => bitreq::post(url)
            .with_header("content-type", "application/json")
            .with_body(body),
        None => bitreq::get(url),
    };
    let request = request.with_timeout(10);
    let request = match from {
        Some(from) => request.with_header(FORWARDED, from),
        None => request,
    };
    let answer = request.send_async().await.ok()?;
    Some(answer.status_code)
}

const FORWARDED: &str = "x-forwarded-for";
/// Who asked too often. The mint spares its own machine.
const ELSEWHERE: &str = "192.0.2.7";
/// What is asked too often: all that a session asks while it runs and settles.
const OFTEN: &[(&str, Option<&str>)] = &[
    ("/v1/info", None),
    ("/v1/keysets", None),
    ("/v1/swap", Some("{\"inputs\":[],\"outputs\":[]}")),
    ("/v1/checkstate", Some("{\"Ys\":[]}")),
    ("/v1/restore", Some("{\"outputs\":[]}")),
];

/// A proxy in front of a mint, behind which callers may be elsewhere.
pub(crate) struct Front {
    url: String,
    mint: String,
    /// How many requests are yet to be answered with 429.
    refused: Arc<AtomicU32>,
}

impl Front {
    pub(crate) async fn of(mint: &Nutshell) -> Self {
        let refused = Arc::new(AtomicU32::new(0));
        let state = (mint.url(), refused.clone());
        let routes = Router::new().fallback(pass_on).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            url,
            mint: mint.url(),
            refused,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Somebody elsewhere asks too often, which the mint remembers for a minute. It limits each endpoint
    /// by itself.
    pub(crate) async fn is_asked_too_often(&self) {
        for (path, body) in OFTEN {
            let url = format!("{}{path}", self.mint);
            let mut asked = 0;
            while ask(&url, *body, Some(ELSEWHERE)).await != Some(429) {
                asked += 1;
                assert!(asked < 200, "it limits nobody at {path}");
            }
        }
    }

    /// All callers are elsewhere from now on, until so many of them heard that they ask too often.
    pub(crate) fn limits(&self, refused: u32) {
        self.refused.store(refused, Ordering::SeqCst);
    }

    /// How many are yet to hear that they ask too often.
    pub(crate) fn left(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }
}

async fn pass_on(
    State((mint, refused)): State<(String, Arc<AtomicU32>)>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let url = format!("{mint}{uri}");
    let mut request = match method {
        Method::POST => bitreq::post(url)
            .with_header("content-type", "application/json")
            .with_body(body.to_vec()),
        _ => bitreq::get(url),
    };
    let elsewhere = refused.load(Ordering::SeqCst) > 0;
    if elsewhere {
        request = request.with_header(FORWARDED, ELSEWHERE);
    }
    let Ok(answer) = request.with_timeout(30).send_async().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = u16::try_from(answer.status_code).unwrap_or_default();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if elsewhere && status == StatusCode::TOO_MANY_REQUESTS {
        // Another one may have been the last in the meantime.
        let less = |left: u32| left.checked_sub(1);
        let _ = refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, answer.into_bytes()).into_response()
}
