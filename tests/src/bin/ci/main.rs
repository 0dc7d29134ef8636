//! Everything that must hold before a change is taken, in one command: `cargo ci`.
//!
//! `cargo ci STEP...` runs only the named steps; `cargo ci counts --write` renews what a message
//! may cost. The second tier, `cargo ci hardware`, runs last, where there is time for it. What is
//! not here: advisories about dependencies, because their list has to be fetched and this runs
//! offline; Miri and loom, which run at night.

mod licences;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<(), String>,
}

/// In the order in which they run: what fails soonest comes first.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "every file is as rustfmt would write it",
        run: || cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "tidy",
        about: "the rules of this repository hold",
        run: || cargo(&["test", "--package", "clasp-rt-tests", "--test", "tidy"]),
    },
    Step { name: "licences", about: "every dependency may be shipped", run: licences::check },
    Step {
        name: "lints",
        about: "clippy has nothing to say",
        run: || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step {
        name: "features",
        about: "without MIDI ports, and with JACK's, clippy has nothing to say either",
        run: || {
            // Of the whole workspace, so that everything but the program is as `lints` left it.
            let clippy = ["clippy", "--workspace", "--all-targets"];
            for features in [&["--no-default-features"][..], &["--features", "clasp-rt/jack"]] {
                cargo(&[&clippy, features, &["--", "-D", "warnings"]].concat())?;
            }
            Ok(())
        },
    },
    Step {
        name: "docs",
        about: "the documentation builds without a warning",
        run: || {
            let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
            run(command(&arguments).env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step {
        name: "build",
        about: "the program builds as it is shipped",
        run: || cargo(&["build", "--release", "--package", "clasp-rt"]),
    },
    Step {
        name: "counts",
        about: "a message costs no more instructions, system calls or allocations than committed",
        run: || counts(&[]),
    },
    Step {
        name: "fuzz",
        about: "hostile bytes for every decoder, four seconds each",
        run: || cargo(&[CHAOS, &["fuzz", "all", "--seconds", "4", "--seed", "1"]].concat()),
    },
    Step {
        name: "simulation",
        about: "200 seeds of simulated networks",
        run: || cargo(&[CHAOS, &["run", "--seeds", "200"]].concat()),
    },
    Step {
        name: "tests",
        about: "all tests, end to end against the program as it is shipped",
        run: || {
            let shipped = target_folder()?.join("release/clasp-rt");
            run(command(&["test", "--workspace", "--no-fail-fast"]).env("CLASP_RT_BIN", shipped))
        },
    },
];

/// The second tier: what takes a virtual machine, and another build of the router.
const HARDWARE: Step = Step {
    name: "hardware",
    about: "MIDI ports of ALSA and JACK, and adapters on USB, in a kernel that has them",
    run: hardware,
};

/// With less time left of half an hour, the second tier is left to `cargo ci hardware`.
const FIRST_TIER_MAX: Duration = Duration::from_secs(19 * 60);

const CHAOS: &[&str] = &["run", "--release", "--quiet", "--package", "clasp-rt-chaos", "--"];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted == ["counts", "--write"] {
        return match counts(&["--write"]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("==== {why}");
                ExitCode::FAILURE
            }
        };
    }
    let steps = || STEPS.iter().chain([&HARDWARE]);
    if let Some(stranger) = wanted.iter().find(|name| steps().all(|step| step.name != **name)) {
        let names: Vec<_> = steps().map(|step| step.name).collect();
        eprintln!("there is no step `{stranger}`; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    let start = Instant::now();
    for step in steps().filter(|step| wanted.is_empty() || wanted.iter().any(|w| w == step.name)) {
        eprintln!("\n==== {}: {}", step.name, step.about);
        if wanted.is_empty()
            && step.name == HARDWARE.name
            && let Err(why) = second_tier(start.elapsed())
        {
            eprintln!("==== {} left out: {why}; it has a command of its own", step.name);
            eprintln!("==== to run it: cargo ci {}", step.name);
            continue;
        }
        let start = Instant::now();
        if let Err(why) = (step.run)() {
            eprintln!("==== {} failed after {:.0?}: {why}", step.name, start.elapsed());
            eprintln!("==== to run it again: cargo ci {}", step.name);
            return ExitCode::FAILURE;
        }
        eprintln!("==== {} passed in {:.1?}", step.name, start.elapsed());
    }
    eprintln!("\n==== all passed in {:.0?}", start.elapsed());
    ExitCode::SUCCESS
}

/// Holds what a message costs against `bench/counts.toml`, or with `--write` puts it there.
fn counts(arguments: &[&str]) -> Result<(), String> {
    cargo(&["build", "--release", "--package", "clasp-rt"])?;
    cargo(&["build", "--release", "--package", "clasp-rt-bench"])?;
    cargo(&["build", "--release", "--package", "clasp-rt-core", "--example", "instructions"])?;
    let built = target_folder()?.join("release");
    let mut bench = Command::new(built.join("clasp-bench"));
    bench.arg("counts").arg("--spawn").arg(built.join("clasp-rt"));
    run(bench.args(arguments).current_dir(root()))
}

/// Whether the second tier can run after `elapsed`; else why not.
fn second_tier(elapsed: Duration) -> Result<(), String> {
    if elapsed > FIRST_TIER_MAX {
        return Err(format!("everything before it took {elapsed:.0?}"));
    }
    run(Command::new("bash").arg("tests/hwvm.sh").arg("--prepare").current_dir(root()))
}

fn hardware() -> Result<(), String> {
    cargo(&["build", "--release", "--package", "clasp-rt"])?;
    // Built where everything else is built, and kept under another name: most of it is the same.
    let plain = ["build", "--package", "clasp-rt"];
    cargo(&[&plain[..], &["--features", "jack"]].concat())?;
    let built = target_folder()?;
    let jack = built.join("debug/clasp-rt-jack");
    let copied = std::fs::copy(built.join("debug/clasp-rt"), &jack);
    cargo(&plain)?;
    copied.map_err(|why| format!("{} cannot be made: {why}", jack.display()))?;
    let tests = ["test", "--package", "clasp-rt-tests", "--test", "hardware", "--test", "jack"];
    let mut tests = command(&[&tests[..], &["--", "--ignored", "--skip", "guest::"]].concat());
    tests.env("CLASP_RT_BIN", built.join("release/clasp-rt")).env("CLASP_RT_JACK_BIN", jack);
    run(&mut tests)
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    run(&mut command(arguments))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|why| format!("{command:?} does not start: {why}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Where cargo puts what it builds: this program lies in `<target>/<profile>`.
fn target_folder() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|why| format!("no path of this program: {why}"))?;
    let folder = here.ancestors().nth(2).ok_or("this program lies outside a target folder")?;
    Ok(folder.to_path_buf())
}
