//! What the servers answer, in `spec/vectors/media/http.json`, and which data channels are a
//! session's, in `channel.json`. `STREAMPAY_WRITE_VECTORS=1 cargo test -p streampay-media vectors`
//! writes them; without, the tests fail where they have grown old.

mod channel;
mod http;
mod offers;

use std::path::PathBuf;

use serde_json::Value;

fn settle(name: &str, value: &Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/media");
    let (path, text) = (
        folder.join(name),
        serde_json::to_string_pretty(value).unwrap() + "\n",
    );
    if std::env::var_os("STREAMPAY_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "{name} has grown old");
}
