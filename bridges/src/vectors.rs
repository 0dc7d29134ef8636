//! Golden packets of other programs: `bridges/vectors`.

use std::fs;
use std::path::Path;

/// Calls `check` with each packet of a protocol and the text beside it; gives their number.
pub(crate) fn each(protocol: &str, mut check: impl FnMut(&[u8], &str)) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(protocol);
    let mut packets: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    packets.sort();
    for packet in &packets {
        let bytes = fs::read(packet).expect("a packet");
        let text = fs::read_to_string(packet.with_extension("txt"))
            .unwrap_or_else(|error| panic!("{}: {error}", packet.display()));
        check(&bytes, text.trim_end());
    }
    packets.len()
}
