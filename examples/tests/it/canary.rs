//! Secrets that can be recognised, wherever secrets live, and sessions logged at the finest level:
//! none of them is in any log or output. What is said on purpose (a token for its receiver) is read
//! from where it is said, and looked for everywhere else.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use streampay_btc::bitcoin::hashes::{Hash, sha256};

use crate::apps::told_into;
use crate::backup::write_secret;
use crate::processes::{CLIP, Process, STREAMER, Stage, VIEWER, signal, stdout, ticks};

mod elsewhere;
mod places;
mod records;

use elsewhere::{Node, Relay};

/// 64 bytes each, as long as seeds are.
const WALLET_SEED: &[u8; 64] = b"CANARY-of-the-wallet-seed-that-must-never-be-seen-anywhere-at-al";
const IDENTITY: &[u8; 64] = b"CANARY-of-the-identity-that-must-never-be-seen-anywhere-at-all-o";
const STREAM_KEY: &str = "CANARY-of-the-stream-key";
const RPC_PASSWORD: &str = "CANARY-of-the-rpc-password";
const TURN_PASSWORD: &str = "CANARY-of-the-turn-password";
/// Who is at the relay.
const USER: &str = "ann";
const PASSPHRASE: &str = "CANARY-of-the-passphrase-of-a-backup";
/// Words that belong together, and what they stand for. Source: BIP 39, test vectors.
const WORDS: &str = "ozone drill grab fiber curtain grace pudding thank cruise elder eight picnic";
const WORDS_ENTROPY: [u8; 16] = [
    0x9e, 0x88, 0x5d, 0x95, 0x2a, 0xd3, 0x62, 0xca, 0xeb, 0x4e, 0xfe, 0x34, 0xa8, 0xe9, 0x1b, 0xd2,
];

/// The forms in which bytes get into a log: as they are, in hex, in base64, as numbers.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> String {
        let each = secret.iter();
        each.map(|byte| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        })
        .collect()
    };
    let numbers: Vec<_> = secret.iter().map(u8::to_string).collect();
    // Enough of it to be known, at each of the three places where base64 can begin.
    let base64 = |text: &[u8]| {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let triples = text.chunks_exact(3).flat_map(|of| {
            let number = (u32::from(of[0]) << 16) | (u32::from(of[1]) << 8) | u32::from(of[2]);
            [18, 12, 6, 0].map(|shift| LETTERS[usize::try_from((number >> shift) & 63).unwrap()])
        });
        triples.collect::<Vec<u8>>()
    };
    let mut forms = vec![
        secret.to_vec(),
        hex(false).into_bytes(),
        hex(true).into_bytes(),
        numbers.join(", ").into_bytes(),
        numbers.join(",").into_bytes(),
    ];
    forms.extend((0..3).map(|from| base64(&secret[from..])));
    forms
}

fn holds(text: &[u8], wanted: &[u8]) -> bool {
    // Searched as text, whose search is quick; what is looked for is all text.
    let (text, wanted) = (
        String::from_utf8_lossy(text),
        String::from_utf8_lossy(wanted),
    );
    text.contains(&*wanted)
}

#[test]
fn a_secret_is_found_in_every_form() {
    use std::fmt::Write as _;
    let mut log = String::new();
    let _ = write!(log, "{:?} {IDENTITY:02x?}", &IDENTITY[..]);
    assert!(
        forms(IDENTITY)
            .iter()
            .any(|form| holds(log.as_bytes(), form))
    );
    assert!(
        !forms(WALLET_SEED)
            .iter()
            .any(|form| holds(log.as_bytes(), form))
    );
    let coded = b"x Q0FOQVJZ y";
    assert!(forms(b"CANARY").iter().any(|form| holds(coded, form)));
}

/// Everything that was written, by whom.
#[derive(Default)]
struct Logs(Vec<(String, Vec<u8>)>);

impl Logs {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.push((name.to_owned(), bytes));
    }

    fn add_files(&mut self, files: &[PathBuf]) {
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            self.add(&file.file_name().unwrap().to_string_lossy(), bytes);
        }
    }

    /// None of them has `secret` in any form.
    fn are_clean_of(&self, what: &str, secret: &[u8]) {
        for (name, bytes) in &self.0 {
            for form in forms(secret) {
                if holds(bytes, &form) {
                    let form = String::from_utf8_lossy(&form).into_owned();
                    let lines = String::from_utf8_lossy(bytes);
                    let line = lines.lines().find(|line| line.contains(&form));
                    let line: String = line.unwrap_or_default().chars().take(400).collect();
                    panic!("{what} is in {name}: {line}");
                }
            }
        }
    }
}

/// Everybody's own: it begins with their name's first letter.
fn of(name: &str, secret: &[u8; 64]) -> Vec<u8> {
    let mut own = secret.to_vec();
    own[0] = name.as_bytes()[0];
    own
}

/// What is looked for: what it is, and the bytes.
type Secrets = Vec<(String, Vec<u8>)>;

struct Folders {
    stage: Stage,
    node: Node,
    relay: Relay,
    files: Vec<PathBuf>,
}

impl Folders {
    fn new() -> Self {
        let folders = Self {
            stage: Stage::new(),
            node: Node::start(),
            relay: Relay::start(),
            files: Vec::new(),
        };
        for name in ["streamer", "viewer"] {
            let data = folders.data(name);
            std::fs::create_dir_all(&data).unwrap();
            for (file, bytes) in [
                ("wallet.seed", of(name, WALLET_SEED)),
                ("identity", of(name, IDENTITY)),
                ("stream-key", STREAM_KEY.as_bytes().to_vec()),
                ("words", WORDS.as_bytes().to_vec()),
            ] {
                let path = data.join(file);
                std::fs::write(&path, &bytes).unwrap();
                let mut chmod = Command::new("chmod");
                assert!(chmod.arg("600").arg(path).status().unwrap().success());
            }
        }
        folders
    }

    fn data(&self, name: &str) -> PathBuf {
        self.stage.folder.path().join(name)
    }

    /// A program that logs all it can into a file of its own.
    fn traced(&mut self, program: &str, name: &str, args: &[&str]) -> Command {
        let file = self
            .stage
            .folder
            .path()
            .join(format!("log-{}", self.files.len()));
        let mut command = told_into(program, &self.data(name), &file, args);
        command
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        command.env("NODE", self.node.url());
        command.env("STREAMPAY_TURN_PASSWORD", TURN_PASSWORD);
        self.files.push(file);
        command
    }

    fn run(&mut self, program: &str, name: &str, args: &[&str]) -> String {
        let mut command = self.traced(program, name, args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        stdout(&output)
    }
}

#[test]
fn no_secret_is_in_any_log_at_the_finest_level() {
    let mut folders = Folders::new();
    let mut logs = Logs::default();
    let mint = folders.stage.mint_url.clone();
    let said = folders.run(
        VIEWER,
        "viewer",
        &["deposit", "200sat", "--mint", &mint, "--json"],
    );
    logs.add("deposit", said.into_bytes());
    // What others hand over: a token, by stdin.
    let token = folders.run(VIEWER, "viewer", &["send", "9sat"]);
    let token = token.trim().to_owned();
    assert!(token.starts_with("cashu"), "{token}");
    let mut receive = folders.traced(STREAMER, "streamer", &["receive", "-"]);
    let mut receive = receive
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    receive
        .stdin
        .take()
        .unwrap()
        .write_all(token.as_bytes())
        .unwrap();
    let received = receive.wait_with_output().unwrap();
    assert!(received.status.success());
    logs.add("receive", received.stdout);
    // Sessions by every way to pay, each killed or ended.
    let mut drawn = Secrets::new();
    for pay in ["chain", "p2pk", "swap"] {
        sessions(&mut folders, &mint, pay, &mut drawn);
    }
    // A publisher, with the right key and with a wrong one.
    publish(&mut folders, &mint);
    folders.relay.let_in(USER);
    // A node that lets them in once, and a relay that is away.
    for program in [STREAMER, VIEWER] {
        let name = if program == STREAMER {
            "streamer"
        } else {
            "viewer"
        };
        let turn = ["--turn", "turn:127.0.0.1:9", "--turn-user", USER];
        let args = [&["doctor", "--btc", "env:NODE", "--mint", &mint], &turn[..]].concat();
        let said = folders.run(program, name, &args);
        assert!(
            said.contains("fail  chain") && said.contains("wrong user, password or cookie"),
            "{said}"
        );
        logs.add("doctor", said.into_bytes());
        let said = folders.run(program, name, &["config", "show"]);
        logs.add("config show", said.into_bytes());
        let said = folders.run(program, name, &["recover", "--json"]);
        logs.add("recover", said.into_bytes());
    }
    // Of each program one call that was answered, and one that was not.
    folders.node.was_called(4);
    let again = vaults(&mut folders, &mut logs);
    logs.add_files(&folders.files);
    let all: usize = logs.0.iter().map(|(_, bytes)| bytes.len()).sum();
    let traces = logs
        .0
        .iter()
        .filter(|(_, bytes)| holds(bytes, b"TRACE"))
        .count();
    assert!(
        all > 100_000 && traces > 5,
        "{all} bytes, {traces} with traces"
    );
    for (what, secret) in [
        // Without the first letter they are the same.
        ("a wallet's seed", &WALLET_SEED[1..]),
        ("an identity", &IDENTITY[1..]),
        ("the stream key", STREAM_KEY.as_bytes()),
        ("the node's password", RPC_PASSWORD.as_bytes()),
        ("the relay's password", TURN_PASSWORD.as_bytes()),
        ("the key at the relay", &elsewhere::relay_key(USER)),
        ("a token", token.as_bytes()),
        ("a backup's passphrase", PASSPHRASE.as_bytes()),
        ("the entropy of the words", &WORDS_ENTROPY),
        ("a wallet's seed from words", &again[0]),
        ("an identity from words", &again[1]),
    ] {
        logs.are_clean_of(what, secret);
    }
    for (what, secret) in &drawn {
        logs.are_clean_of(what, secret);
    }
    // Three in a row are enough, however they are parted.
    for parted in [" ", ", ", "\n", "\\n", "\", \""] {
        let words: Vec<&str> = WORDS.split(' ').collect();
        for three in words.windows(3) {
            logs.are_clean_of("words", three.join(parted).as_bytes());
        }
    }
    preimages(&folders, &logs);
}

/// Words shown, a folder made from them, and one saved and made again. Returns the seeds that words make.
fn vaults(folders: &mut Folders, logs: &mut Logs) -> [Vec<u8>; 2] {
    let at = |name: &str| folders.stage.folder.path().join(name);
    let (saved, phrase, paper) = (at("saved.age"), at("phrase"), at("paper"));
    write_secret(&phrase, PASSPHRASE);
    write_secret(&paper, WORDS);
    let from = |path: &Path| format!("file:{}", path.display());
    let (saved, phrase, paper) = (saved.to_str().unwrap(), from(&phrase), from(&paper));
    let mint = folders.stage.mint_url.clone();
    for (program, name) in [(STREAMER, "streamer"), (VIEWER, "viewer")] {
        // Said on purpose, to who asks.
        let words = folders.run(program, name, &["words"]);
        assert_eq!(words.trim(), WORDS);
        let sealed = [saved, "--passphrase", &phrase, "--json"];
        for command in ["backup", "restore"] {
            let folder = match command {
                "restore" => format!("{name}-again"),
                _ => name.to_owned(),
            };
            let said = folders.run(program, &folder, &[&[command], &sealed[..]].concat());
            assert!(said.contains("made_unix_s"), "{command}: {said}");
            logs.add(command, said.into_bytes());
        }
        let again = format!("{name}-words");
        let args = ["restore", "--words", &paper, "--mint", &mint, "--json"];
        let said = folders.run(program, &again, &args);
        logs.add("restore --words", said.into_bytes());
        let said = folders.run(program, &again, &["recover", "--json"]);
        logs.add("recover of words", said.into_bytes());
    }
    ["wallet.seed", "identity"].map(|seed| {
        let seed = std::fs::read(folders.data("viewer-words").join(seed)).unwrap();
        assert_eq!(seed.len(), 64);
        seed
    })
}

fn sessions(folders: &mut Folders, mint: &str, pay: &str, drawn: &mut Secrets) {
    let args = [
        "serve", "--json", "--media", CLIP, "--price", "1sat/1s", "--pay", pay,
    ];
    let relay = folders.relay.url();
    let more = ["--mint", mint, "--listen", "127.0.0.1:0"];
    let turn = ["--turn", &relay, "--turn-user", USER];
    let command = folders.traced(STREAMER, "streamer", &[&args[..], &more, &turn].concat());
    let mut streamer = Process::spawn(command, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let record = folders.stage.folder.path().join(format!("{pay}.webm"));
    let watch = [
        "watch", &link, "--budget", "40sat", "--yes", "--json", "--pay", pay,
    ];
    let more = [
        "--max-fee-share",
        "100",
        "--record",
        record.to_str().unwrap(),
    ];
    let command = folders.traced(VIEWER, "viewer", &[&watch[..], &more].concat());
    let mut viewer = Process::spawn(command, false);
    ticks(&viewer, 3);
    records::records(folders, pay, drawn);
    signal(&viewer, "-TERM");
    viewer.named("summary");
    viewer.exit_code();
    signal(&streamer, "-TERM");
    streamer.exit_code();
}

fn publish(folders: &mut Folders, mint: &str) {
    let args = ["serve", "--json", "--whip", "--price", "1sat/1s"];
    let more = ["--mint", mint, "--listen", "127.0.0.1:0"];
    let command = folders.traced(STREAMER, "streamer", &[&args[..], &more].concat());
    let mut streamer = Process::spawn(command, false);
    let whip = streamer.named("serving")["whip"]
        .as_str()
        .unwrap()
        .to_owned();
    let address = whip
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap();
    for key in [STREAM_KEY, "CANARY-of-the-stream-key-nearly"] {
        let mut stream = TcpStream::connect(address).unwrap();
        let body = "v=0\r\n";
        write!(
            stream,
            "POST /whip HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: \
             application/sdp\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        let refused = answer.starts_with("HTTP/1.1 401");
        assert_eq!(refused, key != STREAM_KEY, "{answer}");
    }
    signal(&streamer, "-TERM");
    streamer.exit_code();
}

/// A value in a log whose SHA-256 is a lock of this session's is a preimage: money, while its step
/// is not redeemed. Locks are in the stores, as bytes and in the ecash's own hex.
fn preimages(folders: &Folders, logs: &Logs) {
    let logged = logs.0.iter().flat_map(|(name, bytes)| {
        let found = [
            within_hex(bytes),
            within_numbers(bytes),
            within_base64(bytes),
        ];
        let found = found.into_iter().flatten();
        found.map(move |found| (sha256::Hash::hash(&found).to_byte_array(), name))
    });
    let logged: HashMap<[u8; 32], &String> = logged.collect();
    assert!(
        !logged.is_empty(),
        "the logs have keys and names in hex, at least"
    );
    // By its first two bytes, almost everything is passed over.
    let at = |bytes: &[u8]| usize::from(bytes[0]) * 256 + usize::from(bytes[1]);
    let mut begins = vec![false; 65_536];
    logged.keys().for_each(|hash| begins[at(hash)] = true);
    let mut stores = Vec::new();
    for name in ["streamer", "viewer"] {
        collect(&folders.data(name), &mut stores);
    }
    let mut locks = 0;
    for store in &stores {
        let in_hex = hex_of_32(store);
        locks += in_hex.len();
        let raw = store.windows(32).filter(|window| begins[at(window)]);
        let raw = raw.map(|window| <[u8; 32]>::try_from(window).unwrap());
        for lock in raw.chain(in_hex) {
            let found = logged.get(&lock);
            assert!(found.is_none(), "{found:?} has the preimage of a lock");
        }
    }
    assert!(
        locks > 50,
        "the stores have the locks of the sessions: {locks}"
    );
}

fn collect(folder: &Path, stores: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, stores);
        } else {
            stores.push(std::fs::read(path).unwrap());
        }
    }
}

#[test]
fn bytes_are_found_in_hex_numbers_and_base64_wherever_they_begin() {
    let bytes: [u8; 32] = core::array::from_fn(|at| u8::try_from(at * 7 + 1).unwrap());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(within_hex(format!("x abc{hex}0e x").as_bytes()).contains(&bytes));
    let numbers = format!(
        "Bytes([9, {}",
        format!("{bytes:?}, 3").replace(['[', ']'], "")
    );
    assert!(within_numbers(numbers.as_bytes()).contains(&bytes));
    // Three bytes before it, and one: "eHh4" and "eA" begin them.
    let known = "AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09o";
    assert!(within_base64(format!("eHh4{known}").as_bytes()).contains(&bytes));
    assert_eq!(within_base64(b"eHh4"), Vec::<[u8; 32]>::new());
}

/// All that 64 digits of hex in a row can be, also within more of them.
fn within_hex(text: &[u8]) -> Vec<[u8; 32]> {
    let runs = text.split(|byte| !byte.is_ascii_hexdigit());
    let windows = runs.flat_map(|run| run.windows(64));
    windows.flat_map(hex_of_32).collect()
}

/// All that 32 numbers in a row can be, as lists of bytes are shown.
fn within_numbers(text: &[u8]) -> Vec<[u8; 32]> {
    let is_list = |byte: &u8| byte.is_ascii_digit() || b", ".contains(byte);
    let runs = text
        .split(|byte| !is_list(byte))
        .filter(|run| run.len() >= 63);
    let found = runs.flat_map(|run| {
        let run = String::from_utf8_lossy(run).into_owned();
        let numbers = run.split([',', ' ']).filter(|number| !number.is_empty());
        let bytes: Vec<Option<u8>> = numbers.map(|number| number.parse().ok()).collect();
        let windows = bytes.windows(32).filter_map(|window| {
            let window: Option<Vec<u8>> = window.iter().copied().collect();
            window.and_then(|window| <[u8; 32]>::try_from(window).ok())
        });
        windows.collect::<Vec<_>>()
    });
    found.collect()
}

/// All that 32 bytes in base64 can be, of either alphabet.
fn within_base64(text: &[u8]) -> Vec<[u8; 32]> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let runs = text.split(|byte| value(*byte).is_none());
    let mut found = Vec::new();
    for run in runs.filter(|run| run.len() >= 43) {
        // Where the first letter of it is not known, it is one of four.
        for from in 0..4 {
            let letters: Vec<u32> = run[from..].iter().filter_map(|byte| value(*byte)).collect();
            let bytes: Vec<u8> = letters
                .chunks(4)
                .flat_map(|four| {
                    let number = (0..4).fold(0, |sum, at| (sum << 6) | four.get(at).unwrap_or(&0));
                    let [_, first, second, third] = u32::to_be_bytes(number);
                    [first, second, third]
                })
                .collect();
            let windows = bytes.windows(32);
            found.extend(windows.filter_map(|window| <[u8; 32]>::try_from(window).ok()));
        }
    }
    found
}

/// All runs of exactly 64 digits of hex.
fn hex_of_32(text: &[u8]) -> Vec<[u8; 32]> {
    let runs = text.split(|byte| !byte.is_ascii_hexdigit());
    let runs = runs.filter(|run| run.len() == 64);
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    runs.map(|run| {
        let mut bytes = [0; 32];
        for (to, pair) in bytes.iter_mut().zip(run.chunks_exact(2)) {
            *to = u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap();
        }
        bytes
    })
    .collect()
}
