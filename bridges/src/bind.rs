//! Why a port cannot be had, and what can be done about it.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::own_addresses;

/// What is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Below it ports belong to root, unless the system was told otherwise.
const FREE_PORT_MIN: u16 = 1024;

/// `why` somebody cannot bind `addr`, with what would be right. Asks the host.
pub fn explained(transport: Transport, addr: SocketAddr, why: io::Error) -> io::Error {
    let taken = || holder(Path::new("/proc"), transport, addr.port());
    let said = match why.kind() {
        ErrorKind::AddrInUse => in_use(addr.port(), taken()),
        ErrorKind::AddrNotAvailable => not_ours(addr.ip(), &own_addresses()),
        ErrorKind::PermissionDenied if addr.port() < FREE_PORT_MIN => format!(
            "ports below {FREE_PORT_MIN} are root's here: choose one above, or allow it with \
             `sudo setcap cap_net_bind_service+ep` and the path of this program"
        ),
        _ => return why,
    };
    io::Error::new(why.kind(), said)
}

/// A program that has a port.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    name: String,
    process: u32,
}

fn in_use(port: u16, holder: Option<Holder>) -> String {
    let other = port.checked_add(1).unwrap_or(port - 1);
    match holder {
        Some(holder) if holder.process == std::process::id() => format!(
            "this router has port {port} already, for something else: choose another, such as \
             {other}"
        ),
        Some(Holder { name, process }) => format!(
            "{name} (process {process}) has port {port}: end it, or choose another port, such as \
             {other}"
        ),
        None => format!(
            "another program has port {port}, as `sudo ss -lptun sport = {port}` shows: end it, \
             or choose another port, such as {other}"
        ),
    }
}

fn not_ours(ip: IpAddr, own: &[IpAddr]) -> String {
    let same = own.iter().filter(|own| own.is_ipv4() == ip.is_ipv4());
    let same: Vec<_> = same.map(IpAddr::to_string).collect();
    let all = if ip.is_ipv4() { "0.0.0.0" } else { "::" };
    match same.as_slice() {
        [] => format!("this machine has no address of the kind of {ip}: choose {all}"),
        own => format!(
            "{ip} is no address of this machine, which has {}: choose one of them, or {all} \
             for all",
            own.join(", ")
        ),
    }
}

/// Who has a port, of those programs that this one may ask.
fn holder(proc: &Path, transport: Transport, port: u16) -> Option<Holder> {
    let tables = match transport {
        Transport::Tcp => ["net/tcp", "net/tcp6"],
        Transport::Udp => ["net/udp", "net/udp6"],
    };
    let read = tables.iter().filter_map(|table| fs::read_to_string(proc.join(table)).ok());
    let sockets: Vec<_> = read.flat_map(|table| sockets_of(transport, port, &table)).collect();
    let processes = fs::read_dir(proc).ok()?.flatten();
    let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.find_map(|process: u32| {
        let folder = proc.join(format!("{process}"));
        let files = fs::read_dir(folder.join("fd")).ok()?.flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if !targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket))) {
            return None;
        }
        let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
        Some(Holder { name, process })
    })
}

/// The sockets of a table like `/proc/net/tcp` that have `port`, as links of `/proc/*/fd` name
/// them.
fn sockets_of(transport: Transport, port: u16, table: &str) -> Vec<String> {
    const LISTENS: &str = "0A";
    let at_port = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let (_, found) = local.rsplit_once(':')?;
        let is_it = u16::from_str_radix(found, 16) == Ok(port)
            && (transport == Transport::Udp || *state == LISTENS);
        is_it.then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(at_port).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn said(transport: Transport, addr: &str, kind: ErrorKind) -> String {
        explained(transport, addr.parse().expect(addr), kind.into()).to_string()
    }

    #[test]
    fn who_has_a_port_is_named_and_another_one_with_it() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let cases = [
            (Transport::Tcp, tcp.local_addr().expect("bound")),
            (Transport::Udp, udp.local_addr().expect("bound")),
        ];
        for (transport, addr) in cases {
            let ours = holder(Path::new("/proc"), transport, addr.port()).expect("it is ours");
            assert_eq!(ours.process, std::process::id());
            let said = said(transport, &addr.to_string(), ErrorKind::AddrInUse);
            let begins = format!("this router has port {} already", addr.port());
            assert!(said.starts_with(&begins), "{said}");
        }
        let qlab = Holder { name: "qlab".to_owned(), process: 4_000 };
        let said = in_use(9000, Some(qlab));
        let right = "qlab (process 4000) has port 9000: end it, or choose another port, such as";
        assert_eq!(said, format!("{right} 9001"));
        let said = in_use(65535, None);
        assert!(said.contains("ss -lptun sport = 65535") && said.ends_with("65534"), "{said}");
    }

    #[test]
    fn an_address_of_another_machine_is_told_with_those_of_this_one() {
        let said = said(Transport::Udp, "192.0.2.7:9000", ErrorKind::AddrNotAvailable);
        assert!(said.starts_with("192.0.2.7 is no address of this machine, which has "), "{said}");
        assert!(said.contains("127.0.0.1") && said.ends_with("or 0.0.0.0 for all"), "{said}");
        assert!(!said.contains("::"), "of the same kind alone: {said}");
    }

    #[test]
    fn a_port_of_root_is_told_with_what_allows_it_and_other_errors_stay() {
        let denied = ErrorKind::PermissionDenied;
        let said_of = |addr| said(Transport::Tcp, addr, denied);
        let low = said_of("0.0.0.0:80");
        assert!(low.contains("ports below 1024") && low.contains("setcap"), "{low}");
        assert_eq!(said_of("0.0.0.0:8080"), io::Error::from(denied).to_string());
    }
}
