//! What a streamer earns in bitcoin, shared by the close itself.

use serde_json::Value;
use streampay_btc::bitcoin::{Address, Network};

use crate::backup_channel::{Channel, address};
use crate::processes::{STREAMER, run, signal, stdout, ticks};

fn balance(channel: &Channel, number: u8) -> u64 {
    let address: Address<_> = address(number).parse().unwrap();
    let address = address.require_network(Network::Regtest).unwrap();
    channel.chain.balance(&address.script_pubkey()).to_sat()
}

#[test]
fn earnings_of_a_channel_are_shared_by_its_close_and_the_books_say_with_whom() {
    let channel = Channel::new();
    let share = format!("{}=30%", address(3));
    let nowhere = channel.at("nowhere");
    let alone = [
        "serve",
        "--media",
        "x",
        "--price",
        "500sat/1s",
        "--mint",
        "http://127.0.0.1:9",
    ];
    let alone = run(
        STREAMER,
        &nowhere,
        &[&alone[..], &["--payout-share", &share]].concat(),
    );
    assert_eq!(alone.status.code(), Some(2), "of no channel: {alone:?}");
    let (mut streamer, link) = channel.serve_with("127.0.0.1:0", &["--payout-share", &share]);
    let mut viewer = channel.watch(&link);
    ticks(&viewer, 6_000);
    signal(&viewer, "-TERM");
    viewer.named("summary");
    viewer.exit_code();
    streamer.named("viewer_gone");
    signal(&streamer, "-TERM");
    streamer.exit_code();
    // Nobody else is to be closed with: it is broadcast at once, whoever asks and for however short a time.
    let first = run(STREAMER, &channel.at("streamer"), &["recover"]);
    assert_eq!(first.status.code(), Some(5), "{first:?}");
    channel.chain.mine(7);
    let second = run(STREAMER, &channel.at("streamer"), &["recover"]);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let (rest, shared) = (balance(&channel, 2), balance(&channel, 3));
    assert!(rest + shared >= 6_000, "{rest} {shared}");
    assert_eq!(shared, (rest + shared) * 300 / 1_000);
    let told = run(STREAMER, &channel.at("streamer"), &["channels", "--json"]);
    let told: Value = serde_json::from_str(stdout(&told).trim()).unwrap();
    assert_eq!(told["settled_sat"], rest + shared, "{told}");
    let split = serde_json::json!([{"to": address(3), "amount_sat": shared}]);
    assert_eq!(told["split"], split, "{told}");
    let audit = run(STREAMER, &channel.at("streamer"), &["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
}
