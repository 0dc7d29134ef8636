//! Machines on paper, for tests: a text that holds many files becomes a folder.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Root;

/// A folder of its own, gone when dropped.
pub struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Each line `=== path` begins a file; what follows, up to the next, is in it.
    pub fn parse(text: &str) -> Self {
        let files: Vec<_> = text
            .split("=== ")
            .skip(1)
            .map(|file| file.split_once('\n').expect("a path ends with its line"))
            .collect();
        Self::of(&files)
    }

    pub fn of(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("clasp-rt-tree-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a file lies in a folder")).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    pub fn root(&self) -> Root {
        Root::at(&self.folder)
    }

    /// Changes or adds one file.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // It was never made when no file was put in.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
