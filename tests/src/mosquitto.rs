//! The broker `mosquitto` and its clients, on ports of this machine alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::write_certificates;
use crate::eventually;
use crate::ports::free_tcp_ports;
use crate::program::{Program, run};
use crate::temporary::TempFolder;

/// A running broker. Ended when dropped.
pub struct Broker {
    program: Program,
    folder: TempFolder,
    listeners: Vec<Listener>,
    pub ports: Vec<u16>,
}

/// What one of its ports speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Plain,
    /// Asks for `alice` and `secret`.
    Password,
    Tls,
    /// Asks clients for a certificate, too.
    Mutual,
    WebSocket,
}

impl Broker {
    /// Starts one with a port for each of `listeners`.
    pub fn start(listeners: &[Listener]) -> Self {
        let folder = TempFolder::new();
        let ports = listeners.iter().flat_map(|_| free_tcp_ports::<1>()).collect();
        prepare(&folder, listeners);
        Self::launch(folder, listeners.to_vec(), ports)
    }

    /// Kills it, and gives what starts it again on the same ports; it then knows nothing.
    pub fn stop(mut self) -> Stopped {
        self.program.kill();
        let Self { folder, listeners, ports, .. } = self;
        Stopped { folder, listeners, ports }
    }

    fn launch(folder: TempFolder, listeners: Vec<Listener>, ports: Vec<u16>) -> Self {
        let config = folder.join("mosquitto.conf");
        std::fs::write(&config, configuration(&folder, &listeners, &ports)).expect("a file");
        let mosquitto = in_path("mosquitto");
        let mut command = Command::new(mosquitto);
        let program = Program::start(command.arg("-c").arg(&config));
        for port in &ports {
            let answers = || std::net::TcpStream::connect(("127.0.0.1", *port)).ok();
            eventually("mosquitto to listen", answers);
        }
        Self { program, folder, listeners, ports }
    }

    /// A file that [`Listener::Tls`] and [`Listener::Mutual`] brought: `ca.pem`, `client.pem`,
    /// `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.folder.file(name)
    }

    /// Publishes with `mosquitto_pub` on the first port.
    pub fn publish(&self, arguments: &[&str]) {
        let port = self.ports[0].to_string();
        let mut command = Command::new(in_path("mosquitto_pub"));
        let output = run(command.args(["-h", "127.0.0.1", "-p", &port]).args(arguments));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mosquitto_pub {arguments:?}: {errors}");
    }

    /// Subscribes with `mosquitto_sub` on the first port, and waits until the broker says so. Its
    /// lines are `TOPIC retained=0 qos=0 PAYLOAD`.
    pub fn subscribe(&self, arguments: &[&str]) -> Program {
        subscribe("127.0.0.1", self.ports[0], arguments)
    }
}

/// `mosquitto_sub` at any broker, as [`Broker::subscribe`].
pub fn subscribe(host: &str, port: u16, arguments: &[&str]) -> Program {
    let mut command = Command::new(in_path("mosquitto_sub"));
    let port = port.to_string();
    command.args(["-d", "-F", "%t retained=%r qos=%q %p", "-h", host, "-p", &port]);
    // Its lines are to come one by one.
    let program = Program::start(&mut line_wise(command.args(arguments)));
    program.line_where(|line| line.starts_with("Subscribed"));
    program
}

/// The next message of a subscriber; what `-d` says beside them is passed over.
pub fn next_message(subscriber: &Program) -> String {
    subscriber.line_where(|line| line.contains(" retained="))
}

/// The same command with output that is not kept back.
fn line_wise(command: &Command) -> Command {
    let mut wrapped = Command::new("stdbuf");
    wrapped.arg("-oL").arg(command.get_program()).args(command.get_args());
    wrapped
}

/// A broker that is gone for a while.
pub struct Stopped {
    folder: TempFolder,
    listeners: Vec<Listener>,
    ports: Vec<u16>,
}

impl Stopped {
    /// Its first port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    pub fn start(self) -> Broker {
        Broker::launch(self.folder, self.listeners, self.ports)
    }
}

fn configuration(folder: &Path, listeners: &[Listener], ports: &[u16]) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut text = String::from("per_listener_settings true\n");
    // Started by root it would become a user that cannot read its files.
    text += "user root\n";
    for (listener, port) in listeners.iter().zip(ports) {
        text += &format!("listener {port} 127.0.0.1\n");
        let tls = format!("certfile {}\nkeyfile {}\n", file("server.pem"), file("server.key"));
        text += &match listener {
            Listener::Plain => "allow_anonymous true\n".to_owned(),
            Listener::Password => format!("password_file {}\n", file("passwords")),
            Listener::Tls => format!("allow_anonymous true\n{tls}"),
            Listener::Mutual => format!(
                "cafile {}\n{tls}require_certificate true\nuse_identity_as_username true\n",
                file("ca.pem")
            ),
            Listener::WebSocket => "protocol websockets\nallow_anonymous true\n".to_owned(),
        };
    }
    text
}

/// Writes what `listeners` need: passwords, certificates.
fn prepare(folder: &Path, listeners: &[Listener]) {
    if listeners.contains(&Listener::Password) {
        let mut command = Command::new(in_path("mosquitto_passwd"));
        command.args(["-b", "-c"]).arg(folder.join("passwords")).args(["alice", "secret"]);
        assert!(run(&mut command).status.success(), "mosquitto_passwd works");
    }
    if listeners.iter().any(|listener| matches!(listener, Listener::Tls | Listener::Mutual)) {
        write_certificates(folder);
    }
}

/// A program that a package brings; daemons lie where only root's `PATH` leads.
pub fn in_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let mut found = folders.map(|folder| folder.join(name));
    let missing = || panic!("{name} is not installed: run `bash tests/setup.sh` first");
    found.find(|path| path.exists()).unwrap_or_else(missing)
}
