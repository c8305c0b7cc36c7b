//! SIGKILLs at random moments over running sessions.

use streampay_examples::pay::Pay;

use crate::books;
use crate::case::explain;
use crate::process::{Dice, Process, VIEWER};
use crate::stage::Stage;

/// Kills before everything is recovered and checked.
pub(crate) const A_ROUND: u64 = 5;
const FUNDS: u64 = 400;
const BUDGET_ECASH: u64 = 40;
const BUDGET_BTC: u64 = 40_000;
/// A process that has just begun is killed too.
const LATEST: u64 = 5_000;

/// What runs.
struct Running {
    streamer: Option<Process>,
    viewer: Option<Process>,
}

/// Sessions that are killed so often, then recovery. What was killed.
pub(crate) fn round(seed: u64, kills: u64) -> Result<Vec<&'static str>, String> {
    let mut dice = Dice::new(seed);
    let way = [Pay::Chain, Pay::P2pk, Pay::Swap, Pay::Btc][usize::try_from(seed % 4).unwrap()];
    let mut stage = Stage::new(way);
    stage.fund(FUNDS)?;
    let mut running = Running {
        streamer: None,
        viewer: None,
    };
    let mut killed = Vec::new();
    while u64::try_from(killed.len()).unwrap() < kills {
        if running.streamer.is_none() {
            running.streamer = stage.serve(None).ok();
        }
        if running.viewer.as_mut().is_some_and(Process::is_over) {
            take_leave(&mut stage, &mut running);
        }
        if running.viewer.is_none() {
            let budget = match way {
                Pay::Btc => BUDGET_BTC,
                _ => BUDGET_ECASH,
            };
            running.viewer = Some(stage.watch(budget, None));
        }
        std::thread::sleep(dice.ms(50, LATEST));
        let what = dice.below(8);
        if matches!(what, 0..=2 | 6) {
            running.streamer = None;
            killed.push("streamer");
        }
        if matches!(what, 3..=7) && take_leave(&mut stage, &mut running) {
            killed.push("viewer");
        }
        if what == 7 {
            let (data, args) = (stage.data("viewer"), ["recover", "--json"]);
            let mut recovering = Process::start(VIEWER, &data, &args, None);
            recovering.wait_for(dice.ms(20, 1_500), |_| false);
            if !recovering.is_over() {
                killed.push("viewer that recovers");
            }
        }
    }
    running.streamer = None;
    take_leave(&mut stage, &mut running);
    match books::check(&mut stage) {
        Ok(()) => Ok(killed),
        Err(error) => Err(explain(
            stage,
            &format!("{} {killed:?}: {error}", way.name()),
        )),
    }
}

/// Kills the viewer, and notes what it was told. True where it ran.
fn take_leave(stage: &mut Stage, running: &mut Running) -> bool {
    let Some(mut viewer) = running.viewer.take() else {
        return false;
    };
    let ran = !viewer.is_over();
    viewer.kill();
    viewer.acknowledged(&mut stage.acked);
    ran
}
