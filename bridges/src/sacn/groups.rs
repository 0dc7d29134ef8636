//! The multicast groups of universes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which groups are spoken to, and at which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) is_v6: bool,
    pub(super) port: u16,
}

impl Groups {
    /// 239.255.hi.lo, or ff18::83:0:hi:lo with one octet each.
    pub(super) fn ip(self, number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        if self.is_v6 {
            let tail = [0x83, 0, u16::from(high), u16::from(low)];
            IpAddr::V6(Ipv6Addr::new(0xFF18, 0, 0, 0, tail[0], tail[1], tail[2], tail[3]))
        } else {
            IpAddr::V4(Ipv4Addr::new(239, 255, high, low))
        }
    }

    pub(super) fn at(self, number: u16) -> SocketAddr {
        SocketAddr::new(self.ip(number), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_universe_has_a_group_of_its_own() {
        let cases = [
            (1, "239.255.0.1:5568", "[ff18::83:0:0:1]:5568"),
            (256, "239.255.1.0:5568", "[ff18::83:0:1:0]:5568"),
            (63_999, "239.255.249.255:5568", "[ff18::83:0:f9:ff]:5568"),
            (64_214, "239.255.250.214:5568", "[ff18::83:0:fa:d6]:5568"),
        ];
        for (number, v4, v6) in cases {
            let groups = Groups { is_v6: false, port: 5568 };
            assert_eq!(groups.at(number).to_string(), v4);
            assert_eq!(Groups { is_v6: true, ..groups }.at(number).to_string(), v6);
        }
    }
}
