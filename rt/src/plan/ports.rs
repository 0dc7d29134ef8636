//! Who has which port, and which device, of this machine: two that want the same are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clasp_rt_bridges::devices::SerialDevice;
use clasp_rt_bridges::{SocketPlan, StreamPlan};

use super::{PORT, PlanError, error};
use crate::config::{BridgeAsWritten, Config, Transport};
use crate::open_bridge::Opened;
use crate::plan_types::{ListenerPlan, ListenerTransport};

/// What is taken so far.
#[derive(Default)]
pub struct Ports {
    tcp: Vec<(SocketAddr, String)>,
    udp: Vec<Datagrams>,
    lines: Vec<(SerialDevice, String)>,
}

struct Datagrams {
    plan: SocketPlan,
    /// The bridge's.
    kind: String,
    key: String,
}

impl Ports {
    /// `key` listens on a TCP port.
    pub fn listen(&mut self, key: &str, addr: SocketAddr, errors: &mut Vec<PlanError>) {
        if let Some((held, by)) = self.tcp.iter().find(|(held, _)| meet(addr, *held)) {
            errors.push(error(key, twice(addr, *held, by)));
        }
        self.tcp.push((addr, key.to_owned()));
    }

    /// What the bridge opens that is written `at` a key of the file.
    pub fn bridge(
        &mut self,
        at: &str,
        written: &BridgeAsWritten,
        opened: &Opened,
        errors: &mut Vec<PlanError>,
    ) {
        let bind = format!("{at}.bind");
        let bridge = match opened {
            Opened::Bridge(bridge) => bridge,
            Opened::Service(service) => {
                return service.listens().into_iter().for_each(|addr| {
                    self.listen(&bind, addr, errors);
                });
            }
        };
        // What more a bridge binds hears what is sent to groups or to all.
        if let Some(plan) = bridge.sockets().into_iter().next() {
            self.datagrams(Datagrams { plan, kind: written.kind.clone(), key: bind }, errors);
        }
        let mut keys = addresses(written);
        for (number, stream) in bridge.streams().into_iter().enumerate() {
            match stream {
                StreamPlan::Listen { bind, .. } => {
                    let of = keys.iter().position(|(_, addr)| *addr == bind);
                    let key = of.map_or("bind", |of| keys.remove(of).0);
                    self.listen(&format!("{at}.{key}"), bind, errors);
                }
                StreamPlan::Serial(line) => {
                    let key = match &line.device {
                        _ if written.kind == "midi" => "serial",
                        SerialDevice::UsbSerial(_) => "usb_serial",
                        SerialDevice::Path(_) | SerialDevice::FirstFtdi => "port",
                    };
                    self.line(line.device, format!("{at}.device[{number}].{key}"), errors);
                }
                StreamPlan::Connect { .. } | StreamPlan::Midi(_) => {}
            }
        }
    }

    fn datagrams(&mut self, wanted: Datagrams, errors: &mut Vec<PlanError>) {
        let bind = wanted.plan.bind;
        for held in &self.udp {
            let shared = wanted.plan.reuse_address && held.plan.reuse_address;
            // Of those that share a port each hears its groups, and all that is broadcast.
            let is_deaf = wanted.kind == "artnet" && held.kind == "artnet";
            if shared && is_deaf && bind == held.plan.bind && bind.port() != 0 {
                let by = &held.key;
                let why = format!(
                    "{bind} is that of {by}, and what nodes send there reaches only one of the \
                     two: bind each to an address of its own, or make one bridge of them"
                );
                errors.push(error(&wanted.key, why));
            } else if !shared && meet(bind, held.plan.bind) {
                errors.push(error(&wanted.key, twice(bind, held.plan.bind, &held.key)));
            }
        }
        self.udp.push(wanted);
    }

    fn line(&mut self, device: SerialDevice, key: String, errors: &mut Vec<PlanError>) {
        if let Some((_, by)) = self.lines.iter().find(|(held, _)| *held == device) {
            errors.push(error(&key, format!("{by} is the same device: say where this one is")));
        }
        self.lines.push((device, key));
    }
}

/// Every port of the shards; that of `server.metrics` is noted, too.
pub fn listeners(
    config: &Config,
    ports: &mut Ports,
    errors: &mut Vec<PlanError>,
) -> Vec<ListenerPlan> {
    let server = &config.server;
    let bind = server.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut listeners = Vec::new();
    let mut add = |transport, addr, key: &str| {
        ports.listen(key, addr, errors);
        listeners.push(ListenerPlan { transport, addr });
    };
    let addr = SocketAddr::new(bind, server.port.unwrap_or(PORT));
    add(ListenerTransport::WebSocket, addr, "server.port");
    if let Some(port) = server.tcp_port {
        add(ListenerTransport::Tcp, SocketAddr::new(bind, port), "server.tcp_port");
    }
    for (index, more) in config.listeners.iter().enumerate() {
        let transport = match more.transport {
            Transport::Ws => ListenerTransport::WebSocket,
            Transport::Tcp => ListenerTransport::Tcp,
        };
        let addr = SocketAddr::new(more.bind.unwrap_or(bind), more.port);
        add(transport, addr, &format!("listen[{index}].port"));
    }
    if let Some(addr) = server.metrics {
        ports.listen("server.metrics", addr, errors);
    }
    listeners
}

/// The options, but for `bind`, that are addresses.
fn addresses(written: &BridgeAsWritten) -> Vec<(&str, SocketAddr)> {
    let options = written.options.iter().filter(|(key, _)| *key != "bind");
    let address = |value: &serde_json::Value| value.as_str()?.parse().ok();
    options.filter_map(|(key, value)| Some((key.as_str(), address(value)?))).collect()
}

/// Whether two sockets hear the same port of the same address.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip(), other.ip());
    let is_same = ip == other_ip || hears(ip, other_ip) || hears(other_ip, ip);
    one.port() == other.port() && one.port() != 0 && is_same
}

/// Whether what is sent to `one` comes to `all`, too; `[::]` hears IPv4 as well.
fn hears(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

fn twice(addr: SocketAddr, held: SocketAddr, by: &str) -> String {
    match addr == held {
        true => format!("{addr} is listened on twice: it is that of {by}"),
        false => format!("{addr} and {held} of {by} meet: give one of them another port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::plan::Plan;

    #[test]
    fn two_addresses_meet_where_one_packet_could_go_to_both() {
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
        ];
        for (one, other, expected) in cases {
            let [a, b] = [one, other].map(|text| text.parse().expect(text));
            assert_eq!((meet(a, b), meet(b, a)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn a_port_or_a_device_that_two_want_is_told_at_the_second() {
        let osc = |bind: &str| format!("[[bridge]]\ntype = \"osc\"\n{bind}\n");
        let of = |kind: &str, more: &str| format!("[[bridge]]\ntype = \"{kind}\"\n{more}\n");
        let listen = |more: &str| format!("[[listen]]\ntransport = \"tcp\"\n{more}\n");
        let cases = [
            (listen("port = 7330"), "listen[0].port: 0.0.0.0:7330 is listened on twice"),
            (listen("bind = \"127.0.0.1\"\nport = 7330"), "listen[0].port: 127.0.0.1:7330 and"),
            ("[server]\nmetrics = \"[::]:7330\"".to_owned(), "server.metrics: [::]:7330 and 0.0"),
            (of("http", "bind = \"127.0.0.1:7330\""), "bridge[0].bind: 127.0.0.1:7330 and 0.0.0.0"),
            (of("http", "") + &of("websocket", "bind = \"[::]:8080\""), "bridge[1].bind"),
            (
                of("socketio", "bind = \"0.0.0.0:1883\"") + &of("mqtt-listener", ""),
                "bridge[1].bind",
            ),
            (osc("") + &osc("bind = \"127.0.0.1:8000\""), "bridge[1].bind: 127.0.0.1:8000 and"),
            (osc("listen_tcp = \"127.0.0.1:7330\""), "bridge[0].listen_tcp"),
            (
                osc("listen_tcp = \"127.0.0.1:9\"\noscquery = \"127.0.0.1:9\""),
                "bridge[0].oscquery: 127.0.0.1:9 is listened on twice: it is that of \
                 bridge[0].listen_tcp",
            ),
            (of("artnet", "") + &of("artnet", "inputs = \"none\""), "bridge[1].bind: 0.0.0.0:6454"),
            (of("artnet", "") + &osc("bind = \"0.0.0.0:6454\""), "bridge[1].bind"),
            (of("dmx", "") + &of("dmx", ""), "bridge[1].device[0].port"),
            (
                of("dmx", "[[bridge.device]]\nport = \"/dev/ttyUSB0\"")
                    + &of("midi", "[[bridge.device]]\nserial = \"/dev/ttyUSB0\""),
                "bridge[1].device[0].serial: bridge[0].device[0].port is the same device",
            ),
        ];
        for (text, said) in cases {
            let errors = planned(&text);
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
            assert!(errors[0].starts_with(said), "{text}: {errors:?}");
        }
    }

    #[test]
    fn what_can_be_shared_is() {
        let text = |kind: &str, more: &str| format!("[[bridge]]\ntype = \"{kind}\"\n{more}\n");
        let group = "bind = \"0.0.0.0:9000\"\nmulticast = [\"239.0.0.1\"]\nname = ";
        let cases = [
            text("sacn", "name = \"a\"") + &text("sacn", "name = \"b\"\ninputs = \"none\""),
            text("artnet", "bind = \"127.0.0.1:6454\"")
                + &text("artnet", "bind = \"127.0.0.2:6454\""),
            text("osc", &format!("{group}\"a\"")) + &text("osc", &format!("{group}\"b\"")),
            // UDP and TCP are two families of ports.
            text("osc", "bind = \"0.0.0.0:7330\""),
            text("osc", "bind = \"0.0.0.0:9000\"\nlisten_tcp = \"0.0.0.0:9000\""),
            text("http", "bind = \"127.0.0.1:0\"") + &text("websocket", "bind = \"127.0.0.1:0\""),
            text("websocket", "") + &text("websocket", "url = \"ws://127.0.0.1:1/\""),
        ];
        for text in cases {
            assert_eq!(planned(&text), [""; 0], "{text}");
        }
    }

    fn planned(text: &str) -> Vec<String> {
        let (config, problems) = Config::parse(text);
        assert_eq!(problems, [], "{text}");
        let host = Host { files_max: 1 << 20, memory_bytes: 1 << 40, ..Host::read() };
        let errors = Plan::new(&config, &host).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }
}
