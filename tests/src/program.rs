//! Other programs, run with a deadline and their output kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// A file of this folder, where the peers and their libraries lie.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file that `setup.sh` makes.
pub fn installed(path: &str) -> PathBuf {
    let path = folder().join(path);
    assert!(path.exists(), "{} is not there: run `bash tests/setup.sh` first", path.display());
    path
}

/// The router: the one that `CLASP_RT_BIN` names, else built now as this test was.
pub fn clasp_rt() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match std::env::var_os("CLASP_RT_BIN") {
        Some(path) => path.into(),
        None => build("clasp-rt", "clasp-rt"),
    })
}

/// The load generator, built now as this test was.
pub fn clasp_bench() -> PathBuf {
    build("clasp-rt-bench", "clasp-bench")
}

fn build(package: &str, program: &str) -> PathBuf {
    // .../target/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("a test lies in a folder of its profile");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package]).current_dir(folder());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "{package} does not build");
    profile.join(program)
}

/// Runs to its end and gives all output. Panics when that takes longer than [`PATIENCE`].
pub fn run(command: &mut Command) -> Output {
    let mut program = Program::start(command);
    let status = program.wait();
    let stdout = program.lines.iter().fold(String::new(), |all, line| all + &line + "\n");
    let stderr = program.kill();
    Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() }
}

/// A running program whose output arrives line by line. Killed when dropped.
pub struct Program {
    pub child: Child,
    name: String,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{command:?}");
        let mut child =
            command.spawn().unwrap_or_else(|why| panic!("{name} does not start: {why}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = mpsc::channel();
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&errors);
        let reading_lines = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let reading_errors = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                kept.lock().expect("no reader panics").push_str(&text);
            }
        });
        Self { child, name, lines, errors, readers: vec![reading_lines, reading_errors] }
    }

    /// The next line of its output. `None`: it has closed its output.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} printed nothing more; {}", self.name, self.errors())
            }
        }
    }

    /// The next line, if there is one already.
    pub fn try_line(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Writes a line to its input.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        let written = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        written.unwrap_or_else(|why| panic!("{} does not read: {why}", self.name));
    }

    /// The first line that `wanted` accepts; those before it are gone.
    pub fn line_where(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut before = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.line() {
            if wanted(&line) {
                return line;
            }
            before.push(line);
            assert!(Instant::now() < deadline, "{} printed only {before:#?}", self.name);
        }
        panic!("{} ended after {before:#?}; {}", self.name, self.errors());
    }

    /// What it has written to standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("no reader panics").clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the program can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end; {}", self.name, self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: the program of that name is not on every machine.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} takes signals", self.name);
    }

    /// Ends it at once, and gives what it wrote to standard error.
    pub fn kill(&mut self) -> String {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.errors()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let errors = self.kill();
        if thread::panicking() && !errors.is_empty() {
            eprintln!("--- {} wrote to standard error:\n{errors}", self.name);
        }
    }
}
