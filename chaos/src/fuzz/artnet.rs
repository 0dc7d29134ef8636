//! Art-Net: what is read can be written again, whatever a stranger sent.

use clasp_rt_bridges::artnet::packet::{self, Packet};

use super::seeds::hex;

/// What decodes is written, read and written again to the same octets; and an ArtDmx reads the same
/// where nothing else is expected.
pub fn packets(bytes: &[u8]) {
    let read = packet::decode(bytes).ok();
    let levels = read.filter(|packet| matches!(packet, Packet::Dmx(_)));
    assert_eq!(packet::dmx(bytes).map(Packet::Dmx), levels);
    let Ok(packet) = packet::decode(bytes) else { return };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    if packet.write(&mut first) {
        let again = packet::decode(&first).expect("what was written decodes");
        assert!(again.write(&mut second), "{again:?} is not written");
        assert_eq!(hex(&first), hex(&second));
    }
}

/// Golden packets: of other programs, and of the standard's tables.
pub fn seeds() -> Vec<Vec<u8>> {
    macro_rules! golden {
        ($($name:literal)*) => {
            vec![$(include_bytes!(
                concat!("../../../bridges/vectors/artnet/", $name, ".bin")
            ).to_vec()),*]
        };
    }
    golden![
        "olad-dmx-6-slots" "olad-poll" "olad-poll-reply" "dmxnet-poll-reply-213-bytes"
        "table-poll-targeted" "table-diag-data" "table-command" "table-nzs" "table-sync"
        "table-address-names" "table-address-switches-ltp" "table-address-cancel-merge"
        "table-input" "table-tod-request" "table-tod-data" "table-tod-control-flush" "table-rdm"
        "table-time-code-ebu" "table-trigger-show" "table-trigger-oem" "table-ip-prog"
        "table-ip-prog-reply" "table-poll-reply-group-2"
    ]
}
