//! `clasp-rt watch`: the newest value of each address, as a table that keeps itself up to date.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use super::client::{Limit, RouterArgs, Seen, listen, unless_closed};
use super::value;
use crate::plain;

#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Which addresses: `*` is one segment, `**` any number of them
    #[arg(default_value = "/**")]
    pattern: String,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    limit: Limit,
}

/// Faster than this nobody reads, and the terminal would fall behind.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Without a terminal there is no screen to fill: every row is drawn.
const ROWS_WITHOUT_TERMINAL: usize = usize::MAX;

pub fn run(args: &WatchArgs) -> Result<(), Failure> {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut table = Table::default();
    let mut drawn: Option<Instant> = None;
    let seen = listen(&args.router, &args.pattern, &args.limit, |seen| {
        match seen {
            Some(seen) => table.update(seen),
            // Nothing more waits: what changed is shown.
            None if drawn.is_none_or(|at| at.elapsed() >= REDRAW_EVERY) && table.changed => {
                drawn = Some(Instant::now());
                draw(&mut stdout.lock(), &mut table, terminal)?;
            }
            None => {}
        }
        Ok(())
    });
    if table.changed {
        draw(&mut stdout.lock(), &mut table, terminal).or_else(unless_closed)?;
    }
    seen
}

fn draw(out: &mut impl Write, table: &mut Table, terminal: bool) -> io::Result<()> {
    table.changed = false;
    let size = terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    // A terminal without a window says that it has no rows.
    let size = size.filter(|size| size.ws_row > 0 && size.ws_col > 0);
    let (rows, columns) = match size {
        // One line for the heading, one for the count of what is not shown, one for the prompt.
        Some(size) => (usize::from(size.ws_row).saturating_sub(3), usize::from(size.ws_col)),
        None => (ROWS_WITHOUT_TERMINAL, 100),
    };
    if terminal {
        out.write_all(b"\x1b[H\x1b[2J")?; // Home, and clear to the end.
    }
    out.write_all(table.text(rows, columns.max(COLUMNS_MIN)).as_bytes())?;
    out.flush()
}

/// The heading and a few characters of each column; a narrower terminal wraps.
const COLUMNS_MIN: usize = 60;

/// What was heard last of each address.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, Row>,
    changed: bool,
}

struct Row {
    kind: &'static str,
    value: String,
    /// How often it was heard.
    count: u64,
}

impl Table {
    fn update(&mut self, seen: &Seen) {
        let address = plain::line(&seen.address);
        let count = self.rows.get(&address).map_or(0, |row| row.count) + 1;
        let row = Row { kind: seen.kind, value: value::show(&seen.value), count };
        self.rows.insert(address, row);
        self.changed = true;
    }

    fn text(&self, rows_max: usize, columns: usize) -> String {
        let longest = self.rows.keys().map(|address| address.chars().count()).max();
        let width = longest.unwrap_or(0).clamp("ADDRESS".len(), columns / 2);
        let rest = columns.saturating_sub(width + 20);
        let mut text = format!("{:<width$}  {:<8} {:>7}  VALUE\n", "ADDRESS", "KIND", "COUNT");
        for (address, Row { kind, value, count }) in self.rows.iter().take(rows_max) {
            let (address, value) = (cut(address, width), cut(value, rest));
            let _ = writeln!(text, "{address:<width$}  {kind:<8} {count:>7}  {value}");
        }
        if self.rows.len() > rows_max {
            let _ = writeln!(text, "... and {} more", self.rows.len() - rows_max);
        }
        text
    }
}

/// The first `width` characters; the last of them says that there would be more.
fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use clasp_rt_client::Val;

    use super::*;

    fn seen(address: &str, value: i64) -> Seen {
        Seen { address: address.to_owned(), kind: "param", value: Val::Int(value), revision: None }
    }

    #[test]
    fn the_table_keeps_the_newest_value_of_each_address_in_order() {
        let mut table = Table::default();
        for update in [seen("/b", 1), seen("/a", 2), seen("/b", 3)] {
            table.update(&update);
        }
        let text = table.text(10, 60);
        let rows: Vec<Vec<_>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["/a", "param", "1", "2"], ["/b", "param", "2", "3"]]);
    }

    #[test]
    fn an_address_commands_no_terminal() {
        let mut table = Table::default();
        table.update(&seen("/a\x1b[2J\n/b", 1));
        let text = table.text(10, 60);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(text.contains("/a\\u{1b}[2J\\n/b"), "{text:?}");
    }

    #[test]
    fn what_does_not_fit_is_cut_or_counted() {
        let mut table = Table::default();
        for index in 0..5 {
            table.update(&seen(&format!("/a/very/long/address/of/lamp/{index}"), index));
        }
        let text = table.text(3, COLUMNS_MIN);
        assert_eq!(text.lines().count(), 5);
        assert_eq!(text.lines().last(), Some("... and 2 more"));
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS_MIN, "{line}");
        }
        let cases = [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöüß", 3, "äö…"), ("", 3, "")];
        for (text, width, expected) in cases {
            assert_eq!(cut(text, width), expected);
        }
    }
}
