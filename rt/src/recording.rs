//! A recording as a person asks for it, and as it is planned.

use std::io;
use std::path::PathBuf;

use clap::Args;
use clasp_rt_bridges::record;
use clasp_rt_core::pattern;
use serde::Deserialize;

use crate::config::Bytes;
use crate::plan::{PlanError, error};
use crate::plan_types::{BridgePlan, BridgeThreadPlan, Uplink};
use crate::tape::{Reel, RingTape};

const FILE_BYTES: u64 = 256 << 20;
const FILES_MAX: usize = 16;

/// `[record]`, and the flags of `clasp-rt record`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// Folder for the files; made if it is not there
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Addresses to record; may be given more than once [default: /**]
    #[arg(long = "pattern", value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Begin the next file when one has so many bytes, such as 1GiB [default: 256 MiB]
    #[arg(long, value_name = "BYTES")]
    pub file_bytes: Option<Bytes>,
    /// Files that the folder keeps; beyond them the oldest goes [default: 16]
    #[arg(long, value_name = "COUNT")]
    pub files_max: Option<usize>,
    /// Core of the thread that hands frames to the disk's thread [default: any]
    #[arg(long)]
    pub core: Option<usize>,
}

/// A recording that will run.
pub struct RecordingPlan {
    pub core: Option<usize>,
    pub patterns: Vec<String>,
    pub reel: Reel,
    pub uplink: Uplink,
    pub token: Option<String>,
}

impl Recording {
    /// What it comes to, or each key that is wrong. `at` is the table that has the keys.
    pub fn plan(
        &self,
        at: &str,
        uplink: Uplink,
        token: Option<String>,
    ) -> Result<RecordingPlan, Vec<PlanError>> {
        let mut errors = Vec::new();
        let mut wrong = |key: &str, why: String| errors.push(error(format!("{at}.{key}"), why));
        if self.folder.as_os_str().is_empty() {
            wrong("folder", "name the folder that recordings go to".to_owned());
        }
        for text in &self.patterns {
            if let Err(why) = pattern::check(text) {
                wrong("patterns", format!("`{text}`: {why}"));
            }
        }
        let file_bytes = self.file_bytes.map_or(FILE_BYTES, |Bytes(bytes)| bytes);
        if file_bytes < 1 << 20 {
            wrong("file_bytes", format!("{file_bytes} bytes are less than one block of 1 MiB"));
        }
        let files_max = self.files_max.unwrap_or(FILES_MAX);
        if files_max == 0 {
            wrong("files_max", "at least the file that is written must stay".to_owned());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let everything = || vec!["/**".to_owned()];
        let patterns = Some(self.patterns.clone()).filter(|patterns| !patterns.is_empty());
        Ok(RecordingPlan {
            core: self.core,
            patterns: patterns.unwrap_or_else(everything),
            reel: Reel { folder: self.folder.clone(), file_bytes, files_max },
            uplink,
            token,
        })
    }
}

impl RecordingPlan {
    /// Opens the first file, and gives the thread that feeds it.
    pub fn open(self) -> io::Result<BridgeThreadPlan> {
        let Self { core, patterns, reel, uplink, token } = self;
        let tape = Box::new(RingTape::start(reel)?);
        let bridge = record::open(patterns, token, tape).map_err(io::Error::other)?;
        let place = "recording".to_owned();
        Ok(BridgeThreadPlan { core, bridges: vec![BridgePlan { place, bridge, uplink }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_recording_is_told_under_its_key() {
        let recording = Recording {
            patterns: vec!["/ok/**".to_owned(), "lights".to_owned()],
            file_bytes: Some(Bytes(10)),
            files_max: Some(0),
            ..Recording::default()
        };
        let planned = recording.plan("record", Uplink::Shard(0), None);
        let Err(errors) = planned else { panic!("nothing is wrong") };
        let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
        let expected =
            ["record.folder", "record.patterns", "record.file_bytes", "record.files_max"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_folder_is_enough() {
        let recording = Recording { folder: "show".into(), ..Recording::default() };
        let planned = recording.plan("record", Uplink::Shard(0), None);
        let Ok(plan) = planned else { panic!("something is wrong") };
        assert_eq!(plan.patterns, ["/**"]);
        assert_eq!(plan.reel.file_bytes, FILE_BYTES);
    }
}
