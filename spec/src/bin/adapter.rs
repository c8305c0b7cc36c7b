//! This implementation, as the conformance runner drives it: `adapter [--broken NAME]`.

use std::env;
use std::process::ExitCode;

use streampay_spec::adapter::{Broken, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(None),
        ["--broken", name] => match Broken::named(name) {
            Some(broken) => serve(Some(broken)),
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<_> = Broken::ALL.iter().map(|broken| broken.name()).collect();
    eprintln!(
        "usage: adapter [--broken NAME]\nNAME is one of: {}",
        names.join(", ")
    );
    ExitCode::from(2)
}
