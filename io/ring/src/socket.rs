//! Sockets, opened and configured as the protocols above them need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with,
    sockopt,
};
use socket2::SockRef;

use crate::groups::Interface;

/// Connections that may wait to be accepted: more than a hall full of phones that reconnect at
/// once.
const BACKLOG: i32 = 4096;

/// A peer that went away without a word is noticed after about this, beside what protocols do.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Bytes of a stream that may wait in the kernel to leave: beyond them it takes no more, so that
/// what is urgent waits here, where it can overtake. One segment more may wait (64 KiB on a machine
/// that leaves cutting it up to its card, or to nobody); bytes that left and are not acknowledged
/// do not count, so that a long way is not made slow.
const STREAM_UNSENT_BYTES: u32 = 16 << 10;

/// Bytes of datagrams that may wait: every universe of a big show arrives in one burst.
const DATAGRAM_QUEUE_BYTES: usize = 4 << 20;

/// The kernel takes the rings of a killed program apart some 100 ms after it is gone, and their
/// sockets with them. Who is started at once in its place tries again for about a second.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// What a datagram socket needs beside its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Sending to broadcast addresses is allowed.
    pub broadcast: bool,
    /// Other programs of this machine may bind the same port.
    pub reuse_address: bool,
    /// Hears the multicast groups that are joined on the interface of the address, and nothing that
    /// is sent to that address alone: see [`crate::groups`].
    pub groups: bool,
}

/// A listening TCP socket. Several threads may listen on one address; the kernel spreads
/// connections over them.
pub fn listener(addr: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(addr, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted connections inherit these.
    tune_stream(&socket)?;
    bind(&socket, &addr)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Whether nobody listens on `addr`. Because [`listener`] shares ports, a second program would not
/// be told, and the two would split the connections between them. Waits up to a second for a port
/// that is taken.
pub fn check_free(addr: SocketAddr) -> io::Result<()> {
    let socket = open(addr, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind_soon(&socket, addr)
}

fn bind_soon(socket: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    for _ in 1..TRIES {
        match bind(socket, &addr) {
            Err(Errno::ADDRINUSE) => thread::sleep(PAUSE),
            done => return Ok(done?),
        }
    }
    Ok(bind(socket, &addr)?)
}

/// Makes a TCP connection fit for control data: nothing is held back to fill packets, and little
/// waits where it cannot be overtaken.
pub fn tune_stream(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    SockRef::from(&socket).set_tcp_notsent_lowat(STREAM_UNSENT_BYTES)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}

/// A bound UDP socket. What it sends to groups leaves by the interface of the address. Waits up to
/// a second for a port that is taken.
pub fn datagrams(addr: SocketAddr, wish: &Datagrams) -> io::Result<OwnedFd> {
    let socket = open(addr, SocketType::DGRAM)?;
    sockopt::set_socket_reuseaddr(&socket, wish.reuse_address)?;
    sockopt::set_socket_broadcast(&socket, wish.broadcast)?;
    queue_bursts(&socket)?;
    let is_interface = !addr.ip().is_multicast() && addr.ip() != IpAddr::V4(Ipv4Addr::BROADCAST);
    let interface = if is_interface { Interface::of(addr.ip()).ok().flatten() } else { None };
    let mut bound = addr;
    if let Some(interface) = &interface
        && wish.groups
    {
        SockRef::from(&socket).bind_device(Some(interface.name.as_bytes()))?;
        // What comes to a group does not come to the address.
        bound.set_ip(if addr.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        });
    }
    bind_soon(&socket, bound)?;
    match (addr.ip(), interface) {
        (IpAddr::V4(ip), Some(_)) => sockopt::set_ip_multicast_if(&socket, &ip)?,
        (IpAddr::V6(_), Some(interface)) => {
            SockRef::from(&socket).set_multicast_if_v6(interface.index)?;
        }
        _ => {}
    }
    Ok(socket)
}

/// Where a socket is bound, with the port that the kernel chose for port 0.
pub fn address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

fn open(addr: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if kind == SocketType::STREAM { ipproto::TCP } else { ipproto::UDP };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?)
}

/// Lets a burst wait in the socket. By the usual limits of a system, 212 KB hold 90 Art-Net
/// universes.
fn queue_bursts(socket: &OwnedFd) -> io::Result<()> {
    // Beyond the limits where this process may, else as far as they allow: then without an error.
    if sockopt::set_socket_recv_buffer_size_force(socket, DATAGRAM_QUEUE_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, DATAGRAM_QUEUE_BYTES)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, DATAGRAM_QUEUE_BYTES).is_err() {
        sockopt::set_socket_send_buffer_size(socket, DATAGRAM_QUEUE_BYTES)?;
    }
    Ok(())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// Asks for the bytes that did not leave: `linux/sockios.h`.
    const SIOCOUTQNSD: libc::Ioctl = 0x894B;
    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn two_threads_can_listen_on_one_port() {
        let first = listener(ANY_PORT).unwrap();
        let addr = address(&first).unwrap();
        assert_ne!(addr.port(), 0);
        let second = listener(addr).unwrap();
        assert_eq!(address(&second).unwrap(), addr);
        assert_eq!(check_free(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((first, second));
        check_free(addr).unwrap();
    }

    #[test]
    fn a_port_that_is_left_in_a_moment_is_waited_for() {
        let (tcp, udp) = (listener(ANY_PORT).unwrap(), datagrams(ANY_PORT, &Datagrams::default()));
        let udp = udp.unwrap();
        let [listens, hears] = [&tcp, &udp].map(|socket| address(socket).unwrap());
        let leaves = thread::spawn(move || {
            for socket in [tcp, udp] {
                thread::sleep(5 * PAUSE);
                drop(socket);
            }
        });
        check_free(listens).unwrap();
        datagrams(hears, &Datagrams::default()).unwrap();
        leaves.join().unwrap();
    }

    /// Without a bound the kernel takes 4 MB of a stream that nobody reads.
    #[test]
    fn little_of_a_stream_that_nobody_reads_waits_in_the_kernel() {
        let listening = std::net::TcpListener::from(listener(ANY_PORT).unwrap());
        let _silent = std::net::TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let (stream, _) = listening.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut &stream, &[0; 4096]).is_ok() {}
        let mut unsent = 0;
        // SAFETY: the request writes one int to the address that it is given.
        let done = unsafe { libc::ioctl(stream.as_raw_fd(), SIOCOUTQNSD, &raw mut unsent) };
        assert_eq!(done, 0);
        let bytes_max = STREAM_UNSENT_BYTES as i32 + (64 << 10);
        assert!((1..=bytes_max).contains(&unsent), "{unsent} bytes wait unsent");
    }

    #[test]
    fn a_datagram_port_is_shared_only_if_asked() {
        let wish = Datagrams { reuse_address: true, broadcast: true, ..Datagrams::default() };
        let first = datagrams(ANY_PORT, &wish).unwrap();
        let addr = address(&first).unwrap();
        assert!(datagrams(addr, &Datagrams::default()).is_err());
        datagrams(addr, &wish).unwrap();
    }
}
