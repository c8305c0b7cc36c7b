//! Explores the order rules of a tick, with all of them and without each.

use std::process::ExitCode;
use std::time::Instant;

use streampay_fuzz::order::{Rules, explore};

/// More states than there are.
const MOST: usize = 20_000_000;
/// So many must have been looked at.
const STATES_MIN: usize = 1_000_000;

fn main() -> ExitCode {
    let start = Instant::now();
    let (states, broken) = explore(Rules::ALL, MOST);
    println!(
        "all rules: {states} states, {}",
        broken.unwrap_or("every promise holds")
    );
    let holds = broken.is_none() && (STATES_MIN..MOST).contains(&states);
    let mut failed = u32::from(!holds);
    for (rule, rules) in Rules::without_one() {
        let (states, broken) = explore(rules, MOST);
        println!(
            "without \"{rule}\": {}, after {states} states",
            broken.unwrap_or("NOTHING FOUND")
        );
        failed += u32::from(broken.is_none());
    }
    println!("{:.1} s", start.elapsed().as_secs_f64());
    println!("{} passed, {failed} failed", 7 - failed);
    ExitCode::from(u8::from(failed > 0))
}
