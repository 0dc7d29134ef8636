//! Easing curves: how a level moves from 0 to 1. Pure; every curve keeps both ends.

use std::f64::consts::{PI, TAU};

use serde::Deserialize;

/// The shape of an easing, by the names that animation tools share (`in` starts slowly, `out` ends
/// slowly). `ease`, as in CSS, is a cubic Bézier; elastic and back-and-forth shapes leave 0..=1
/// between their ends.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Curve {
    Linear,
    EaseIn,
    EaseOut,
    EaseInOut,
    QuadIn,
    QuadOut,
    QuadInOut,
    CubicIn,
    CubicOut,
    CubicInOut,
    ExpoIn,
    ExpoOut,
    ExpoInOut,
    SineIn,
    SineOut,
    SineInOut,
    CircIn,
    CircOut,
    CircInOut,
    ElasticIn,
    ElasticOut,
    BounceOut,
    /// From (0, 0) to (1, 1) with two control points; `x1` and `x2` in 0..=1, as in CSS.
    Bezier {
        x1: f64,
        y1: f64,
        x2: f64,
        y2: f64,
    },
}

impl Curve {
    /// The curve's height at `x`, which is first limited to 0..=1. NaN stays NaN.
    pub fn at(self, x: f64) -> f64 {
        let x = x.clamp(0.0, 1.0);
        // The formulas of expo, elastic and Bézier miss the ends by a rounding error.
        if x == 0.0 || x == 1.0 || x.is_nan() {
            return x;
        }
        match self {
            Self::Linear => x,
            Self::EaseIn => bezier(0.42, 0.0, 1.0, 1.0, x),
            Self::EaseOut => bezier(0.0, 0.0, 0.58, 1.0, x),
            Self::EaseInOut => bezier(0.42, 0.0, 0.58, 1.0, x),
            Self::QuadIn => quad(x),
            Self::QuadOut => reversed(quad, x),
            Self::QuadInOut => both(quad, x),
            Self::CubicIn => cubic(x),
            Self::CubicOut => reversed(cubic, x),
            Self::CubicInOut => both(cubic, x),
            Self::ExpoIn => expo(x),
            Self::ExpoOut => reversed(expo, x),
            Self::ExpoInOut => both(expo, x),
            Self::SineIn => sine(x),
            Self::SineOut => reversed(sine, x),
            Self::SineInOut => both(sine, x),
            Self::CircIn => circ(x),
            Self::CircOut => reversed(circ, x),
            Self::CircInOut => both(circ, x),
            Self::ElasticIn => elastic(x),
            Self::ElasticOut => reversed(elastic, x),
            Self::BounceOut => bounce_out(x),
            Self::Bezier { x1, y1, x2, y2 } => bezier(x1, y1, x2, y2, x),
        }
    }
}

/// `in` played backwards and upside down is `out`.
fn reversed(shape: fn(f64) -> f64, x: f64) -> f64 {
    1.0 - shape(1.0 - x)
}

/// `in` over the first half, `out` over the second.
fn both(shape: fn(f64) -> f64, x: f64) -> f64 {
    if x < 0.5 { shape(2.0 * x) / 2.0 } else { 1.0 - shape(2.0 - 2.0 * x) / 2.0 }
}

fn quad(x: f64) -> f64 {
    x * x
}

fn cubic(x: f64) -> f64 {
    x * x * x
}

fn expo(x: f64) -> f64 {
    (10.0 * (x - 1.0)).exp2()
}

fn sine(x: f64) -> f64 {
    1.0 - (x * PI / 2.0).cos()
}

fn circ(x: f64) -> f64 {
    1.0 - (1.0 - x * x).sqrt()
}

fn elastic(x: f64) -> f64 {
    -(10.0 * (x - 1.0)).exp2() * ((10.0 * x - 10.75) * TAU / 3.0).sin()
}

/// Four parabolas, each half as wide and a quarter as high as the one before.
fn bounce_out(x: f64) -> f64 {
    const WIDTH: f64 = 2.75;
    const STEEPNESS: f64 = WIDTH * WIDTH;
    let (centre, floor) = match x * WIDTH {
        x if x < 1.0 => (0.0, 0.0),
        x if x < 2.0 => (1.5, 0.75),
        x if x < 2.5 => (2.25, 0.9375),
        _ => (2.625, 0.984_375),
    };
    let away = x - centre / WIDTH;
    STEEPNESS * away * away + floor
}

/// The height of a cubic Bézier at `x`. Its own parameter is found by halving, because Newton's
/// method stalls where the curve stands upright; 52 halvings use up the mantissa.
fn bezier(x1: f64, y1: f64, x2: f64, y2: f64, x: f64) -> f64 {
    let along = |first: f64, second: f64, t: f64| {
        let rest = 1.0 - t;
        3.0 * rest * rest * t * first + 3.0 * rest * t * t * second + t * t * t
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..52 {
        let middle = (low + high) / 2.0;
        if along(x1, x2, middle) < x { low = middle } else { high = middle }
    }
    along(y1, y2, (low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Curve; 23] = [
        Curve::Linear,
        Curve::EaseIn,
        Curve::EaseOut,
        Curve::EaseInOut,
        Curve::QuadIn,
        Curve::QuadOut,
        Curve::QuadInOut,
        Curve::CubicIn,
        Curve::CubicOut,
        Curve::CubicInOut,
        Curve::ExpoIn,
        Curve::ExpoOut,
        Curve::ExpoInOut,
        Curve::SineIn,
        Curve::SineOut,
        Curve::SineInOut,
        Curve::CircIn,
        Curve::CircOut,
        Curve::CircInOut,
        Curve::ElasticIn,
        Curve::ElasticOut,
        Curve::BounceOut,
        Curve::Bezier { x1: 0.25, y1: 0.1, x2: 0.25, y2: 1.0 },
    ];

    #[test]
    fn every_curve_keeps_both_ends_and_limits_what_lies_outside() {
        for curve in ALL {
            for (x, y) in [(0.0, 0.0), (1.0, 1.0), (-3.0, 0.0), (7.0, 1.0), (f64::INFINITY, 1.0)] {
                assert_eq!(curve.at(x), y, "{curve:?} at {x}");
            }
            assert!(curve.at(f64::NAN).is_nan(), "{curve:?}");
        }
    }

    #[test]
    fn curves_have_their_published_heights() {
        let cases = [
            (Curve::Linear, 0.25, 0.25),
            (Curve::EaseIn, 0.5, 0.315_357),
            (Curve::EaseOut, 0.5, 0.684_643),
            (Curve::EaseInOut, 0.25, 0.129_162),
            (Curve::EaseInOut, 0.5, 0.5),
            (Curve::QuadIn, 0.5, 0.25),
            (Curve::QuadOut, 0.5, 0.75),
            (Curve::QuadInOut, 0.25, 0.125),
            (Curve::QuadInOut, 0.75, 0.875),
            (Curve::CubicIn, 0.5, 0.125),
            (Curve::CubicOut, 0.5, 0.875),
            (Curve::CubicInOut, 0.25, 0.0625),
            (Curve::ExpoIn, 0.5, 0.03125),
            (Curve::ExpoOut, 0.5, 0.96875),
            (Curve::ExpoInOut, 0.25, 0.015_625),
            (Curve::SineIn, 0.5, 0.292_893),
            (Curve::SineOut, 0.25, 0.382_683),
            (Curve::SineInOut, 0.25, 0.146_447),
            (Curve::CircIn, 0.6, 0.2),
            (Curve::CircOut, 0.4, 0.8),
            (Curve::CircInOut, 0.3, 0.1),
            (Curve::ElasticIn, 0.5, -0.015_625),
            (Curve::ElasticOut, 0.5, 1.015_625),
            (Curve::BounceOut, 0.2, 0.3025),
            (Curve::BounceOut, 0.5, 0.765_625),
            (Curve::BounceOut, 0.8, 0.94),
            (Curve::BounceOut, 0.95, 0.984_531),
            (Curve::Bezier { x1: 0.25, y1: 0.1, x2: 0.25, y2: 1.0 }, 0.5, 0.802_403),
        ];
        for (curve, x, y) in cases {
            let found = curve.at(x);
            assert!((found - y).abs() < 1e-6, "{curve:?} at {x}: {found}, should be {y}");
        }
    }

    #[test]
    fn curves_are_named_in_snake_case_and_a_bezier_by_its_points() {
        let cases = [
            (r#""ease_in_out""#, Curve::EaseInOut),
            (r#""bounce_out""#, Curve::BounceOut),
            (
                r#"{"bezier":{"x1":0.1,"y1":0,"x2":0.9,"y2":1}}"#,
                Curve::Bezier { x1: 0.1, y1: 0.0, x2: 0.9, y2: 1.0 },
            ),
        ];
        for (text, curve) in cases {
            assert_eq!(serde_json::from_str::<Curve>(text).expect(text), curve);
        }
        assert!(serde_json::from_str::<Curve>(r#""ease_sideways""#).is_err());
    }
}
