//! Growth over the number of sessions, as a picture.

use std::fmt::Write as _;

use crate::{AIM_KIB, AIM_P99_MS, Run, proc};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 50.0;
const TOP: f64 = 40.0;

/// A colour, words, and what they are of.
type Line = (&'static str, &'static str, fn(&Run) -> f64);

/// A picture of milliseconds to an ack and KiB a session, over the logarithm of the sessions.
pub(crate) fn svg(runs: &[Run], syncs: f64) -> String {
    let lines: [Line; 3] = [
        ("#1b6ca8", "99 % of acks within, ms", |run| run.p99_ms),
        ("#4fb0c6", "50 % of acks within, ms", |run| run.p50_ms),
        ("#c0562b", "memory a session, KiB", |run| run.kib),
    ];
    let highest = runs
        .iter()
        .flat_map(|run| [run.p99_ms, run.p50_ms, run.kib]);
    let most = highest.fold(AIM_P99_MS.max(AIM_KIB), f64::max) * 1.1;
    let logs = runs.iter().map(|run| proc::float(run.sessions).log10());
    let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), at| {
        (low.min(at), high.max(at))
    });
    let x = |sessions: usize| {
        let part = (proc::float(sessions).log10() - low) / (high - low).max(1e-9);
        LEFT + part * (WIDTH - LEFT - 30.0)
    };
    let y = |value: f64| HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\">A tick a second each, over the number of sessions; the disk by \
         itself: {syncs:.0} syncs a second</text>\n"
    );
    for (aim, words) in [(AIM_P99_MS, "aim: 99 % within"), (AIM_KIB, "aim: memory")] {
        let at = y(aim);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#aaa\" \
             stroke-dasharray=\"4\"/><text x=\"5\" y=\"{:.1}\" fill=\"#888\">{aim:.0}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#888\">{words}</text>",
            WIDTH - 30.0,
            at + 4.0,
            LEFT + 4.0,
            at - 4.0,
        );
    }
    for run in runs {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(run.sessions),
            HEIGHT - BOTTOM + 18.0,
            run.sessions,
        );
    }
    for (number, (colour, words, value)) in lines.into_iter().enumerate() {
        let points = runs
            .iter()
            .map(|run| (x(run.sessions), y(value(run)), value(run)));
        let points: Vec<(f64, f64, f64)> = points.collect();
        let path = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}"));
        let path = path.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        for (x, y, value) in points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{colour}\">{value:.1}</text>",
                y - 7.0,
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{words}</text>",
            LEFT + 220.0 * proc::float(number),
            HEIGHT - 8.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
