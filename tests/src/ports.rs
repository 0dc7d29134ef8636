//! Ports of this host that the kernel has chosen, and nobody listens on at this moment.

use std::net::{TcpListener, UdpSocket};

pub fn free_udp_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("a port").port())
}

pub fn free_tcp_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("a port").port())
}
