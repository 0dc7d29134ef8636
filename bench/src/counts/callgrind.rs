//! Instructions, counted by callgrind: the same number on a busy machine and on a quiet one.
//!
//! Only the program's own object counts. The C library chooses its `memcpy` and `memcmp` by the
//! processor it finds, so their instructions differ from machine to machine; ours do not. Setting
//! up costs the same whatever the number of messages is, so it falls out of the difference of two
//! runs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Messages of the shorter run, and of the longer. Both are whole turns of the counting program.
const MESSAGES: [u64; 2] = [1_600, 8_000];

/// The same where one message is a hundred or a thousand frames.
const MESSAGES_OF_CROWDS: [u64; 2] = [160, 800];

/// Instructions of one message of `case`, of `program`'s own code.
///
/// `program` follows the contract of `core/examples/instructions.rs`: `CASE N` runs N messages.
pub fn of_message(program: &Path, case: &str) -> io::Result<f64> {
    counted(program, case, own_instructions)
}

/// The same with the instructions of all libraries. They depend on the processor that they find.
pub fn of_message_in_all(program: &Path, case: &str) -> io::Result<f64> {
    counted(program, case, |profile, _| all_instructions(profile))
}

/// Finds the instructions of an object in a profile.
type Find = fn(&str, &str) -> Option<u64>;

fn counted(program: &Path, case: &str, find: Find) -> io::Result<f64> {
    let [few, many] = if case.contains("fan_out") { MESSAGES_OF_CROWDS } else { MESSAGES };
    // Side by side: the machine's load changes how long it takes, not what is counted.
    let [short, long] = [few, many].map(|messages| Run::start(program, case, messages));
    let (short, long) = (short?.instructions(find)?, long?.instructions(find)?);
    Ok(long.saturating_sub(short) as f64 / (many - few) as f64)
}

/// Cases that `program` knows.
pub fn cases(program: &Path) -> io::Result<Vec<String>> {
    let output = Command::new(program).arg("list").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// A program that runs under callgrind.
struct Run {
    child: Child,
    program: PathBuf,
    /// What callgrind writes in the end; removed with this.
    written: PathBuf,
}

impl Run {
    fn start(program: &Path, case: &str, messages: u64) -> io::Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let program = program.canonicalize()?;
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = format!("clasp-callgrind-{}-{run}", std::process::id());
        let written = std::env::temp_dir().join(name);
        let child = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", written.display()))
            .arg(&program)
            .args([case, &messages.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let message = format!("valgrind does not start: {error}; apt install valgrind");
                io::Error::new(error.kind(), message)
            })?;
        Ok(Self { child, program, written })
    }

    /// What `find` finds in the profile.
    fn instructions(mut self, find: Find) -> io::Result<u64> {
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            io::Read::read_to_string(stderr, &mut said)?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            let message = format!("{} under valgrind: {status}: {said}", self.program.display());
            return Err(io::Error::other(message));
        }
        let written = fs::read_to_string(&self.written)?;
        find(&written, &self.program.to_string_lossy()).ok_or_else(|| {
            let message = format!("callgrind counted nothing in {}", self.program.display());
            io::Error::other(message)
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both are gone already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.written);
    }
}

/// The instructions that callgrind's `profile` charges to functions of `object`; none at all is
/// `None`.
///
/// Source: Callgrind Format Specification, "Extended Example" and "Name Compression". `ob=` says
/// whose the cost lines are that follow; the line after `calls=` holds what the callee cost, which
/// is counted there already. A name stands in brackets by its number, and in full the first time.
fn own_instructions(profile: &str, object: &str) -> Option<u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut ours, mut of_callee, mut sum) = (false, false, 0);
    for line in profile.lines() {
        if let Some((key, name)) = line.split_once('=') {
            if matches!(key, "ob" | "cob") {
                let (number, full) = name.split_once(' ').unwrap_or((name, ""));
                if !full.is_empty() {
                    names.insert(number, full);
                }
                if key == "ob" {
                    ours = names.get(number).is_some_and(|found| *found == object);
                }
            }
            of_callee = key == "calls";
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            if ours && !of_callee {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
                sum += cost.unwrap_or(0);
            }
            of_callee = false;
        }
    }
    (sum > 0).then_some(sum)
}

/// All instructions of a profile.
fn all_instructions(profile: &str) -> Option<u64> {
    let total = |line: &str| line.strip_prefix("totals: ")?.trim().parse().ok();
    profile.lines().find_map(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instructions_are_the_totals_of_a_profile() {
        let profile = "events: Ir\nsummary: 12\n\nfn=(1) main\n1 12\n\ntotals: 13\n";
        assert_eq!(all_instructions(profile), Some(13));
        assert_eq!(all_instructions("events: Ir\n"), None);
    }

    #[test]
    fn only_what_the_program_itself_executed_is_counted() {
        let profile = "\
# callgrind format
positions: line
events: Ir
summary: 9000

ob=(1) /usr/lib/libc.so.6
fn=(1) memcpy
0 500
+3 40

ob=(2) /target/instructions
fl=(1) shard.rs
fn=(2) step
16 7
+1 20
cob=(1)
cfn=(1)
calls=3 0
+1 600
-2 3
fi=(2) store.rs
* 100

ob=(3) /usr/lib/ld.so
fn=(4) main
1 9
cob=(2)
cfn=(2)
calls=1 16
2 730
";
        assert_eq!(own_instructions(profile, "/target/instructions"), Some(7 + 20 + 3 + 100));
        assert_eq!(own_instructions(profile, "/usr/lib/libc.so.6"), Some(540));
        assert_eq!(own_instructions(profile, "/target/other"), None);
    }

    #[test]
    fn an_object_may_be_named_by_a_caller_first() {
        let profile = "ob=(1) /a\nfn=(1) x\n1 5\ncob=(2) /b\ncfn=(2) y\ncalls=1 0\n1 70\n\n\
                       ob=(2)\nfn=(2)\n9 70\n";
        assert_eq!(own_instructions(profile, "/b"), Some(70));
    }
}
