//! Growth with viewers, drawn as SVG: processor time left, memory right.

use std::fmt::Write;

use crate::{Point, Sender};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 48.0;

const fn colour(sender: Sender) -> &'static str {
    match sender {
        Sender::Bare => "#777777",
        Sender::Apart => "#aaaaaa",
        Sender::Short => "#444444",
        Sender::Gate => "#0060c0",
        Sender::Session => "#00905a",
        Sender::Sealed => "#c06000",
        Sender::Janus => "#c02060",
    }
}

pub(crate) fn svg(points: &[Point]) -> String {
    let (wide, high) = (2.0 * (WIDTH + 2.0 * MARGIN), HEIGHT + 2.0 * MARGIN + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{wide}\" height=\"{high}\" fill=\"white\"/>\n"
    );
    let cpu = |point: &Point| point.cpu[1];
    let memory = |point: &Point| point.resident_mb as f64;
    panel(&mut svg, points, 0.0, "sender's CPU, % of a core", &cpu);
    let right = WIDTH + 2.0 * MARGIN;
    panel(&mut svg, points, right, "resident memory, MB", &memory);
    legend(&mut svg, points, high - 14.0);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, points: &[Point], left: f64, title: &str, of: &dyn Fn(&Point) -> f64) {
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(1.0, f64::max);
    let x_most = most(&mut points.iter().map(|it| it.viewers as f64));
    let y_most = round_up(most(&mut points.iter().map(of)));
    let x = |viewers: f64| left + MARGIN + viewers / x_most * WIDTH;
    let y = |value: f64| MARGIN + HEIGHT - value / y_most * HEIGHT;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\">{title}</text>",
        left + MARGIN,
        MARGIN - 12.0
    );
    for step in 0..=4 {
        let value = y_most / 4.0 * f64::from(step);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left + MARGIN,
            left + MARGIN + WIDTH,
            left + MARGIN - 6.0,
            y(value) + 4.0,
            at = y(value),
        );
    }
    let mut marks: Vec<usize> = points.iter().map(|it| it.viewers).collect();
    marks.dedup();
    for viewers in marks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{viewers}</text>",
            x(viewers as f64),
            MARGIN + HEIGHT + 16.0,
        );
    }
    for sender in Sender::ALL {
        let own = points.iter().filter(|it| it.sender == sender);
        let at: Vec<(f64, f64)> = own.map(|it| (x(it.viewers as f64), y(of(it)))).collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let colour = colour(sender);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line.join(" ")
        );
        for (x, y) in at {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
            );
        }
    }
}

/// To 1, 2, 4 or 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}

fn legend(svg: &mut String, points: &[Point], y: f64) {
    let mut x = MARGIN;
    for sender in Sender::ALL {
        if !points.iter().any(|it| it.sender == sender) {
            continue;
        }
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 4.0,
            colour(sender),
            x + 8.0,
            sender.title()
        );
        x += 160.0;
    }
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#555555\">over viewers of 1 Mbit/s each</text>"
    );
}
