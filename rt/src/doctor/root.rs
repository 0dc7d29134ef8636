//! Where the kernel's files are read: below `/`, or below a folder that looks like another machine.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// More than any file of procfs or sysfs that is read here: interrupts of a thousand cores.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// The folder below which `proc`, `sys` and `dev` lie.
#[derive(Clone, Debug)]
pub struct Root {
    prefix: PathBuf,
}

impl Root {
    /// This machine.
    pub fn real() -> Self {
        Self::at(Path::new("/"))
    }

    pub fn at(prefix: &Path) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Without the white space around it; `None` where there is no such file, or none to read.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.below(path)?).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = self.below(path).and_then(|path| fs::read_dir(path).ok());
        let entries = entries.into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn exists(&self, path: &str) -> bool {
        self.below(path).is_some_and(|path| path.exists())
    }

    /// Whether this process may write to a file. Nothing is written.
    pub fn opens_for_writing(&self, path: &str) -> bool {
        let opened = self.below(path).map(|path| OpenOptions::new().write(true).open(path));
        opened.is_some_and(|opened| opened.is_ok())
    }

    /// `None` for a path that leads out again: some come from files themselves.
    fn below(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path.trim_start_matches('/'));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.prefix.join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_lead_out_of_its_root() {
        let root = Root::real();
        assert!(root.read("proc/self/status").is_some());
        assert!(root.read("/proc/self/status").is_some());
        assert_eq!(root.read("/proc/../proc/self/status"), None);
        assert!(!root.exists("../proc"));
    }

    #[test]
    fn what_is_not_there_is_none_and_no_error() {
        let root = Root::at(Path::new("/proc/self/no such folder"));
        assert_eq!(root.read("/proc/stat"), None);
        assert_eq!(root.number("/proc/stat"), None);
        assert_eq!(root.names("/proc"), [""; 0]);
        assert!(!root.opens_for_writing("/dev/cpu_dma_latency"));
    }
}
