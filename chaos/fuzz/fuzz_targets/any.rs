//! Every target of `clasp-chaos`, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

use clasp_rt_chaos::fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<Option<&'static Target>> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("CLASP_TARGET").ok()?;
        let found = TARGETS.iter().find(|target| target.name == name);
        Some(found.unwrap_or_else(|| panic!("CLASP_TARGET names no target: {name}")))
    });
    let Some((first, rest)) = input.split_first() else { return };
    let target = chosen.unwrap_or(&TARGETS[usize::from(*first) % TARGETS.len()]);
    (target.run)(rest);
});
