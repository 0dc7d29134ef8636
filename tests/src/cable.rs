//! Two ends of a serial line, each a device file: what a USB adapter and its device are joined by.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::eventually;
use crate::program::Program;

/// A pair of pseudo terminals, joined by socat, at paths that stay when it is plugged in again.
pub struct Cable {
    ends: [PathBuf; 2],
    program: Option<Program>,
}

impl Cable {
    /// One that is not plugged in yet.
    pub fn unplugged() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let end = |which: &str| {
            let name = format!("clasp-rt-tty-{}-{number}-{which}", std::process::id());
            std::env::temp_dir().join(name)
        };
        Self { ends: [end("host"), end("device")], program: None }
    }

    /// One that is plugged in.
    pub fn new() -> Self {
        let mut cable = Self::unplugged();
        cable.plug();
        cable
    }

    /// One whose device says whatever it is told.
    pub fn looped() -> Self {
        let mut cable = Self::unplugged();
        let mut socat = Command::new("socat");
        socat.arg(format!("pty,raw,echo=0,link={}", cable.host())).arg("pipe");
        cable.program = Some(Program::start(&mut socat));
        eventually("socat makes its end", || cable.ends[0].exists().then_some(()));
        cable
    }

    /// Where the bridge finds its line.
    pub fn host(&self) -> &str {
        self.ends[0].to_str().expect("a path of ours")
    }

    /// Where its device is.
    pub fn device(&self) -> &str {
        self.ends[1].to_str().expect("a path of ours")
    }

    pub fn plug(&mut self) {
        let end = |path: &PathBuf| format!("pty,raw,echo=0,link={}", path.display());
        let mut socat = Command::new("socat");
        socat.args(self.ends.iter().map(end));
        self.program = Some(Program::start(&mut socat));
        eventually("socat makes both ends", || {
            self.ends.iter().all(|end| end.exists()).then_some(())
        });
    }

    /// Both ends are gone.
    pub fn unplug(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.terminate();
        }
        // Killed, it leaves its links behind.
        for end in &self.ends {
            let _ = std::fs::remove_file(end);
        }
    }
}

impl Default for Cable {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.program = None;
        for end in &self.ends {
            let _ = std::fs::remove_file(end);
        }
    }
}
