//! TLS of the services for web programs: curl, npm `ws` and the client of Socket.IO are the judges,
//! with an authority of the show's own.

use std::path::Path;
use std::process::Command;

use clasp_rt_tests::certificates::certificates;
use clasp_rt_tests::program::{Program, clasp_rt, installed, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFolder;

/// Certificates in a folder that goes with the test.
struct Keys(TempFolder);

impl Keys {
    fn new() -> Self {
        Self(certificates())
    }

    fn file(&self, name: &str) -> String {
        self.0.file(name)
    }

    /// A service with this certificate.
    fn bridge(&self, kind: &str, more: &str) -> String {
        let (cert, key) = (self.file("server.pem"), self.file("server.key"));
        format!(
            "[[bridge]]\ntype = \"{kind}\"\nbind = \"127.0.0.1:0\"\n\
             tls = {{ cert = \"{cert}\", key = \"{key}\"{more} }}\n"
        )
    }
}

/// The status of an answer; or why there is none, by curl's own number.
fn curl(url: &str, arguments: &[&str]) -> Result<String, i32> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "15", "-o", "/dev/null", "-w", "%{http_code}"]);
    let output = run(command.args(arguments).arg(url));
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        code => Err(code.expect("curl is not killed")),
    }
}

/// `node PEER ARGUMENTS`, which believes one authority more.
fn node(peer: &str, authority: Option<&str>, arguments: &[&str]) -> Program {
    installed("peers/node_modules");
    let mut command = Command::new("node");
    if let Some(authority) = authority {
        command.env("NODE_EXTRA_CA_CERTS", authority);
    }
    Program::start(command.arg(installed(peer)).args(arguments))
}

#[test]
fn each_service_speaks_tls_to_whoever_believes_its_authority_and_to_nobody_else() {
    let keys = Keys::new();
    let kinds = ["http", "websocket", "socketio"];
    let config: String = kinds.iter().map(|kind| keys.bridge(kind, "")).collect();
    let router = Router::with_config(&config, &[]);
    let ca = keys.file("ca.pem");
    let ca = ca.as_str();

    let http = router.served("https://");
    let param = format!("https://{http}/v1/state/a");
    let put = ["-X", "PUT", "-d", "1", "--cacert", ca];
    assert_eq!(curl(&param, &put).as_deref(), Ok("201"));
    assert_eq!(curl(&param, &["--cacert", ca, "--tls-max", "1.2"]).as_deref(), Ok("200"));
    assert_eq!(curl(&param, &[]), Err(60), "whoever does not know the authority");
    assert!(curl(&param.replace("https", "http"), &[]).is_err(), "nothing is said in the open");

    let ws = format!("wss://{}", router.served("wss+json://"));
    let mut peer = node("peers/ws_json_peer.mjs", Some(ca), &[&ws]);
    assert_eq!(peer.line().as_deref(), Some("open"));
    peer.write_line(r#"{"op":"get","address":"/a","id":1}"#);
    assert!(peer.line().is_some_and(|line| line.contains("\"value\":1")));
    let stranger = node("peers/ws_json_peer.mjs", None, &[&ws]);
    assert!(stranger.line().is_some_and(|line| line.starts_with("error")));

    let socketio = format!("https://{}", router.served("socketio+https://"));
    for transports in ["polling", "websocket"] {
        let peer = node("peers/socketio_peer.mjs", Some(ca), &[&socketio, transports]);
        peer.line_where(|line| line.contains("connected"));
    }
}

#[test]
fn where_clients_need_a_certificate_nobody_comes_in_without_a_good_one() {
    let (keys, others) = (Keys::new(), Keys::new());
    let ca = keys.file("ca.pem");
    let router = Router::with_config(&keys.bridge("http", &format!(", client_ca = \"{ca}\"")), &[]);
    let url = format!("https://{}/v1/health", router.served("https://"));
    let [good, bad] =
        [&keys, &others].map(|keys| [keys.file("client.pem"), keys.file("client.key")]);
    let with =
        |[cert, key]: &[String; 2]| curl(&url, &["--cacert", &ca, "--cert", cert, "--key", key]);
    assert_eq!(with(&good).as_deref(), Ok("200"));
    assert!(with(&bad).is_err(), "one of another authority");
    assert!(curl(&url, &["--cacert", &ca]).is_err(), "none");
    assert_eq!(with(&good).as_deref(), Ok("200"), "and it serves on");
}

#[test]
fn a_server_elsewhere_is_joined_over_tls_where_its_authority_is_believed() {
    let (keys, others) = (Keys::new(), Keys::new());
    let router = Router::start(&[]);
    let [cert, key] = ["server.pem", "server.key"].map(|name| keys.file(name));
    let server = node("peers/ws_json_peer.mjs", None, &["serve", &cert, &key]);
    let line = server.line_where(|line| line.starts_with("listening "));
    let url = format!("wss://127.0.0.1:{}", line.trim_start_matches("listening "));
    let join = |ca: &Path| {
        let mut command = Command::new(clasp_rt());
        command.args(["websocket", "--url", &url, "--ca"]).arg(ca);
        Program::start(command.args(["--router", &router.url()]))
    };
    let refused = join(&others.0.join("ca.pem"));
    clasp_rt_tests::eventually("it says that it does not believe", || {
        refused.errors().contains("cannot join").then_some(())
    });
    drop(refused);
    let _bridge = join(&keys.0.join("ca.pem"));
    assert_eq!(server.line().as_deref(), Some("open"), "only the one that believes");
}

#[test]
fn certificates_that_cannot_be_read_are_told_under_the_flag_that_was_typed() {
    let mut command = Command::new(clasp_rt());
    command.args(["http", "--port", "0", "--cert", "/nowhere.pem", "--key", "/nowhere.key"]);
    let output = run(&mut command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("--cert") && errors.contains("/nowhere.pem"), "{errors}");
}

#[test]
fn a_pair_that_cannot_be_used_is_told_as_what_it_is_by_check_and_at_start() {
    let keys = Keys::new();
    for (name, form) in [("locked.key", None), ("old.key", Some("-traditional"))] {
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-aes256", "-passout", "pass:show", "-in", &keys.file("server.key")]);
        let output = run(openssl.args(form).args(["-out", &keys.file(name)]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let cases = [
        ("server.pem", "locked.key", "tls.key", "the key is encrypted"),
        ("server.pem", "old.key", "tls.key", "the key is encrypted"),
        ("server.pem", "client.key", "tls.key", "not the key of the first certificate in"),
        ("server.pem", "server.pem", "tls.key", "holds a certificate and no private key"),
        ("server.key", "server.key", "tls.cert", "holds a private key and no certificate"),
        ("server.ext", "server.key", "tls.cert", "holds no certificate"),
    ];
    let config = keys.file("router.toml");
    for (cert, key, named, why) in cases {
        let [cert, key] = [cert, key].map(|name| keys.file(name));
        let text = format!(
            "[[bridge]]\ntype = \"http\"\nbind = \"127.0.0.1:0\"\n\
             tls = {{ cert = \"{cert}\", key = \"{key}\" }}\n"
        );
        std::fs::write(&config, text).expect("a file");
        let file = if named == "tls.key" { &key } else { &cert };
        for arguments in [vec!["check", &config], vec!["server", "--config", &config]] {
            let output = run(Command::new(clasp_rt()).args(arguments));
            let said = String::from_utf8_lossy(&output.stderr);
            let place = format!("line 4: bridge[0].{named}: {file}: ");
            assert!(!output.status.success() && said.contains(&place), "{said}");
            assert!(said.contains(why), "{why}: {said}");
        }
    }
}
