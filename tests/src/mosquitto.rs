//! The broker `mosquitto` and its clients, on ports of this machine alone.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::eventually;
use crate::program::{Program, run};

/// A running broker. Ended when dropped.
pub struct Broker {
    program: Program,
    folder: PathBuf,
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
        let folder = folder();
        let ports = listeners.iter().map(|_| free_port()).collect();
        certificates(&folder, listeners);
        Self::launch(folder, listeners.to_vec(), ports)
    }

    /// Kills it, and gives what starts it again on the same ports; it then knows nothing.
    pub fn stop(mut self) -> Stopped {
        self.program.kill();
        let (folder, listeners) = (self.folder.clone(), std::mem::take(&mut self.listeners));
        let stopped = Stopped { folder, listeners, ports: self.ports.clone() };
        // The folder goes on.
        self.folder = PathBuf::new();
        stopped
    }

    fn launch(folder: PathBuf, listeners: Vec<Listener>, ports: Vec<u16>) -> Self {
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
        self.folder.join(name).display().to_string()
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
    let program = Program::start(line_wise(command.args(arguments)));
    program.line_where(|line| line.starts_with("Subscribed"));
    program
}

/// The next message of a subscriber; what `-d` says beside them is passed over.
pub fn next_message(subscriber: &Program) -> String {
    subscriber.line_where(|line| line.contains(" retained="))
}

/// The same command with output that is not kept back.
fn line_wise(command: &Command) -> &mut Command {
    let mut wrapped = Command::new("stdbuf");
    wrapped.arg("-oL").arg(command.get_program()).args(command.get_args());
    Box::leak(Box::new(wrapped))
}

/// A broker that is gone for a while.
pub struct Stopped {
    folder: PathBuf,
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

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.folder.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
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

/// An authority, a server for 127.0.0.1 and a client, each where one is asked for.
fn certificates(folder: &Path, listeners: &[Listener]) {
    if listeners.contains(&Listener::Password) {
        let mut command = Command::new(in_path("mosquitto_passwd"));
        command.args(["-b", "-c"]).arg(folder.join("passwords")).args(["alice", "secret"]);
        assert!(run(&mut command).status.success(), "mosquitto_passwd works");
    }
    if listeners.iter().any(|listener| matches!(listener, Listener::Tls | Listener::Mutual)) {
        make_certificates(folder);
    }
}

/// Writes `ca.pem`, and `NAME.pem` and `NAME.key` for a server at 127.0.0.1 and for a client.
pub fn make_certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = run(Command::new("openssl").args(arguments).current_dir(folder));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {errors}");
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=show authority"];
    openssl(&[&authority[..], &curve, &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        .expect("a file");
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("a file");
    for name in ["server", "client"] {
        let [key, request, pem, extensions] =
            ["key", "csr", "pem", "ext"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        let new = ["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request];
        openssl(&[&new[..], &curve].concat());
        let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-CA", "ca.pem"];
        let from = ["-CAkey", "ca.key", "-in", &request, "-out", &pem, "-extfile", &extensions];
        openssl(&[&sign[..], &from].concat());
    }
}

/// A new folder for temporary files.
pub fn folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("clasp-rt-test-folder-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    folder
}

/// A port that the kernel has chosen and nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A program that a package brings; daemons lie where only root's `PATH` leads.
pub fn in_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let mut found = folders.map(|folder| folder.join(name));
    let missing = || panic!("{name} is not installed: run `bash tests/setup.sh` first");
    found.find(|path| path.exists()).unwrap_or_else(missing)
}
