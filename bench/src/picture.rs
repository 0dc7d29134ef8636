//! Percentile curves as an SVG picture: how long the slowest one in a hundred, thousand, … took.
//!
//! Written by hand, because one picture of lines and labels does not justify a plotting library.

use std::fmt::Write;

use clasp_rt_perf::histogram::Latency;

const WIDTH: f64 = 1020.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;

/// Told apart also by people who do not see red against green.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c8c00"];

pub struct Curve<'a> {
    pub name: &'a str,
    pub latency: &'a Latency,
    /// Drawn dashed: something to compare with.
    pub reference: bool,
}

/// Draws `curves` over nines of percentile, with latency on a logarithmic scale.
pub fn percentile_curves(title: &str, curves: &[Curve<'_>]) -> String {
    let scale = Scale::covering(curves);
    let mut svg = String::new();
    push(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"28\" font-size=\"17\">{}</text>\n",
            escaped(title)
        ),
    );
    grid(&mut svg, &scale);
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = match (curve.reference, index < COLOURS.len()) {
            (true, _) => " stroke-dasharray=\"7 4\"",
            // Colours come again: dots tell the second use from the first.
            (false, false) => " stroke-dasharray=\"2 3\"",
            (false, true) => "",
        };
        let mut points = String::new();
        for point in curve.latency.curve() {
            let x = scale.x(point.quantile);
            push(&mut points, format_args!("{x:.1},{:.1} ", scale.y(point.value_ns as f64)));
        }
        let y = TOP + 14.0 + 22.0 * index as f64;
        let x = WIDTH - RIGHT + 14.0;
        push(
            &mut svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash} \
                 points=\"{}\"/>\n\
                 <line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"{dash}/><text x=\"{}\" y=\"{}\">{}</text>\n",
                points.trim_end(),
                x + 26.0,
                x + 32.0,
                y + 4.0,
                escaped(curve.name)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
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

fn grid(svg: &mut String, scale: &Scale) {
    for nines in 0..=scale.nines as i32 {
        let quantile = 1.0 - 10_f64.powi(-nines);
        let x = scale.x(quantile);
        let decimals = usize::try_from(nines - 2).unwrap_or(0);
        push(
            svg,
            format_args!(
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{:.decimals$}%</text>\n",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 20.0,
                quantile * 100.0
            ),
        );
    }
    for power in scale.low_log as i32..=scale.high_log as i32 {
        let y = scale.y(10_f64.powi(power));
        push(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                unit(power)
            ),
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    push(
        svg,
        format_args!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">share of messages that were as \
             fast or faster</text>\n",
            HEIGHT - 14.0
        ),
    );
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

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
