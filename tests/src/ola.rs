//! `olad`, the lighting daemon of OLA, with one of its plugins, on the desks' host.

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::eventually;
use crate::net::Desks;
use crate::program::{Program, run};

/// Every plugin that Debian's has; one that no file switches off is on.
const PLUGINS: &str = "artnet dummy e131 osc usbserial espnet ftdidmx gpio karate kinet milinst \
                       opendmx openpixelcontrol pathport renard sandnet shownet spi stageprofi \
                       uartdmx usbdmx";

/// A running `olad`, as its own user: it refuses to run as root. Ended when dropped.
pub struct Ola<'d> {
    daemon: Program,
    folder: PathBuf,
    desks: &'d Desks,
    /// The number of the plugin's device, for its commands.
    pub device: String,
}

impl<'d> Ola<'d> {
    /// Starts it with the plugin whose file is `ola-{plugin}.conf`, holding `options`, and waits
    /// for the device that has `name` in its name.
    pub fn start(desks: &'d Desks, plugin: &str, options: &str, name: &str) -> Self {
        // In a network of its own a test may also count its processes by itself.
        let (process, thread) = (std::process::id(), std::thread::current());
        let test = thread.name().unwrap_or_default().replace("::", "-");
        let folder = std::env::temp_dir().join(format!("clasp-rt-ola-{test}-{process}"));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        for one in PLUGINS.split_whitespace() {
            let text = match one == plugin {
                true => format!("enabled = true\n{options}"),
                false => "enabled = false\n".to_owned(),
            };
            std::fs::write(folder.join(format!("ola-{one}.conf")), text).expect("a file of it");
        }
        let mut olad = desks.command_of_user("olad");
        olad.args(["-l", "3", "--no-register-with-dns-sd", "-c"]).arg(&folder);
        let daemon = Program::start(&mut olad);
        let mut ola = Self { daemon, folder, desks, device: String::new() };
        ola.device = eventually("olad has its device", || {
            let output = run(&mut ola.desks.command("ola_dev_info"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.contains(name))?;
            Some(line.strip_prefix("Device ")?.split(':').next()?.to_owned())
        });
        ola
    }

    /// Ends it as a service manager does, so that it gives back the devices that it holds.
    pub fn terminate(mut self) {
        self.daemon.terminate();
    }

    /// Runs one of its commands, and gives what it prints.
    pub fn command(&self, name: &str, arguments: &[&str]) -> String {
        let output = run(self.desks.command(name).args(arguments));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {errors}\n{}", self.daemon.errors());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it has of a universe of its own, by its web server: slot 1 first.
    pub fn levels(&self, universe: u16) -> Vec<Json> {
        let url = format!("http://127.0.0.1:9090/get_dmx?u={universe}");
        let fetch =
            format!("import urllib.request as u; print(u.urlopen('{url}').read().decode())");
        let output = run(self.desks.command("python3").args(["-c", &fetch]));
        let answer: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer["dmx"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Ola<'_> {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
