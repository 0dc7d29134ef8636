//! `clasp-rt doctor`, as a technician runs it on a new machine.

use std::process::{Command, Output};

use clasp_rt_tests::program::{clasp_rt, run};
use serde_json::Value as Json;

fn doctor(arguments: &[&str]) -> Output {
    run(Command::new(clasp_rt()).arg("doctor").args(arguments))
}

fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// What was found on `topic`, each time it was.
fn of<'a>(report: &'a Json, topic: &str) -> Vec<&'a Json> {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["topic"] == topic).collect()
}

#[test]
fn this_machine_is_measured_and_every_finding_has_a_verdict() {
    let output = doctor(&["--json", "--seconds", "0.3"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report = json(&output);
    let cores = report["cores"].as_array().expect("cores");
    assert!(!cores.is_empty());
    let probe = report["probe"].as_array().expect("a probe of each core");
    assert_eq!(probe.len(), cores.len());
    for core in probe {
        assert!(cores.contains(&core["core"]), "{core}");
        assert_eq!(core["wakes"]["count"], 100, "a third of the time, each millisecond: {core}");
        assert!(core["held_up"]["count"].as_u64() >= Some(1), "{core}");
        let ascending = ["p50_us", "p99_us", "p99_9_us", "max_us"];
        let figures = ascending.map(|figure| core["wakes"][figure].as_f64().expect("a figure"));
        assert!(figures.is_sorted(), "{core}");
    }
    // The program's other tests run routers here.
    for topic in ["kernel", "io_uring", "ring features"] {
        assert_eq!(of(&report, topic)[0]["verdict"], "OK", "{topic}");
    }
    assert_eq!(of(&report, "hiccups").len(), cores.len());
    for finding in report["findings"].as_array().expect("findings") {
        let well = match finding["verdict"].as_str() {
            Some("OK") => true,
            Some("WARN" | "LACKS") => false,
            _ => panic!("no verdict: {finding}"),
        };
        assert_eq!(finding["fix"] == "", well, "{finding}");
        assert_eq!(finding["costs"] == "", well, "{finding}");
    }
}

#[test]
fn chosen_cores_alone_are_looked_at_and_absent_ones_are_named() {
    let core = json(&doctor(&["--json", "--seconds", "0"]))["cores"][0].to_string();
    let report = json(&doctor(&["--json", "--seconds", "0", "--cores", &core]));
    assert_eq!(report["cores"].to_string(), format!("[{core}]"));
    assert_eq!(report["probe"].as_array().map(Vec::len), Some(0), "0 seconds measure nothing");
    let output = doctor(&["--cores", "8191"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("core 8191 is not there; this process may use"), "{said}");
}

#[test]
fn lines_for_people_name_the_price_and_the_remedy() {
    let output = doctor(&["--seconds", "0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |start: &str| text.lines().filter(|line| line.trim().starts_with(start)).count();
    let wanting = count("WARN") + count("LACKS");
    assert!(count("OK") > 0, "{text}");
    assert_eq!((count("costs:"), count("fix:")), (wanting, wanting), "{text}");
    let last = text.lines().last().expect("a last line");
    assert_eq!(last, format!("{} to change, {} not there", count("WARN"), count("LACKS")));
}

#[test]
fn a_machine_that_cannot_run_a_router_ends_it_with_1_and_says_what_to_do() {
    let folder = std::env::temp_dir().join(format!("clasp-rt-doctor-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("proc/sys/kernel")).expect("a folder");
    std::fs::write(folder.join("proc/sys/kernel/osrelease"), "4.19.0-27-amd64\n").expect("a file");
    let root = folder.to_str().expect("a path of plain text");
    let output = doctor(&["--root", root, "--cores", "0"]);
    std::fs::remove_dir_all(&folder).expect("it was made above");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("4.19.0-27-amd64 is older than 6.1; install Linux 6.1"), "{said}");
}
