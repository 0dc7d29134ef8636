//! Recordings: what passed at a router is in them, and two replays of one come out alike.

use std::path::Path;
use std::process::Command;

use clasp_rt_tests::eventually;
use clasp_rt_tests::program::{Program, clasp_bench, clasp_rt, run};
use clasp_rt_tests::router::Router;
use clasp_rt_tests::temporary::TempFolder;
use serde_json::json;

/// What `clasp-bench replay` says of `folder` at a fresh router, without the latencies.
fn replayed(folder: &Path, speed: &str) -> String {
    let router = Router::start(&["--shards", "2", "--rate-limit", "0"]);
    let mut command = Command::new(clasp_bench());
    command.arg("replay").arg(folder).args(["--router", &router.url(), "--speed", speed]);
    let output = run(&mut command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kept = text.lines().filter(|line| !line.starts_with("latency"));
    kept.map(|line| line.split(';').next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// A few faders, cues and a touch, over several addresses and homes.
fn show(router: &Router) {
    let mut desk = router.join("desk");
    for step in 0..50 {
        for fader in 0..4 {
            let address = format!("/desk/{fader}/level");
            desk.send(json!({"type": "SET", "address": address, "value": step * 4 + fader}));
        }
        let signal = "event";
        let go = json!({"type": "PUBLISH", "address": "/cue/go", "signal": signal, "value": step});
        desk.send(go);
    }
    desk.ask(json!({"type": "PING"}));
}

#[test]
fn a_recording_of_a_running_router_replays_to_equal_digests() {
    let folder = TempFolder::new();
    let router = Router::start(&["--shards", "2", "--rate-limit", "0"]);
    let mut command = Command::new(clasp_rt());
    command.arg("record").arg(&*folder).args(["--router", &router.url()]);
    let mut recorder = Program::start(&mut command);
    eventually("the recorder joins", || recorder.errors().contains("joined").then_some(()));
    show(&router);
    eventually("everything is on the disk", || {
        let files = std::fs::read_dir(&*folder).ok()?;
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        (bytes > 250 * 32).then_some(())
    });
    assert!(recorder.terminate().success(), "{}", recorder.errors());

    let once = replayed(&folder, "max");
    assert!(once.contains("recording: 250 messages, whole"), "{once}");
    assert!(
        once.contains("said 250, arrived 250, superseded 0, unexpected 0, missing 0"),
        "{once}"
    );
    assert_eq!(replayed(&folder, "max"), once);
    assert_eq!(replayed(&folder, "4"), once);
}

/// The thread of the recorder: it has one of its own, after that of the bridges.
const RECORDER: usize = 1;

#[test]
fn a_router_records_itself_and_ends_the_file_in_order() {
    let folder = TempFolder::new();
    let config = format!("[record]\nfolder = {:?}\npatterns = [\"/cue/**\"]\n", &*folder);
    let arguments = ["--shards", "2", "--rate-limit", "0", "--metrics", "127.0.0.1:0"];
    let router = Router::with_config(&config, &arguments);
    router.counters_where(|counters| counters.of_bridges(RECORDER, "uplinks_joined") == 1);
    show(&router);
    router.counters_where(|counters| counters.of_bridges(RECORDER, "frames_in") >= 50);
    assert!(router.terminate().success());
    let text = replayed(&folder, "max");
    assert!(text.contains("recording: 50 messages, whole"), "{text}");
}

/// Of the recorder: a small disk of its own with three nights on it, and no room for a fourth.
const SMALL_DISK: &str = r#"
    mount -t tmpfs -o size=1m none "$0" || exit
    for night in 1 2 3; do echo "night $night" > "$0/2026010${night}T200000Z-000001.clasprec"; done
    head -c 2m /dev/zero > "$0/other" 2> /dev/null
    exec "$@"
"#;

#[test]
fn a_full_disk_costs_no_earlier_recording_and_the_same_file_goes_on() {
    let folder = TempFolder::new();
    let router = Router::start(&["--shards", "1", "--rate-limit", "0"]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK]).arg(&*folder);
    command.arg(clasp_rt()).arg("record").arg(&*folder);
    // The three nights, and this one.
    command.args(["--files-max", "4", "--router", &router.url()]);
    let mut recorder = Program::start(&mut command);
    let disk = format!("/proc/{}/root{}", recorder.child.id(), folder.display());
    eventually("the recorder joins", || recorder.errors().contains("joined").then_some(()));
    eventually("the disk takes nothing", || {
        show(&router);
        recorder.errors().contains("takes no recording").then_some(())
    });
    assert!(!recorder.errors().contains("goes on"), "{}", recorder.errors());
    std::fs::remove_file(format!("{disk}/other")).unwrap();
    eventually("the recording goes on", || {
        show(&router);
        recorder.errors().contains("goes on in").then_some(())
    });
    let files = std::fs::read_dir(&disk).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    let nights = files.iter().filter(|path| std::fs::read(path).unwrap().starts_with(b"night"));
    assert_eq!((nights.count(), files.len()), (3, 4), "{files:?}: {}", recorder.errors());
    assert!(std::fs::metadata(&files[3]).unwrap().len() > 0, "{files:?}");
    assert_eq!(recorder.errors().matches("goes on").count(), 1, "{}", recorder.errors());
    assert!(recorder.terminate().success(), "{}", recorder.errors());
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_anything_runs() {
    let output = run(Command::new(clasp_rt()).args(["record", "/proc/nothing"]));
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("recording to /proc/nothing"), "{errors}");
}
