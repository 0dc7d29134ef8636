//! Rules of this repository that no compiler checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// Which crates of ours a crate may depend on: arrows point one way, so that each layer can be
/// read, simulated and fuzzed without those above it.
const ARROWS: &[(&str, &[&str])] = &[
    ("clasp-rt-core", &[]),
    ("clasp-rt-link", &[]),
    ("clasp-rt-ring", &[]),
    ("clasp-rt-perf", &[]),
    ("clasp-rt-client", &["core", "link"]),
    ("clasp-rt-bridges", &["core", "link"]),
    ("clasp-rt-worker", &["core", "link", "client", "bridges"]),
    ("clasp-rt", &["core", "link", "ring", "client", "bridges", "worker", "perf"]),
    ("clasp-rt-chaos", &["core", "link", "bridges", "perf", "worker"]),
    ("clasp-rt-bench", &["core", "link", "ring", "client", "perf"]),
    ("clasp-rt-tests", &[]),
];

const LINE_WIDTH_MAX: usize = 100;

/// Longer files are split: a reader holds one idea at a time.
const FILE_LINES_MAX: usize = 700;

#[test]
fn crates_depend_in_one_direction_only() {
    for (name, found) in dependencies() {
        let allowed = ARROWS.iter().find(|(known, _)| *known == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} has no line in ARROWS"));
        for target in found {
            let short = target.strip_prefix("clasp-rt-").unwrap_or(&target);
            assert!(allowed.contains(&short), "{name} must not depend on {target}");
        }
    }
}

#[test]
fn nothing_depends_on_a_published_clasp_crate() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("a Cargo.lock");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"clasp"));
    for name in names {
        assert!(name.starts_with("-rt"), "clasp{name} is a peer to test against");
    }
}

#[test]
fn unsafe_code_lies_in_io_ring_alone() {
    for (path, text) in rust_files().iter().filter(|(path, _)| !path.starts_with("io/ring")) {
        let found = code_lines(text).find(|(_, line)| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"]
                .iter()
                .any(|word| line.contains(word) && !line.contains('"'))
        });
        assert_eq!(found, None, "{} is not in io/ring", path.display());
    }
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let root = root();
    for folder in ["core", "io/link", "io/client", "bridges", "bridges/worker", "perf"] {
        let text = std::fs::read_to_string(root.join(folder).join("src/lib.rs")).expect("a lib.rs");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{folder} does not forbid unsafe code");
    }
}

#[test]
fn machines_do_not_read_the_clock() {
    let machines = ["core/src", "io/link/src", "bridges/src"];
    let in_machine = |path: &Path| machines.iter().any(|folder| path.starts_with(folder));
    for (path, text) in rust_files().iter().filter(|(path, _)| in_machine(path)) {
        let clocks = ["Instant::now", "SystemTime::now", "clock_gettime", "UNIX_EPOCH.elapsed"];
        let found =
            code_lines(text).find(|(_, line)| clocks.iter().any(|clock| line.contains(clock)));
        assert_eq!(found, None, "{}: time is a parameter of step", path.display());
    }
}

#[test]
fn the_program_reads_the_clock_in_one_place() {
    // Commands of the shell are clients, and tests have a patience of their own.
    let exempt = ["rt/src/commands", "rt/src/clock.rs"];
    let edge = |path: &Path| {
        let exempt =
            exempt.iter().any(|place| path.starts_with(place)) || path.ends_with("tests.rs");
        path.starts_with("rt/src") && !exempt
    };
    for (path, text) in rust_files().iter().filter(|(path, _)| edge(path)) {
        let clocks = ["Instant::now", "SystemTime::now", "clock_gettime"];
        let found =
            code_lines(text).find(|(_, line)| clocks.iter().any(|clock| line.contains(clock)));
        assert_eq!(found, None, "{}: rt/src/clock.rs reads the clock", path.display());
    }
}

#[test]
fn every_file_says_why_it_exists() {
    for (path, text) in rust_files() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{} begins with {first:?}", path.display());
    }
}

#[test]
fn lines_and_files_stay_short() {
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            let place = format!("{}:{}", path.display(), number + 1);
            assert!(width <= LINE_WIDTH_MAX, "{place} is {width} wide");
        }
    }
}

#[test]
fn pages_link_to_files_that_exist_and_to_tests_by_their_names() {
    let root = root();
    let pages = tracked().into_iter().filter(|path| path.extension().is_some_and(|e| e == "md"));
    let mut tests = 0;
    for page in pages {
        let Ok(text) = std::fs::read_to_string(root.join(&page)) else { continue };
        let folder = page.parent().expect("a file has a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (target, title) = link.split_once(' ').unwrap_or((link, ""));
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = root.join(folder).join(target);
            assert!(file.exists(), "{} links to {target}, which is not there", page.display());
            // The title of a link to a test file is the test that shows what the link says.
            if let Some(name) = title.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                let code = std::fs::read_to_string(&file).unwrap_or_default();
                let there = code.contains(&format!("fn {name}("));
                assert!(there, "{}: {target} has no test {name}", page.display());
                tests += 1;
            }
        }
    }
    assert!(tests > 50, "the README's table of protocols names its tests, not {tests}");
}

#[test]
fn every_bridge_has_golden_packets() {
    let root = root();
    for name in ["osc", "artnet", "sacn", "midi", "dmx"] {
        let folder = root.join("bridges/vectors").join(name);
        let count = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        assert!(count > 0, "{} holds no packet", folder.display());
    }
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Spelt apart, so that this file may be looked at too.
    let forbidden = [["/ho", "me/"], ["/ro", "ot/"], ["/wo", "rk/"], ["/tm", "p/"]];
    let forbidden = forbidden.map(|halves| halves.concat());
    let root = root();
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = forbidden.iter().find(|folder| names_folder(line, folder));
            assert_eq!(found, None, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// Whether a line names a folder from the root on, and not merely a path that contains the word.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"/._-*}".contains(c))
    })
}

#[test]
fn a_folder_is_named_when_a_path_begins_with_it() {
    let folder = ["/tm", "p/"].concat();
    let cases = [(" {}x", true), ("\"{}x\"", true), ("a{}x", false), ("..{}x", false)];
    for (line, names) in cases {
        assert_eq!(names_folder(&line.replace("{}", &folder), &folder), names, "{line}");
    }
}

/// The crates of this workspace, and those of them that each depends on, tests aside.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let name = |json: &Json| json["name"].as_str().expect("a name").to_string();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies").iter();
            let shipped = all.filter(|d| d["kind"].is_null() && name(d).starts_with("clasp-rt"));
            (name(package), shipped.map(name).collect())
        })
        .collect()
}

fn metadata() -> Json {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root());
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("metadata is JSON")
}

/// Every Rust file, its path relative to the workspace, with its text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let root = root();
    let rust = tracked().into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.filter_map(|path| Some((path.clone(), std::fs::read_to_string(root.join(path)).ok()?)))
        .collect()
}

/// Every file under version control, or about to be.
fn tracked() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are plain text");
    let files: Vec<_> = text.lines().map(PathBuf::from).collect();
    assert!(files.len() > 50, "only {} files: is this the repository?", files.len());
    files
}

/// Lines that are not comments, numbered from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    numbered.filter(|(_, line)| !line.starts_with("//"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}
