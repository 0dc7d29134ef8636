//! Polling the network card while waiting, instead of sleeping until its interrupt.
//!
//! It saves the interrupt and the wake-up behind it, and takes the core meanwhile. Only what comes
//! through a card can be polled: loopback has no queue of its own, and gains nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::enter;
use crate::ring::Ring;

const REGISTER_NAPI: u32 = 27;

/// `struct io_uring_napi`. Zero for the operation and its parameter means: register, and follow
/// the sockets that the ring receives from.
#[repr(C)]
struct Napi {
    busy_poll_us: u32,
    prefer: u8,
    operation: u8,
    reserved: [u8; 2],
    parameter: u32,
    reserved_too: u32,
}

/// Lets a ring that sleeps poll the cards behind its sockets first, for up to `limit` each time.
///
/// Linux 6.9 and newer: `InvalidInput` below, `Unsupported` where the kernel was built without.
pub fn poll_while_waiting(ring: &Ring, limit: Duration) -> io::Result<()> {
    let mut napi = Napi {
        busy_poll_us: microseconds(limit),
        prefer: 1,
        operation: 0,
        reserved: [0; 2],
        parameter: 0,
        reserved_too: 0,
    };
    // SAFETY: the kernel reads one `io_uring_napi` and writes what was set before into it; it
    // lives through the call.
    unsafe { enter::register(ring.number(), REGISTER_NAPI, (&raw mut napi).cast(), 1) }
}

/// Lets the kernel poll the card behind `socket` when a receive finds it empty, for up to `limit`;
/// what a listener accepts inherits it.
///
/// Without `CAP_NET_ADMIN`, only `PermissionDenied`.
pub fn poll_socket(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    set(&socket, libc::SO_BUSY_POLL, i32::try_from(microseconds(limit)).unwrap_or(i32::MAX))?;
    set(&socket, libc::SO_PREFER_BUSY_POLL, 1)
}

fn microseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_micros()).unwrap_or(u32::MAX)
}

fn set(socket: &impl AsFd, option: libc::c_int, value: i32) -> io::Result<()> {
    let socket = socket.as_fd();
    let bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads the four bytes of `value`, which lives through the call; the
    // descriptor is open, because it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            bytes,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    use super::*;
    use crate::ring::Sizes;
    use crate::socket;

    /// What the kernel holds for a socket.
    fn held(socket: impl AsFd, option: libc::c_int) -> i32 {
        let mut value = 0_i32;
        let mut bytes = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `value`, and the length to `bytes`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw mut value).cast(),
                &raw mut bytes,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        value
    }

    #[test]
    fn what_a_listener_accepts_is_polled_like_the_listener() {
        let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listener = socket::listener(addr).unwrap();
        match poll_socket(&listener, Duration::from_micros(50)) {
            Ok(()) => {
                let addr = socket::address(&listener).unwrap();
                let listener = std::net::TcpListener::from(listener);
                let _far = TcpStream::connect(addr).unwrap();
                let (near, _) = listener.accept().unwrap();
                assert_eq!(held(&near, libc::SO_BUSY_POLL), 50);
            }
            Err(why) => assert_eq!(why.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn a_ring_is_told_or_says_that_the_kernel_is_too_old() {
        let sizes = Sizes {
            accepted_max: 1,
            fixed_max: 1,
            stream_buffers: 1,
            packet_buffers: 1,
            datagrams_max: 1,
        };
        let ring = Ring::new(&sizes).unwrap();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>());
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            panic!("{release} is no version");
        };
        match poll_while_waiting(&ring, Duration::from_micros(50)) {
            Ok(()) => assert!((major, minor) >= (6, 9), "{release}"),
            Err(why) if (major, minor) >= (6, 9) => {
                assert_eq!(why.raw_os_error(), Some(libc::EOPNOTSUPP), "{why}");
            }
            Err(why) => assert_eq!(why.kind(), io::ErrorKind::InvalidInput),
        }
    }
}
