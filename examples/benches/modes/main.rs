//! What the ways to pay cost, against the embedded mint over loopback HTTP, all in one run:
//!
//! - the payee's processor time and the latency of a tick, `chain` and `p2pk` against `swap`;
//! - the mint's fees for an hour of ticks of 10 s, each way at 0, 100 and 1 000 ppk, from sessions
//!   that ran, with as many shorter ticks.
//!
//! ```sh
//! cargo bench -p streampay-examples --bench modes
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement that fails should say where"
)]

mod session;

use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::pay::Pay;

use self::session::{Order, Run};

/// Ticks of 10 s in an hour.
const HOUR: u64 = 360;
/// One tick, in satoshi.
const TICK: u64 = 10;

fn main() {
    ticks();
    fees();
}

fn ticks() {
    println!("a tick of {TICK} sat at 100 ppk, {HOUR} of them:");
    let runs: Vec<Run> = Pay::ALL.iter().map(|pay| run(*pay, 100)).collect();
    let swap = runs.last().unwrap();
    for run in &runs {
        println!(
            "  {:<5} payee {:>8.0} us CPU a tick ({:>5.1} x less than swap), latency {:>8.0} us median, \
             {:>8.0} us p90 ({:>5.1} x less)",
            run.pay.name(),
            run.payee_cpu_us,
            swap.payee_cpu_us / run.payee_cpu_us,
            run.median_us,
            run.p90_us,
            swap.median_us / run.median_us,
        );
    }
}

fn fees() {
    println!(
        "fees for an hour of 10 s ticks of {TICK} sat, {} sat in all:",
        HOUR * TICK
    );
    println!("  way     ppk  mint's fees  of what was paid   purses  requests to the mint");
    for pay in Pay::ALL {
        for ppk in [0, 100, 1000] {
            let run = run(*pay, ppk);
            let share = f64::from(u32::try_from(run.fees_sat).unwrap()) * 100.0
                / f64::from(u32::try_from(run.paid_sat).unwrap());
            println!(
                "  {:<5} {ppk:>5}  {:>7} sat  {share:>15.1} %  {:>7}  {:>8}",
                pay.name(),
                run.fees_sat,
                run.purses,
                run.calls,
            );
        }
    }
}

/// A session of an hour, with a mint of its own.
fn run(pay: Pay, ppk: u64) -> Run {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let mint = runtime.block_on(EmbeddedMint::start(any, Storage::Memory, ppk));
    let mint = mint.unwrap();
    let order = Order {
        pay,
        mint: mint.url(),
        tick: TICK,
        ticks: HOUR,
    };
    let mut run = session::run(order);
    let ledger = runtime.block_on(mint.ledger()).unwrap();
    run.fees_sat = ledger.fees.sat_floor();
    run.calls = mint.tally().asked().len();
    runtime.block_on(mint.stop());
    run
}
