//! Percentile curves as an SVG picture: how long the slowest one in a hundred, thousand, … took.

use clasp_rt_perf::histogram::Latency;

use crate::svg::{COLOURS, DASHED, Svg};

const WIDTH: f64 = 1020.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;

pub struct Curve<'a> {
    pub name: &'a str,
    pub latency: &'a Latency,
    /// Drawn dashed: something to compare with.
    pub reference: bool,
}

/// Draws `curves` over nines of percentile, with latency on a logarithmic scale.
pub fn percentile_curves(title: &str, curves: &[Curve<'_>]) -> String {
    let scale = Scale::covering(curves);
    let mut svg = Svg::new((WIDTH, HEIGHT), ("sans-serif", 13), (LEFT, title));
    grid(&mut svg, &scale);
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = match (curve.reference, index < COLOURS.len()) {
            (true, _) => DASHED,
            // Colours come again: dots tell the second use from the first.
            (false, false) => " stroke-dasharray=\"2 3\"",
            (false, true) => "",
        };
        let point = |quantile, ns| format!("{:.1},{:.1} ", scale.x(quantile), scale.y(ns));
        let points = curve.latency.curve();
        let points =
            points.into_iter().map(|it| point(it.quantile, it.value_ns as f64)).collect::<String>();
        svg.curve(&points, colour, dash);
        let place = (WIDTH - RIGHT + 14.0, TOP + 14.0 + 22.0 * index as f64);
        svg.legend(place, colour, dash, curve.name);
    }
    svg.finish()
}

/// From quantiles and nanoseconds to places in the picture.
struct Scale {
    /// How many nines the finest curve reaches: 3 is 99.9 %.
    nines: f64,
    low_log: f64,
    high_log: f64,
}

impl Scale {
    fn covering(curves: &[Curve<'_>]) -> Self {
        let summaries: Vec<_> = curves.iter().map(|curve| curve.latency.summary()).collect();
        let count = summaries.iter().map(|s| s.count).max().unwrap_or(0).max(10);
        let low = summaries.iter().map(|s| s.min_ns).min().unwrap_or(0).max(100);
        let high = summaries.iter().map(|s| s.max_ns).max().unwrap_or(0).max(low * 10);
        Self {
            nines: (count as f64).log10().ceil(),
            low_log: (low as f64).log10().floor(),
            high_log: (high as f64).log10().ceil(),
        }
    }

    fn x(&self, quantile: f64) -> f64 {
        let nines = if quantile >= 1.0 { self.nines } else { -(1.0 - quantile).log10() };
        LEFT + (WIDTH - LEFT - RIGHT) * (nines / self.nines).min(1.0)
    }

    fn y(&self, value_ns: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        let share = (value_ns.max(1.0).log10() - self.low_log) / (self.high_log - self.low_log);
        HEIGHT - BOTTOM - height * share.clamp(0.0, 1.0)
    }
}

fn grid(svg: &mut Svg, scale: &Scale) {
    for nines in 0..=scale.nines as i32 {
        let quantile = 1.0 - 10_f64.powi(-nines);
        let x = scale.x(quantile);
        let decimals = usize::try_from(nines - 2).unwrap_or(0);
        svg.push(format_args!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{:.decimals$}%</text>\n",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 20.0,
            quantile * 100.0
        ));
    }
    for power in scale.low_log as i32..=scale.high_log as i32 {
        let y = scale.y(10_f64.powi(power));
        svg.push(format_args!(
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            unit(power)
        ));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    svg.push(format_args!(
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">share of messages that were as \
             fast or faster</text>\n",
        HEIGHT - 14.0
    ));
}

/// A power of ten of nanoseconds, as people say it.
fn unit(power: i32) -> String {
    let (value, unit) = match power {
        ..3 => (10_f64.powi(power), "ns"),
        3..6 => (10_f64.powi(power - 3), "µs"),
        6..9 => (10_f64.powi(power - 6), "ms"),
        _ => (10_f64.powi(power - 9), "s"),
    };
    format!("{value:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_is_higher_and_rarer_is_further_right() {
        let mut latency = Latency::new();
        (1..=100_000).for_each(|n| latency.record(n * 100));
        let curve = Curve { name: "hop & <more>", latency: &latency, reference: false };
        let scale = Scale::covering(std::slice::from_ref(&curve));
        assert!(scale.y(1e6) < scale.y(1e4));
        assert!(scale.x(0.5) < scale.x(0.99) && scale.x(0.99) < scale.x(1.0));
        let svg = percentile_curves("A hop", &[curve]);
        assert!(svg.contains("hop &amp; &lt;more&gt;") && svg.contains("99.99%"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn decades_are_labelled_in_their_unit() {
        let cases = [(2, "100 ns"), (3, "1 µs"), (5, "100 µs"), (6, "1 ms"), (10, "10 s")];
        for (power, label) in cases {
            assert_eq!(unit(power), label);
        }
    }
}
