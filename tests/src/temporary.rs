//! Files and folders of one test, which go with it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with these contents.
pub struct TempFile {
    pub path: PathBuf,
}

impl TempFile {
    pub fn new(extension: &str, contents: &str) -> Self {
        let path = unused().with_extension(extension);
        std::fs::write(&path, contents).expect("the folder for temporary files can be written");
        Self { path }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An empty folder.
pub struct TempFolder(PathBuf);

impl TempFolder {
    pub fn new() -> Self {
        let folder = unused();
        std::fs::create_dir(&folder).expect("the folder for temporary files can be written");
        Self(folder)
    }

    /// The path of a file in it, as programs are told it.
    pub fn file(&self, name: &str) -> String {
        self.join(name).display().to_string()
    }
}

impl Default for TempFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for TempFolder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A path that no other test of this machine has.
fn unused() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("clasp-rt-test-{}-{number}", std::process::id()))
}
