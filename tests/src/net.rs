//! A network of a test's own: two hosts, `stage` and `desks`, joined by a cable.
//!
//! Lighting protocols speak by multicast and broadcast, at ports that the standards fix. In a
//! network of its own a test may use them as they are, beside any other test and without root: it
//! runs once more, inside of `stage`, where the router is; what it starts by [`Desks::command`]
//! runs on `desks`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::program::{Program, clasp_rt, run};

/// Where the router is.
pub const STAGE: &str = "10.99.0.1";

/// Where everybody else is.
pub const DESKS: &str = "10.99.0.2";

/// Says that a test runs inside.
const INSIDE: &str = "CLASP_RT_TEST_INSIDE";

/// The other host. It goes with the test.
pub struct Desks {
    holder: Program,
}

/// Runs `test`, which is the test `name` of its file, in a network of its own.
pub fn of_its_own(name: &str, test: impl FnOnce(&Desks)) {
    if std::env::var(INSIDE).as_deref() == Ok(name) {
        return test(&Desks::new());
    }
    let mut again = Command::new("unshare");
    // In a process table of its own, too: whatever the test leaves behind ends with it.
    again.args(["--user", "--map-root-user", "--net", "--pid", "--mount-proc"]);
    again.args(["--fork", "--kill-child"]);
    again.arg(std::env::current_exe().expect("the path of this test"));
    again.args([name, "--exact", "--nocapture", "--test-threads", "1"]);
    // Its process numbers begin at 1, as those of the next test do: files are told apart by folder.
    let folder = std::env::temp_dir().join(format!("clasp-rt-{}-{name}", std::process::id()));
    std::fs::create_dir(&folder).expect("the folder for temporary files can be written");
    again.env(INSIDE, name).env("CLASP_RT_BIN", clasp_rt()).env("TMPDIR", &folder);
    let output = again.stdin(Stdio::null()).output().expect("unshare is part of util-linux");
    // What a killed program left behind.
    let _ = std::fs::remove_dir_all(&folder);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "inside of its network:\n{said}");
    println!("{said}");
}

impl Desks {
    fn new() -> Self {
        let hold = "ip link set lo up && echo ready && exec cat";
        let holder = Program::start(Command::new("unshare").args(["--net", "sh", "-c", hold]));
        holder.line_where(|line| line == "ready");
        let pid = holder.child.id();
        let cable = format!(
            "ip link set lo up && ip link add stage type veth peer name desks \
             && ip link set desks netns {pid}"
        );
        let net = Self { holder };
        shell(Command::new("sh").args(["-c", &format!("{cable} && {}", up("stage", STAGE))]));
        shell(net.command("sh").args(["-c", &up("desks", DESKS)]));
        net
    }

    /// A program that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.child.id().to_string(), "--net"]).arg(program);
        command
    }

    /// The same, as somebody who is not root there.
    pub fn command_of_user(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("unshare");
        command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
        command
    }
}

/// Gives an end of the cable its address, and lets groups leave by it.
fn up(link: &str, address: &str) -> String {
    format!(
        "ip addr add {address}/24 brd 10.99.0.255 dev {link} && ip link set {link} up \
         && ip route add 224.0.0.0/4 dev {link}"
    )
}

fn shell(command: &mut Command) {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
