//! The interfaces of this machine, as replies name them: address, mask and hardware address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::Config;

/// One IPv4 address of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// 0.0.0.0 where it is not known.
    pub(super) ip: [u8; 4],
    pub(super) mask: [u8; 4],
    /// All zeros where it is not known, and for loopback.
    pub(super) mac: [u8; 6],
}

/// A hardware address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2);
            let read = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *octet = read.ok_or_else(|| wrong(&text))?;
        }
        if parts.next().is_some() { Err(wrong(&text)) } else { Ok(Self(octets)) }
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is not a hardware address such as 02:00:5e:10:00:01")
}

/// What replies say of the interface on which they leave.
pub(super) struct Here {
    interfaces: Vec<Interface>,
    /// The configuration's words, which hold for every interface.
    ip: Option<Ipv4Addr>,
    mac: Option<Mac>,
}

impl Here {
    pub(super) fn new(config: &Config, interfaces: Vec<Interface>) -> Self {
        let bound = match config.bind.ip() {
            IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
            _ => None,
        };
        Self { interfaces, ip: config.node_ip.or(bound), mac: config.mac }
    }

    /// The interface that `peer` sees: the one with the address that is configured, else the one
    /// in the network of `peer`, else the first.
    pub(super) fn facing(&self, peer: IpAddr) -> Interface {
        let among = |peer: [u8; 4]| {
            let is_near = |one: &&Interface| network(one.ip, one.mask) == network(peer, one.mask);
            self.interfaces.iter().find(is_near)
        };
        let found = match (self.ip, peer) {
            (Some(ip), _) => self.interfaces.iter().find(|one| one.ip == ip.octets()),
            (None, IpAddr::V4(peer)) => among(peer.octets()).or(self.interfaces.first()),
            (None, IpAddr::V6(_)) => None,
        };
        let found = found.copied().unwrap_or_default();
        Interface {
            ip: self.ip.map_or(found.ip, |ip| ip.octets()),
            mask: found.mask,
            mac: self.mac.map_or(found.mac, |mac| mac.0),
        }
    }

    /// Whether `ip` may be an address of this machine.
    pub(super) fn may_be(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return true };
        self.ip == Some(ip)
            || self.interfaces.is_empty()
            || self.interfaces.iter().any(|one| one.ip == ip.octets())
    }

    /// Where others broadcast so that `bound`, an address of ours, should hear it: a socket that is
    /// bound to one address hears no broadcast, but one bound to the broadcast address does.
    pub(super) fn broadcasts(&self, bound: IpAddr) -> Vec<Ipv4Addr> {
        let IpAddr::V4(bound) = bound else { return Vec::new() };
        let is_it = |one: &&Interface| one.ip == bound.octets() && !bound.is_loopback();
        let Some(found) = self.interfaces.iter().find(is_it) else { return Vec::new() };
        let [ip, mask] = [found.ip, found.mask].map(u32::from_be_bytes);
        // A network of one or two addresses has none for all.
        let directed = (mask < u32::MAX - 1).then(|| Ipv4Addr::from(ip | !mask));
        directed.into_iter().chain([Ipv4Addr::BROADCAST]).collect()
    }

    /// Differs from machine to machine, where anything is known of this one.
    pub(super) fn seed(&self) -> u64 {
        let octets = self.interfaces.iter().flat_map(|one| one.ip.into_iter().chain(one.mac));
        let own = self.ip.map(|ip| ip.octets()).into_iter().flatten();
        own.chain(octets).fold(0, |seed, octet| seed.wrapping_mul(257).wrapping_add(octet.into()))
    }
}

fn network(ip: [u8; 4], mask: [u8; 4]) -> u32 {
    u32::from_be_bytes(ip) & u32::from_be_bytes(mask)
}

/// Every IPv4 address of this machine, loopback last. Asks the host, once, before the machine runs.
pub(super) fn interfaces() -> Vec<Interface> {
    let Ok(found) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let (mut macs, mut named) = (BTreeMap::new(), Vec::new());
    for one in found {
        let Some(address) = one.address else { continue };
        if let Some(mac) = address.as_link_addr().and_then(|link| link.addr()) {
            macs.insert(one.interface_name.clone(), mac);
        }
        if let Some(ip) = address.as_sockaddr_in() {
            let mask = one.netmask.and_then(|mask| mask.as_sockaddr_in().map(|mask| mask.ip()));
            let mask = mask.unwrap_or(Ipv4Addr::BROADCAST);
            named.push((one.interface_name, ip.ip(), mask));
        }
    }
    named.sort_by_key(|(_, ip, _)| ip.is_loopback());
    let whole = named.into_iter().map(|(name, ip, mask)| Interface {
        ip: ip.octets(),
        mask: mask.octets(),
        mac: macs.get(&name).copied().unwrap_or_default(),
    });
    whole.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_the_interface_that_the_asker_sees() {
        let near = Interface { ip: [10, 0, 0, 7], mask: [255, 0, 0, 0], mac: [2; 6] };
        let far = Interface { ip: [192, 168, 1, 7], mask: [255, 255, 255, 0], mac: [4; 6] };
        let here = |config: &str| {
            let config = toml::from_str(config).expect(config);
            Here::new(&config, vec![near, far])
        };
        let asked = |config, peer: &str| here(config).facing(peer.parse().expect("an address"));
        assert_eq!(asked("", "10.9.9.9"), near);
        assert_eq!(asked("", "192.168.1.200"), far);
        assert_eq!(asked("", "172.16.0.1"), near, "none is nearer than the first");
        assert_eq!(asked("bind = \"192.168.1.7:6454\"", "10.9.9.9"), far);
        let named = asked("node_ip = \"2.0.0.1\"\nmac = \"02:00:5e:10:00:01\"", "10.9.9.9");
        assert_eq!((named.ip, named.mac), ([2, 0, 0, 1], [2, 0, 0x5E, 0x10, 0, 1]));
        assert_ne!(here("").seed(), here("node_ip = \"2.0.0.1\"").seed());
    }

    #[test]
    fn what_is_bound_to_one_address_hears_broadcasts_by_others() {
        let near = Interface { ip: [10, 0, 0, 7], mask: [255, 0, 0, 0], mac: [2; 6] };
        let alone = Interface { ip: [10, 1, 0, 7], mask: [255; 4], mac: [4; 6] };
        let local = Interface { ip: [127, 0, 0, 1], mask: [255, 0, 0, 0], mac: [0; 6] };
        let here = Here::new(&Config::default(), vec![near, alone, local]);
        let heard = |bound: &str| {
            let found = here.broadcasts(bound.parse().expect("an address"));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(heard("10.0.0.7"), "10.255.255.255 255.255.255.255");
        assert_eq!(heard("10.1.0.7"), "255.255.255.255");
        for none in ["127.0.0.1", "0.0.0.0", "10.0.0.8", "::1"] {
            assert_eq!(heard(none), "", "{none}");
        }
    }

    #[test]
    fn a_hardware_address_is_six_octets() {
        for text in ["", "02:00", "02:00:5e:10:00:01:02", "2:0:5e:10:0:1", "zz:00:5e:10:00:01"] {
            assert!(Mac::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(Mac::try_from("02-00-5E-10-00-01".to_owned()), Ok(Mac([2, 0, 0x5E, 16, 0, 1])));
    }

    #[test]
    fn this_machine_has_addresses_and_loopback_is_the_last() {
        let found = interfaces();
        let is_loopback = |one: &Interface| one.ip[0] == 127;
        assert!(found.iter().any(is_loopback));
        assert!(found.is_sorted_by_key(is_loopback));
    }
}
