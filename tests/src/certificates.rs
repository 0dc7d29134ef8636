//! Certificates of a show's own authority, made by `openssl` for one test.

use std::path::Path;
use std::process::Command;

use crate::program::run;
use crate::temporary::TempFolder;

/// A folder with `ca.pem`, and with `NAME.pem` and `NAME.key` for a server at 127.0.0.1 and for a
/// client.
pub fn certificates() -> TempFolder {
    let folder = TempFolder::new();
    write_certificates(&folder);
    folder
}

/// The same, into a folder that is there.
pub(crate) fn write_certificates(folder: &Path) {
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
