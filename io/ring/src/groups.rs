//! Multicast groups that are heard on one interface, however many, and which interface that is.
//!
//! A socket that joins groups itself is slow to be found by what arrives: the kernel walks its list
//! for each packet, and allows 20 groups a socket (`igmp_max_memberships`). So the groups are
//! joined by sockets that nothing is ever received on, as many as it takes. The socket that
//! receives has joined none; it is bound to the port at every address, hears what the machine hears
//! of all groups (`IP_MULTICAST_ALL`, on by default), and is bound to the interface, so that
//! another network's groups stay outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_nametoindex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

/// A network interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
}

impl Interface {
    /// The one that has the address `ip`; `None` for 0.0.0.0 and ::, which every one has.
    pub fn of(ip: IpAddr) -> io::Result<Option<Self>> {
        if ip.is_unspecified() {
            return Ok(None);
        }
        let has_it = |at: &InterfaceAddress| {
            let Some(at) = &at.address else { return false };
            let v4 = at.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
            v4.or_else(|| at.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip()))) == Some(ip)
        };
        let name = getifaddrs()?.find(has_it).map(|at| at.interface_name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!("no interface of this machine has the address {ip}"),
            )
        })?;
        let index = if_nametoindex(name.as_str())?;
        Ok(Some(Self { name, index }))
    }
}

/// Memberships in groups; they end when it is dropped.
#[derive(Debug)]
pub struct Groups {
    interface: IpAddr,
    index: u32,
    /// Sockets of one family each; nothing is received on them.
    holders: Vec<OwnedFd>,
}

impl Groups {
    /// Of the interface that has the address `interface`; of 0.0.0.0 and :: the system's routes say
    /// which one it is.
    pub fn on(interface: IpAddr) -> io::Result<Self> {
        let index = Interface::of(interface)?.map_or(0, |interface| interface.index);
        Ok(Self { interface, index, holders: Vec::new() })
    }

    /// Joins `group`. One that was joined before stays so.
    pub fn join(&mut self, group: IpAddr) -> io::Result<()> {
        let is_full = |why: &io::Error| {
            matches!(why.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM | libc::EINVAL))
        };
        let last = self.holders.last();
        match last.map(|holder| self.join_on(holder, group)) {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) if why.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
            Some(Err(why)) if !is_full(&why) => Err(named(why, group, self.interface)),
            // That socket has as many as it may, or there is none yet.
            _ => {
                let family =
                    if group.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
                let holder = socket_with(family, kind, flags, Some(ipproto::UDP))?;
                self.join_on(&holder, group).map_err(|why| named(why, group, self.interface))?;
                self.holders.push(holder);
                Ok(())
            }
        }
    }

    fn join_on(&self, holder: &OwnedFd, group: IpAddr) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => {
                let interface = match self.interface {
                    IpAddr::V4(interface) => interface,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                sockopt::set_ip_add_membership(holder, &group, &interface)?;
            }
            IpAddr::V6(group) => sockopt::set_ipv6_add_membership(holder, &group, self.index)?,
        }
        Ok(())
    }
}

fn named(why: io::Error, group: IpAddr, interface: IpAddr) -> io::Error {
    let hint = match why.raw_os_error() {
        Some(libc::ENODEV | libc::ENETUNREACH | libc::EADDRNOTAVAIL) => {
            ": no route leads there; bind to the address of the lighting interface"
        }
        _ => "",
    };
    io::Error::new(why.kind(), format!("cannot join {group} on {interface}: {why}{hint}"))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

    use super::*;
    use crate::socket::{Datagrams, address, datagrams};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_interface_is_found_by_its_address() {
        let found = Interface::of(LOOPBACK).unwrap().expect("every machine has one");
        assert_eq!(found.name, "lo");
        assert_eq!(Interface::of(Ipv4Addr::UNSPECIFIED.into()).unwrap(), None);
        // Documentation addresses are nobody's.
        let error = Interface::of("192.0.2.1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1"), "{error}");
    }

    #[test]
    fn a_group_that_is_none_is_named_in_the_error() {
        let error = Groups::on(LOOPBACK).unwrap().join("10.0.0.1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("10.0.0.1"), "{error}");
    }

    /// More groups than one socket may join by the usual limit, heard by a socket that joined none.
    #[test]
    fn hundreds_of_groups_are_heard_on_one_socket() {
        let wish = Datagrams { groups: true, ..Datagrams::default() };
        let hearing = datagrams(SocketAddr::new(LOOPBACK, 0), &wish).unwrap();
        let port = address(&hearing).unwrap().port();
        let hearing = UdpSocket::from(hearing);
        let group = |number: u16| {
            let [high, low] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(239, 255, high, low))
        };
        let mut groups = Groups::on(LOOPBACK).unwrap();
        for number in 1..=300 {
            groups.join(group(number)).unwrap();
        }
        groups.join(group(1)).unwrap();
        let speaking = datagrams(SocketAddr::new(LOOPBACK, 0), &Datagrams::default()).unwrap();
        let speaking = UdpSocket::from(speaking);
        let mut received = [0; 16];
        for number in [1, 2, 20, 21, 299, 300_u16] {
            speaking.send_to(&number.to_be_bytes(), SocketAddr::new(group(number), port)).unwrap();
            let (len, from) = hearing.recv_from(&mut received).unwrap();
            assert_eq!((&received[..len], from.ip()), (&number.to_be_bytes()[..], LOOPBACK));
        }
    }

    #[test]
    fn groups_of_ipv6_are_joined_on_the_interface_and_left_in_the_end() {
        let joined = || std::fs::read_to_string("/proc/net/igmp6").unwrap_or_default();
        // A machine may have no IPv6 at all.
        if joined().is_empty() {
            return;
        }
        // Of this process alone, so that nobody else joins it.
        let last = std::process::id() as u16;
        let group = Ipv6Addr::new(0xFF18, 0, 0, 0, 0x83, 0x7357, 0, last);
        let line = format!("lo              ff18000000000000008373570000{last:04x}");
        let mut groups = Groups::on(Ipv6Addr::LOCALHOST.into()).unwrap();
        groups.join(group.into()).unwrap();
        assert!(joined().contains(&line), "{line} in {}", joined());
        drop(groups);
        assert!(!joined().contains(&line));
    }
}
