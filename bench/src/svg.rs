//! Pictures as SVG text, written by hand, because lines and labels do not justify a library.

use std::fmt::{Arguments, Write};

/// Told apart also by people who do not see red against green.
pub const COLOURS: [&str; 9] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c8c00",
    "#7f3f98",
];

/// What a curve is drawn with that others are held against.
pub const DASHED: &str = " stroke-dasharray=\"7 4\"";

/// A picture that grows.
pub struct Svg(String);

impl Svg {
    /// White, with a title at the upper left. `font`: a generic family and its size.
    pub fn new((width, height): (f64, f64), font: (&str, u8), title: (f64, &str)) -> Self {
        let ((family, size), (left, title)) = (font, title);
        let mut svg = Self(String::new());
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"{family}\" font-size=\"{size}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"26\" font-size=\"17\">{}</text>\n",
            escaped(title)
        ));
        svg
    }

    pub fn push(&mut self, text: Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String cannot fail");
    }

    /// A curve through `points`, `x,y` each and a space between them.
    pub fn curve(&mut self, points: &str, colour: &str, dash: &str) {
        self.push(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash} \
             points=\"{}\"/>\n",
            points.trim_end()
        ));
    }

    /// A line of the legend, with a piece of the curve that it names.
    pub fn legend(&mut self, (x, y): (f64, f64), colour: &str, dash: &str, name: &str) {
        self.push(format_args!(
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" \
             stroke-width=\"2\"{dash}/><text x=\"{}\" y=\"{}\">{}</text>\n",
            x + 26.0,
            x + 32.0,
            y + 4.0,
            escaped(name)
        ));
    }

    /// The whole picture.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Text that stands in a picture as it is.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_a_picture_as_they_are() {
        let mut svg = Svg::new((10.0, 20.0), ("monospace", 11), (1.0, "a <run>"));
        svg.legend((1.0, 2.0), COLOURS[0], DASHED, "this & that");
        let text = svg.finish();
        assert!(text.contains("a &lt;run&gt;") && text.contains("this &amp; that"), "{text}");
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"), "{text}");
    }
}
