//! The sweep as a picture: three panels, each a quantile of latency against the rate.

use super::{peer, subject};
use crate::report::Row;
use crate::svg::{COLOURS, DASHED, Svg};

const PANEL_WIDTH: f64 = 330.0;
const PANEL_HEIGHT: f64 = 380.0;
const GAP: f64 = 24.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const LEGEND: f64 = 170.0;
const BOTTOM: f64 = 56.0;

/// What one router showed at one rate, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    rate_hz: f64,
    quantiles_ns: [u64; 3],
}

const QUANTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// `None` when no row is of a sweep.
pub fn sweep(rows: &[Row]) -> Option<String> {
    let curves = curves(rows);
    let points = || curves.iter().flat_map(|(_, points)| points);
    let rates = points().map(|point| point.rate_hz);
    let (low_hz, high_hz) =
        rates.fold((f64::INFINITY, 0.0_f64), |(low, high), hz| (low.min(hz), high.max(hz)));
    if curves.is_empty() {
        return None;
    }
    let values = points().flat_map(|point| point.quantiles_ns);
    let (low_ns, high_ns) =
        values.fold((u64::MAX, 0), |(low, high), ns| (low.min(ns), high.max(ns)));
    let scale = Scale {
        low_hz,
        octaves: (high_hz / low_hz).log2().max(1.0),
        low_log: (low_ns.max(100) as f64).log10().floor(),
        high_log: (high_ns.max(1_000) as f64).log10().ceil(),
    };
    let width = LEFT + 3.0 * PANEL_WIDTH + 2.0 * GAP + LEGEND;
    let height = TOP + PANEL_HEIGHT + BOTTOM;
    let title = "Latency of one hop against messages a second, up to saturation";
    let mut svg = Svg::new((width, height), ("sans-serif", 12), (LEFT, title));
    for (index, name) in QUANTILES.into_iter().enumerate() {
        panel(&mut svg, &scale, index, name, &curves);
    }
    for (index, (name, _)) in curves.iter().enumerate() {
        let place = (width - LEGEND + 14.0, TOP + 10.0 + 20.0 * index as f64);
        let (colour, dash) = stroke(index, name);
        svg.legend(place, colour, dash, name);
    }
    Some(svg.finish())
}

/// The points of each router, in the order of the rows.
fn curves(rows: &[Row]) -> Vec<(&str, Vec<Point>)> {
    let mut curves: Vec<(&str, Vec<Point>)> = Vec::new();
    for row in rows.iter().filter(|row| row.latency.count() > 0) {
        let rate = subject(row).and_then(|subject| subject.strip_prefix("sweep/"));
        let (Some(Ok(rate_hz)), Some(peer)) = (rate.map(str::parse), peer(row)) else { continue };
        let summary = row.latency.summary();
        let quantiles_ns = [summary.p50_ns, summary.p99_ns, summary.p99_9_ns];
        let point = Point { rate_hz, quantiles_ns };
        match curves.iter_mut().find(|(name, _)| *name == peer) {
            Some((_, points)) => points.push(point),
            None => curves.push((peer, vec![point])),
        }
    }
    curves
}

/// From rates and nanoseconds to places in a panel: both axes logarithmic.
struct Scale {
    low_hz: f64,
    octaves: f64,
    low_log: f64,
    high_log: f64,
}

impl Scale {
    fn x(&self, panel: usize, rate_hz: f64) -> f64 {
        let left = LEFT + panel as f64 * (PANEL_WIDTH + GAP);
        left + PANEL_WIDTH * (rate_hz / self.low_hz).log2() / self.octaves
    }

    fn y(&self, ns: f64) -> f64 {
        let share = (ns.max(1.0).log10() - self.low_log) / (self.high_log - self.low_log);
        TOP + PANEL_HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

fn panel(svg: &mut Svg, scale: &Scale, index: usize, name: &str, curves: &[(&str, Vec<Point>)]) {
    let left = scale.x(index, scale.low_hz);
    let (right, bottom) = (left + PANEL_WIDTH, TOP + PANEL_HEIGHT);
    svg.push(format_args!(
        "<text x=\"{}\" y=\"{}\" font-size=\"14\">{name}</text>\n",
        left + 6.0,
        TOP - 8.0
    ));
    for power in scale.low_log as i32..=scale.high_log as i32 {
        let y = scale.y(10_f64.powi(power));
        svg.push(format_args!(
            "<line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" \
                 stroke=\"#ddd\"/>\n"
        ));
        if index == 0 {
            let label = micros(power);
            svg.push(format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\n",
                left - 6.0,
                y + 4.0
            ));
        }
    }
    for octave in (0..=scale.octaves as i32).step_by(2) {
        let rate_hz = scale.low_hz * 2_f64.powi(octave);
        let x = scale.x(index, rate_hz);
        svg.push(format_args!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            bottom + 18.0,
            rate(rate_hz)
        ));
    }
    for (number, (name, points)) in curves.iter().enumerate() {
        let place = |point: &Point| {
            let (x, y) = (scale.x(index, point.rate_hz), scale.y(point.quantiles_ns[index] as f64));
            format!("{x:.1},{y:.1} ")
        };
        let (colour, dash) = stroke(number, name);
        svg.curve(&points.iter().map(place).collect::<String>(), colour, dash);
    }
}

/// The floor is something to compare with: dashed.
fn stroke(index: usize, name: &str) -> (&'static str, &'static str) {
    let dash = if name == "floor" { DASHED } else { "" };
    (COLOURS[index % COLOURS.len()], dash)
}

/// A power of ten of nanoseconds in microseconds, `0.1 µs`.
fn micros(power: i32) -> String {
    format!("{} µs", 10_f64.powi(power - 3))
}

/// `16k`.
fn rate(hz: f64) -> String {
    if hz >= 1_000.0 { format!("{:.0}k", hz / 1_000.0) } else { format!("{hz:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clasp_rt_perf::histogram::Latency;

    fn row(key: &str, ns: u64) -> Row {
        let mut latency = Latency::new();
        latency.record(ns);
        let mut row = Row::new(key, key);
        row.round(&latency, None);
        row
    }

    #[test]
    fn each_router_is_a_line_in_each_panel_and_other_rows_are_none() {
        let rows = [
            row("peer/floor/sweep/1000", 10_000),
            row("peer/nats/sweep/1000", 20_000),
            row("peer/nats/sweep/2000", 40_000),
            row("peer/nats/hop/1000", 30_000),
        ];
        let curves = curves(&rows);
        assert_eq!(
            curves.iter().map(|(name, p)| (*name, p.len())).collect::<Vec<_>>(),
            [("floor", 1), ("nats", 2)]
        );
        let svg = sweep(&rows).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2 * 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(sweep(&rows[3..]).is_none());
    }

    #[test]
    fn slower_is_higher_and_more_is_further_right() {
        let scale = Scale { low_hz: 1_000.0, octaves: 10.0, low_log: 3.0, high_log: 7.0 };
        assert!(scale.y(1e6) < scale.y(1e4));
        assert!(scale.x(0, 2_000.0) > scale.x(0, 1_000.0));
        assert!(scale.x(1, 1_000.0) > scale.x(0, 1_024_000.0));
    }
}
