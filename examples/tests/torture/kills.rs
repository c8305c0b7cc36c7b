//! SIGKILLs at random moments over running sessions.

use std::time::Instant;

use streampay_examples::pay::Pay;

use crate::books;
use crate::case::explain;
use crate::process::{Dice, Process, VIEWER};
use crate::stage::{PATIENCE, Stage};

/// Kills before everything is recovered and checked.
pub(crate) const A_ROUND: u64 = 5;
const FUNDS: u64 = 60_000;
const BUDGET_ECASH: u64 = 7_000;
const BUDGET_BTC: u64 = 600_000;
/// A process that has just begun is killed too.
const LATEST: u64 = 5_000;
/// As a viewer may end unasked: done, with its budget used up, while the streamer is away, or with money that
/// is not home yet.
const ENDS: [i32; 4] = [0, 3, 4, 5];

/// What runs.
struct Running {
    stage: Stage,
    streamer: Option<Process>,
    viewer: Option<Process>,
}

/// Sessions that are killed so often, then recovery. What was killed, and how many ticks were acknowledged.
pub(crate) fn round(seed: u64, kills: u64) -> Result<(Vec<&'static str>, u64), String> {
    let mut dice = Dice::new(seed);
    let way = [Pay::Chain, Pay::P2pk, Pay::Swap, Pay::Btc][usize::try_from(seed % 4).unwrap()];
    let mut running = Running {
        stage: Stage::new(way),
        streamer: None,
        viewer: None,
    };
    let mut killed = Vec::new();
    let ended = running.all(&mut dice, kills, &mut killed);
    running.leave();
    let mut stage = running.stage;
    match ended.and_then(|()| books::check(&mut stage)) {
        Ok(0) => Err(format!("{}: no tick was paid: {killed:?}", way.name())),
        Ok(ticks) => Ok((killed, ticks)),
        Err(error) => Err(explain(
            stage,
            &format!("{} {killed:?}: {error}", way.name()),
        )),
    }
}

impl Running {
    fn all(
        &mut self,
        dice: &mut Dice,
        kills: u64,
        killed: &mut Vec<&'static str>,
    ) -> Result<(), String> {
        self.stage.fund(FUNDS)?;
        while u64::try_from(killed.len()).unwrap() < kills {
            self.go_on()?;
            std::thread::sleep(dice.ms(50, LATEST));
            let what = dice.below(8);
            if matches!(what, 0..=2 | 6) && self.kill_streamer()? {
                killed.push("streamer");
            }
            if matches!(what, 3..=7) && self.kill_viewer()? {
                killed.push("viewer");
            }
            if what == 7 && self.kill_recovery(dice)? {
                killed.push("viewer that recovers");
            }
        }
        // Kills may come so early that nobody has paid: without a payment the round shows nothing.
        let until = Instant::now() + PATIENCE;
        while self.stage.told.is_empty() {
            if Instant::now() > until {
                return Err("no tick is paid".into());
            }
            self.go_on()?;
            if let Some(viewer) = &mut self.viewer {
                viewer.wait_for(PATIENCE, |event| event["event"] == "tick_paid");
            }
            self.kill_viewer()?;
        }
        self.kill_streamer()?;
        self.kill_viewer().map(drop)
    }

    /// Starts what does not run. A viewer may have ended, with its budget used up.
    fn go_on(&mut self) -> Result<(), String> {
        if self.streamer.is_none() {
            let streamer = self.stage.serve(None);
            let streamer =
                streamer.map_err(|of| format!("no streamer comes up: {:?}", of.alone))?;
            self.streamer = Some(streamer);
        }
        if self.viewer.as_mut().is_some_and(Process::is_over) {
            self.kill_viewer()?;
        }
        if self.viewer.is_none() {
            let budget = match self.stage.way {
                Pay::Btc => BUDGET_BTC,
                _ => BUDGET_ECASH,
            };
            self.viewer = Some(self.stage.watch(budget, None));
        }
        Ok(())
    }

    /// True where it ran. It never ends unasked.
    fn kill_streamer(&mut self) -> Result<bool, String> {
        let Some(mut streamer) = self.streamer.take() else {
            return Ok(false);
        };
        streamer.kill();
        match streamer.alone {
            None => Ok(true),
            Some(end) => Err(format!("the streamer ended by itself: {end}")),
        }
    }

    /// Kills the viewer, and notes what it was told. True where it ran. It ends unasked where it has nobody to
    /// pay, or nothing to pay with.
    fn kill_viewer(&mut self) -> Result<bool, String> {
        let Some(mut viewer) = self.viewer.take() else {
            return Ok(false);
        };
        viewer.kill();
        viewer.acknowledged(&mut self.stage.told);
        ran(&viewer, "viewer")
    }

    /// Recovers, and kills that. True where it was not done.
    fn kill_recovery(&self, dice: &mut Dice) -> Result<bool, String> {
        let (data, args) = (self.stage.data("viewer"), ["recover", "--json"]);
        let mut recovering = Process::start(VIEWER, &data, &args, None);
        recovering.wait_for(dice.ms(20, 1_500), |_| false);
        recovering.kill();
        ran(&recovering, "viewer that recovers")
    }

    /// However it ended.
    fn leave(&mut self) {
        self.streamer = None;
        self.viewer = None;
    }
}

/// Whether it ran until it was killed; or how it ended by itself, where nothing explains that.
fn ran(process: &Process, who: &str) -> Result<bool, String> {
    match process.alone {
        None => Ok(true),
        Some(end) if end.code().is_some_and(|code| ENDS.contains(&code)) => Ok(false),
        Some(end) => Err(format!("the {who} ended by itself: {end}")),
    }
}
