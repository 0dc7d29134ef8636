//! Where the time goes, as a picture: the stacks of `perf script` as a flame graph.
//!
//! Drawn here, because a flame graph is rectangles, and the crates that draw them have licences
//! that this repository does not take.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::svg::{Svg, escaped};

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 44.0;
/// Narrower frames are not drawn; their time still is part of their callers'.
const WIDTH_MIN: f64 = 0.4;
/// A letter of the text inside a frame.
const LETTER: f64 = 6.6;
/// Functions of the list of those that themselves take most.
const LIST: usize = 40;

/// The arguments of `clasp-bench flame`.
#[derive(clap::Args)]
pub struct Command {
    /// What `perf script -F comm,ip,sym` printed.
    script: PathBuf,
    #[arg(long, default_value = "samples")]
    title: String,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE")]
    svg: PathBuf,
}

impl Command {
    /// Draws the picture, and prints the list.
    pub fn run(&self) -> io::Result<()> {
        let stacks = Stacks::read(&String::from_utf8_lossy(&fs::read(&self.script)?));
        if stacks.samples == 0 {
            let message = format!("{} holds no stacks", self.script.display());
            return Err(io::Error::other(message));
        }
        fs::write(&self.svg, stacks.svg(&self.title))?;
        print!("{}", stacks.list());
        Ok(())
    }
}

/// Calls and what they call, with how many samples were taken inside.
#[derive(Debug, Default, PartialEq)]
struct Stacks {
    samples: u64,
    calls: BTreeMap<String, Stacks>,
}

impl Stacks {
    /// Reads what `perf script -F comm,ip,sym` prints: a line that names the thread, then one for
    /// each frame, innermost first, then an empty line.
    fn read(script: &str) -> Self {
        let mut all = Self::default();
        let mut frames: Vec<&str> = Vec::new();
        // One empty line more, so that the last stack ends too.
        for line in script.lines().chain([""]) {
            match line.trim().split_once(' ') {
                Some((address, symbol)) if line.starts_with(char::is_whitespace) => {
                    let is_address = address.bytes().all(|byte| byte.is_ascii_hexdigit());
                    frames.extend(is_address.then(|| plain(symbol.trim())));
                }
                _ if !frames.is_empty() && line.trim().is_empty() => {
                    all.add(frames.drain(..).rev());
                }
                _ => {}
            }
        }
        all
    }

    fn add<'a>(&mut self, outermost_first: impl Iterator<Item = &'a str>) {
        self.samples += 1;
        let mut at = self;
        for frame in outermost_first {
            at = at.calls.entry(frame.to_owned()).or_default();
            at.samples += 1;
        }
    }

    /// Samples in which the function itself ran, and nothing that it called.
    fn own(&self) -> u64 {
        self.samples - self.calls.values().map(|call| call.samples).sum::<u64>()
    }

    fn depth(&self) -> usize {
        self.calls.values().map(|call| 1 + call.depth()).max().unwrap_or(0)
    }

    /// The functions that themselves take most, with their share.
    fn list(&self) -> String {
        let mut own = BTreeMap::new();
        self.sum_own(&mut own);
        let mut sorted: Vec<_> = own.into_iter().collect();
        sorted.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        let mut out = String::new();
        for (name, samples) in sorted.into_iter().take(LIST) {
            out += &format!("{:6.2} %  {name}\n", self.percent(samples));
        }
        out
    }

    fn sum_own<'a>(&'a self, own: &mut BTreeMap<&'a str, u64>) {
        for (name, call) in &self.calls {
            *own.entry(name).or_default() += call.own();
            call.sum_own(own);
        }
    }

    fn percent(&self, samples: u64) -> f64 {
        100.0 * samples as f64 / self.samples.max(1) as f64
    }

    /// The picture: callers below, what they call above, as wide as their share.
    fn svg(&self, title: &str) -> String {
        let height = TOP + ROW * (self.depth() + 1) as f64 + 12.0;
        let title = format!("{title}, {} samples", self.samples);
        let mut svg = Svg::new((WIDTH, height), ("monospace", 11), (12.0, &title));
        self.draw(&mut svg, self.samples, 0.0, height - ROW - 8.0);
        svg.finish()
    }

    fn draw(&self, svg: &mut Svg, all: u64, mut left: f64, bottom: f64) {
        for (name, call) in &self.calls {
            let width = WIDTH * call.samples as f64 / all.max(1) as f64;
            if width >= WIDTH_MIN {
                let share = 100.0 * call.samples as f64 / all as f64;
                let shown: String = name.chars().take((width / LETTER) as usize).collect();
                svg.push(format_args!(
                    "<g><title>{name}: {share:.2} %, itself {:.2} %</title>\
                     <rect x=\"{left:.1}\" y=\"{bottom:.1}\" width=\"{width:.1}\" \
                     height=\"{}\" fill=\"{}\" stroke=\"#fff\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>\n",
                    100.0 * call.own() as f64 / all as f64,
                    ROW - 1.0,
                    colour(name),
                    left + 2.0,
                    bottom + 12.0,
                    escaped(&shown),
                    name = escaped(name),
                ));
                call.draw(svg, all, left, bottom - ROW);
            }
            left += width;
        }
    }
}

/// Ours, the library's and the kernel's, told apart also by people who do not see red and green.
fn colour(name: &str) -> &'static str {
    match name {
        _ if name.contains("clasp_rt_core") => "#e69f00",
        _ if name.contains("clasp_rt") => "#f0c96a",
        _ if name.contains("::") => "#9ecae8",
        _ => "#d0d0d0",
    }
}

/// Without the hash that the compiler appends, so that pictures of two builds can be compared.
fn plain(symbol: &str) -> &str {
    let (name, hash) = symbol.rsplit_once("::h").unwrap_or((symbol, ""));
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { name } else { symbol }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
shard 0
\t55a0 clasp_rt_core::shard::Shard::step::h0123456789abcdef
\t55b0 clasp_rt::edge::turn
\t55c0 main

shard 0
\t55b4 clasp_rt::edge::turn
\t55c0 main

shard 0
        ffffffff81 do_syscall_64
        55c0 main
";

    #[test]
    fn samples_are_counted_where_they_were_taken_and_in_all_callers() {
        let stacks = Stacks::read(SCRIPT);
        assert_eq!((stacks.samples, stacks.depth()), (3, 3));
        let main = &stacks.calls["main"];
        assert_eq!((main.samples, main.own()), (3, 0));
        let turn = &main.calls["clasp_rt::edge::turn"];
        assert_eq!((turn.samples, turn.own()), (2, 1));
        assert_eq!(turn.calls["clasp_rt_core::shard::Shard::step"].own(), 1);
        let list = stacks.list();
        assert_eq!(list.lines().count(), 4);
        assert!(list.contains(" 33.33 %  do_syscall_64") && list.contains("  0.00 %  main"));
    }

    #[test]
    fn a_frame_is_as_wide_as_its_share() {
        let svg = Stacks::read(SCRIPT).svg("a <run>");
        assert!(svg.contains("a &lt;run&gt;, 3 samples"), "{svg}");
        assert_eq!(svg.matches("<g>").count(), 4);
        assert!(svg.contains("width=\"1200.0\"") && svg.contains("width=\"800.0\""), "{svg}");
        assert!(svg.contains("main: 100.00 %, itself 0.00 %"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        let stacks = Stacks::read("");
        assert_eq!(stacks, Stacks::default());
        assert!(!stacks.svg("nothing").contains("NaN"));
    }
}
