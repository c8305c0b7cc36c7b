//! The other places where secrets live: proofs in wallets, tokens of plain players, the addresses that are
//! secrets, what a Lightning payment proves, the keys of bitcoin channels and of sealed media.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::{Duration, Instant};

use cdk::nuts::Token;
use cdk_common::database::WalletDatabase as _;
use cdk_fake_wallet::{FakeInvoiceDescription, create_fake_invoice};
use cdk_redb::WalletRedbDatabase;
use streampay_btc::bitcoin::hashes::Hash as _;
use streampay_btc::bitcoin::{Address, Amount, Network, PrivateKey, ScriptBuf, WPubkeyHash};
use streampay_btc::sim::SimChain;
use streampay_core::session::Entropy;
use streampay_examples::mint::faults_for_testing::Fault;

use super::*;
use crate::esplora;

const FEE_SEED: &[u8; 32] = b"CANARY-of-the-fee-wallet's-seed!";
/// As a mint says it.
const PREIMAGE: &str = "ca0a1700000000000000000000000000000000000000000000000000ca0a1700";
/// What a player sends, near enough.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";

/// One request, in two pieces that part it at `cut` of its head; the answer.
fn ask(address: &str, method: &str, path: &str, token: Option<&str>, cut: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if method == "POST" { OFFER } else { "" };
    let token = token.map_or(String::new(), |token| format!("X-Cashu: {token}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{token}Content-Type: application/sdp\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let (first, rest) = head.as_bytes().split_at(cut.min(head.len()));
    stream.write_all(first).unwrap();
    stream.flush().unwrap();
    stream.write_all(rest).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

fn at(link: &str) -> String {
    let rest = link.trim_start_matches("http://");
    rest.split('/').next().unwrap().to_owned()
}

/// A token, with its proofs' secrets.
fn token(folders: &mut Folders, secrets: &mut Secrets) -> String {
    let text = folders.run(VIEWER, "viewer", &["send", "4sat"]);
    let text = text.trim().to_owned();
    let parsed: Token = text.parse().unwrap();
    secrets.push(("a player's token".into(), text.clone().into_bytes()));
    for secret in parsed.token_secrets() {
        secrets.push(("a proof of a token".into(), secret.to_bytes()));
    }
    text
}

/// Plain players: tokens where they belong, and where they do not.
fn players(folders: &mut Folders, secrets: &mut Secrets) {
    let mint = folders.stage.mint_url.clone();
    let args = ["deposit", "100sat", "--mint", &mint, "--json"];
    assert!(folders.run(VIEWER, "viewer", &args).contains("deposited"));
    let args = ["serve", "--json", "--media", CLIP, "--price", "4sat/1s"];
    let more = ["--mint", &mint, "--listen", "127.0.0.1:0"];
    let command = folders.traced(STREAMER, "streamer", &[&args[..], &more].concat());
    let mut streamer = Process::spawn(command, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let address = at(&link);
    let (first, more) = (token(folders, secrets), token(folders, secrets));
    // Parted within the token.
    let sold = ask(&address, "POST", "/whep", Some(&first), 120);
    assert_eq!(status(&sold), Some(201), "{sold}");
    let is_location = |line: &&str| line.to_ascii_lowercase().starts_with("location:");
    let location = sold.lines().find(is_location).unwrap();
    let path = location.split_once(':').unwrap().1.trim();
    let path = path
        .trim_start_matches("http://")
        .trim_start_matches(&address);
    let secret = path.rsplit('/').next().unwrap();
    assert!(secret.len() >= 16, "{path}");
    secrets.push(("a player's connection".into(), secret.as_bytes().to_vec()));
    let paid = ask(&address, "POST", path, Some(&more), 90);
    assert_eq!(status(&paid), Some(204), "{paid}");
    // Spent, wrong, and where nobody should put one.
    ask(&address, "POST", "/whep", Some(&first), 200);
    let lost = token(folders, secrets);
    ask(&address, "POST", "/whep", Some(&lost[..lost.len() - 5]), 0);
    for path in [
        format!("/whep?token={lost}"),
        format!("/{lost}"),
        format!("/whep/{lost}"),
    ] {
        for (method, cut) in [("GET", 0), ("POST", 60), ("DELETE", 30)] {
            ask(&address, method, &path, None, cut);
        }
    }
    ask(&address, "DELETE", path, None, 0);
    signal(&streamer, "-TERM");
    streamer.exit_code();
}

/// The address of a page is a secret, said to its user; and a stream that is sealed.
fn pages(folders: &mut Folders, secrets: &mut Secrets) -> String {
    let mint = folders.stage.mint_url.clone();
    let args = [
        "serve", "--json", "--media", CLIP, "--price", "1sat/1s", "--seal",
    ];
    let more = ["--mint", &mint, "--listen", "127.0.0.1:0"];
    let command = folders.traced(STREAMER, "streamer", &[&args[..], &more].concat());
    let mut streamer = Process::spawn(command, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let watch = ["watch", &link, "--budget", "20sat", "--yes", "--json"];
    let record = folders.stage.folder.path().join("sealed.webm");
    let more = [
        "--max-fee-share",
        "100",
        "--record",
        record.to_str().unwrap(),
    ];
    let command = folders.traced(VIEWER, "viewer", &[&watch[..], &more].concat());
    let mut viewer = Process::spawn(command, false);
    ticks(&viewer, 3);
    keys_of_media(&viewer, &streamer, secrets);
    signal(&viewer, "-TERM");
    viewer.named("summary");
    viewer.exit_code();
    let more = ["--max-fee-share", "100", "--browser"];
    let command = folders.traced(VIEWER, "viewer", &[&watch[..], &more].concat());
    let mut viewer = Process::spawn(command, false);
    let page = viewer.named("page")["url"].as_str().unwrap().to_owned();
    let address = at(&page);
    let path = page.split_once(&address).unwrap().1.to_owned();
    assert_eq!(status(&ask(&address, "GET", &path, None, 0)), Some(200));
    ask(&address, "GET", &format!("{path}nothing"), None, 10);
    signal(&viewer, "-TERM");
    viewer.exit_code();
    signal(&streamer, "-TERM");
    streamer.exit_code();
    let secret = path.trim_matches('/').to_owned();
    secrets.push(("a page's address".into(), secret.clone().into_bytes()));
    page
}

/// Those that the streamer has granted and the viewer has got, as both have them while it plays.
fn keys_of_media(viewer: &Process, streamer: &Process, secrets: &mut Secrets) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (mut got, mut granted) = (BTreeSet::new(), BTreeSet::new());
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        got.extend(records::grants(viewer.id()));
        granted.extend(records::grants(streamer.id()));
        let keys: Vec<_> = got.intersection(&granted).collect();
        if !keys.is_empty() {
            let keys = keys.into_iter().map(|grant| grant[8..].to_vec());
            secrets.extend(keys.map(|key| ("a key of sealed media".into(), key)));
            return;
        }
        assert!(Instant::now() < until, "no key: {got:?} {granted:?}");
    }
}

/// What a payment over Lightning proves, and every proof that is in a wallet, spent ones too.
fn wallets(folders: &mut Folders, secrets: &mut Secrets) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mint = runtime.block_on(crate::cashu_node::mint(0));
    let proven = format!("\"payment_preimage\":\"{PREIMAGE}\"");
    let proven = Fault::Say("\"payment_preimage\":\"\"", proven.leak());
    mint.faults_for_testing().set("/v1/melt", proven, u64::MAX);
    let fate = serde_json::to_string(&FakeInvoiceDescription::default()).unwrap();
    let invoice = create_fake_invoice(3_000, fate).to_string();
    let url = mint.url();
    folders.run(VIEWER, "viewer", &["deposit", "40sat", "--mint", &url]);
    let args = ["withdraw", &invoice, "--max-fee", "9sat", "--yes", "--json"];
    let said = folders.run(VIEWER, "viewer", &[&args[..], &["--mint", &url]].concat());
    assert!(said.contains(PREIMAGE), "said to who asks: {said}");
    secrets.push(("a payment's preimage".into(), PREIMAGE.into()));
    let mut proofs = 0;
    for name in ["streamer", "viewer"] {
        let path = folders.data(name).join("wallet.redb");
        let store = WalletRedbDatabase::new(&path).unwrap();
        let held = runtime.block_on(store.get_proofs(None, None, None, None));
        for info in held.unwrap() {
            proofs += 1;
            secrets.push(("a proof".into(), info.proof.secret.to_bytes()));
        }
    }
    assert!(proofs > 5, "{proofs}");
}

/// A channel of bitcoin: its keys come from the identity, and the viewer's is shown to its user alone.
fn channel(folders: &mut Folders, secrets: &mut Secrets) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chain = SimChain::new();
    let url = runtime.block_on(esplora::serve(chain.clone(), Network::Regtest));
    let url = url.trim_end_matches('/').to_owned();
    let script = |number: u8| ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]));
    let address = |number| {
        let address = Address::from_script(&script(number), Network::Regtest);
        address.unwrap().to_string()
    };
    let seed = folders.stage.folder.path().join("fee-seed");
    let hex: String = FEE_SEED.iter().map(|byte| format!("{byte:02x}")).collect();
    write_secret(&seed, &hex);
    let (seed, payout) = (format!("file:{}", seed.display()), address(2));
    let args = ["serve", "--json", "--media", CLIP, "--price", "500sat/1s"];
    let more = [
        "--listen",
        "127.0.0.1:0",
        "--btc",
        &url,
        "--payout",
        &payout,
    ];
    let fees = ["--fee-wallet", &seed];
    let args = [&args[..], &more, &fees].concat();
    let command = folders.traced(STREAMER, "streamer", &args);
    let mut streamer = Process::spawn(command, false);
    let link = streamer.named("serving")["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let refund = address(1);
    let args = [
        "watch", &link, "--budget", "40000sat", "--yes", "--json", "--pay", "btc",
    ];
    let record = folders.stage.folder.path().join("btc.webm");
    let more = [
        "--btc",
        &url,
        "--refund-to",
        &refund,
        "--record",
        record.to_str().unwrap(),
    ];
    let command = folders.traced(VIEWER, "viewer", &[&args[..], &more].concat());
    let mut viewer = Process::spawn(command, false);
    let wanted = viewer.named("channel_wanted");
    let shown: Address<_> = wanted["address"].as_str().unwrap().parse().unwrap();
    let value = Amount::from_sat(wanted["value_sat"].as_u64().unwrap());
    chain
        .pay(&shown.assume_checked().script_pubkey(), value)
        .unwrap();
    chain.mine(1);
    viewer.event(|event| event["event"] == "tick_paid");
    signal(&viewer, "-TERM");
    viewer.named("summary");
    viewer.exit_code();
    signal(&streamer, "-TERM");
    streamer.exit_code();
    chain.mine(7);
    for (program, name) in [(STREAMER, "streamer"), (VIEWER, "viewer")] {
        folders.run(program, name, &["recover", "--json"]);
        folders.run(program, name, &["channels"]);
        let mut entropy = Entropy([0; 32]);
        entropy.0.copy_from_slice(&of(name, IDENTITY)[..32]);
        let what = format!("the seed of the {name}'s channels");
        secrets.push((what, entropy.derive("bitcoin").to_vec()));
    }
    secrets.push(("the fee wallet's seed".into(), FEE_SEED.to_vec()));
    let kit = wanted["kit"].as_str().unwrap();
    let kit = std::fs::read_to_string(kit).unwrap();
    let key = kit.lines().find_map(|line| line.strip_prefix("key "));
    let key = key.unwrap().split(' ').next().unwrap().to_owned();
    let raw = PrivateKey::from_wif(&key).unwrap().to_bytes();
    secrets.push(("a channel's key".into(), raw));
    secrets.push(("a channel's key, as text".into(), key.clone().into_bytes()));
    key
}

#[test]
fn no_secret_of_players_pages_wallets_and_channels_is_in_any_log() {
    let mut folders = Folders::new();
    let (mut logs, mut secrets) = (Logs::default(), Secrets::new());
    players(&mut folders, &mut secrets);
    let page = pages(&mut folders, &mut secrets);
    wallets(&mut folders, &mut secrets);
    let key = channel(&mut folders, &mut secrets);
    logs.add_files(&folders.files);
    // Said on purpose, each once, to the user: the address of a page, and the key of a rescue kit.
    let opened = format!("open {page} in a browser, and play\n");
    for said in [opened, format!("key {key} ")] {
        let mut times = 0;
        for (_, bytes) in &mut logs.0 {
            let text = String::from_utf8_lossy(bytes).into_owned();
            times += text.matches(&said).count();
            *bytes = text.replacen(&said, "", 1).into_bytes();
        }
        assert_eq!(times, 1, "{said}");
    }
    let kinds: BTreeSet<&String> = secrets.iter().map(|(what, _)| what).collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
    for (what, secret) in &secrets {
        logs.are_clean_of(what, secret);
    }
    preimages(&folders, &logs);
}
