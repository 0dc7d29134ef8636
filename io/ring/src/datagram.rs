//! Datagrams on their way out, and the addresses of both ways, in the kernel's own layout.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use io_uring::types::RecvMsgOut;

use crate::slots::Header;

/// Room that each datagram has from the start: one Ethernet frame and more. Longer ones grow it.
const DATAGRAM_BYTES: usize = 2048;

/// The longest source address: `sockaddr_in6`.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// What the kernel puts before the payload: four lengths, and room for the longest address.
const PREFIX_BYTES: usize = 16 + NAME_BYTES;

/// A bounded number of datagrams that the kernel reads from until its answers.
#[derive(Debug)]
pub(crate) struct Datagrams {
    slab: Box<[Datagram]>,
    free: Vec<u32>,
}

/// One datagram. Its address in memory never changes: the slab is boxed and never grows.
struct Datagram {
    in_flight: bool,
    bytes: Vec<u8>,
    name: Name,
    piece: libc::iovec,
    header: libc::msghdr,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Datagrams {
    pub(crate) fn new(count: u16) -> Self {
        let slab = (0..count).map(|_| Datagram::empty()).collect();
        Self { slab, free: (0..count as u32).rev().collect() }
    }

    /// Copies a datagram into a free place; `None` when all are on their way.
    ///
    /// The header and all that it points to stay as they are until [`Datagrams::settle`].
    pub(crate) fn fill(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Option<(u32, *const libc::msghdr)> {
        let index = self.free.pop()?;
        let datagram = &mut self.slab[index as usize];
        datagram.in_flight = true;
        datagram.bytes.clear();
        datagram.bytes.extend_from_slice(bytes);
        let name_bytes = datagram.name.set(to);
        datagram.piece.iov_base = datagram.bytes.as_mut_ptr().cast();
        datagram.piece.iov_len = datagram.bytes.len();
        datagram.header.msg_name = (&raw mut datagram.name).cast();
        datagram.header.msg_namelen = name_bytes;
        datagram.header.msg_iov = &raw mut datagram.piece;
        datagram.header.msg_iovlen = 1;
        Some((index, &raw const datagram.header))
    }

    /// The kernel is done with one.
    pub(crate) fn settle(&mut self, index: u32) {
        let datagram = &mut self.slab[index as usize];
        assert!(datagram.in_flight, "datagram {index} was answered twice");
        datagram.in_flight = false;
        self.free.push(index);
    }

    pub(crate) fn any_in_flight(&self) -> bool {
        self.free.len() < self.slab.len()
    }
}

impl Datagram {
    fn empty() -> Self {
        Self {
            in_flight: false,
            bytes: Vec::with_capacity(DATAGRAM_BYTES),
            name: Name { v6: sockaddr_v6(Ipv6Addr::UNSPECIFIED, 0, 0, 0) },
            piece: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
            header: blank_header(),
        }
    }
}

impl std::fmt::Debug for Datagram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagram").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Name {
    /// Writes `to` and says how long it is.
    fn set(&mut self, to: SocketAddr) -> libc::socklen_t {
        match to {
            SocketAddr::V4(to) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: to.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(to) => {
                self.v6 = sockaddr_v6(*to.ip(), to.port(), to.flowinfo(), to.scope_id());
                NAME_BYTES as libc::socklen_t
            }
        }
    }
}

fn sockaddr_v6(ip: Ipv6Addr, port: u16, flow: u32, scope: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: port.to_be(),
        sin6_flowinfo: flow,
        sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
        sin6_scope_id: scope,
    }
}

/// What a multishot receive is told: room for the source address, no control data.
pub(crate) fn receive_header() -> Box<Header> {
    let mut header = blank_header();
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    Box::new(Header(header))
}

fn blank_header() -> libc::msghdr {
    // SAFETY: `msghdr` is plain integers and pointers, for which all zeros is a valid value.
    unsafe { std::mem::zeroed() }
}

/// How many datagrams a socket lost because its queue was full: the last counter of `SO_MEMINFO`.
pub fn datagrams_lost(socket: impl AsFd) -> io::Result<u64> {
    const COUNTERS: usize = 9;
    const DROPS: usize = 8;
    let mut counters = [0_u32; COUNTERS];
    let mut bytes = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel writes at most `bytes` bytes
    // into the array, which holds as many, and how many it wrote into `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counters.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(counters[DROPS]))
}

/// Why a received datagram cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Shorter than what the kernel puts before the payload.
    Short,
    /// Longer than a receive buffer; the rest is gone.
    Truncated,
    /// Not sent from an internet address.
    NoSource,
}

/// Takes a received buffer apart: who sent it, and what.
pub(crate) fn parse(buffer: &[u8]) -> Result<(SocketAddr, &[u8]), Unreadable> {
    let mut header = blank_header();
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    let out = RecvMsgOut::parse(buffer, &header).map_err(|()| Unreadable::Short)?;
    if out.is_payload_truncated() {
        return Err(Unreadable::Truncated);
    }
    let from = source(out.name_data()).ok_or(Unreadable::NoSource)?;
    let payload = buffer.get(PREFIX_BYTES..).and_then(|rest| rest.get(..out.payload_data().len()));
    Ok((from, payload.ok_or(Unreadable::Short)?))
}

/// A source address as the kernel writes it: family in host order, the rest in network order.
fn source(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let (ip, _) = rest.split_first_chunk::<4>()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*ip)), port))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let (scope, _) = rest.split_first_chunk::<4>()?;
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(*ip),
                port,
                u32::from_ne_bytes(*flow),
                u32::from_ne_bytes(*scope),
            )))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for address in ["10.1.2.3:6454", "255.255.255.255:1", "[2001:db8::1]:5568", "[::]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut datagrams = Datagrams::new(1);
            let (_, header) = datagrams.fill(address, b"levels").unwrap();
            // SAFETY: `fill` points the header at a name and a piece that live as long as
            // `datagrams`.
            let (name, payload) = unsafe {
                let header = &*header;
                let name = slice::from_raw_parts(
                    header.msg_name.cast::<u8>(),
                    header.msg_namelen as usize,
                );
                let piece = &*header.msg_iov;
                (name, slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len))
            };
            assert_eq!(source(name), Some(address));
            assert_eq!(payload, b"levels");
        }
    }

    #[test]
    fn a_full_slab_says_so_until_the_kernel_answers() {
        let mut datagrams = Datagrams::new(2);
        let to = "127.0.0.1:9".parse().unwrap();
        let (first, _) = datagrams.fill(to, b"1").unwrap();
        datagrams.fill(to, b"2").unwrap();
        assert!(datagrams.fill(to, b"3").is_none());
        datagrams.settle(first);
        assert_eq!(datagrams.fill(to, b"3").unwrap().0, first);
    }

    #[cfg(not(miri))]
    #[test]
    fn a_socket_counts_what_its_queue_had_no_room_for() {
        use std::net::UdpSocket;
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(datagrams_lost(&receiver).unwrap(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        // More than any queue that a system allows by itself.
        let mut sent = 0;
        while datagrams_lost(&receiver).unwrap() == 0 {
            sender.send_to(&[0; 32_000], to).unwrap();
            sent += 1;
            assert!(sent < 100_000, "a queue without an end");
        }
    }

    #[test]
    fn what_is_no_datagram_is_refused() {
        let mut unix = [0; PREFIX_BYTES];
        unix[0] = 2; // Two bytes of name: a family and nothing else.
        unix[16] = libc::AF_UNIX as u8;
        let mut truncated = [0; PREFIX_BYTES];
        truncated[12..16].copy_from_slice(&libc::MSG_TRUNC.to_ne_bytes());
        let cases = [
            (&[][..], Unreadable::Short),
            (&[0; 15], Unreadable::Short),
            (&[0; PREFIX_BYTES - 1], Unreadable::Short),
            (&[0; PREFIX_BYTES], Unreadable::NoSource),
            (&unix, Unreadable::NoSource),
            (&truncated, Unreadable::Truncated),
        ];
        for (bytes, why) in cases {
            assert_eq!(parse(bytes).unwrap_err(), why, "{} bytes", bytes.len());
        }
    }
}
