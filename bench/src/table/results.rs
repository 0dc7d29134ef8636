//! The results of a folder, found by key: see the list in `report.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value as Json;

use crate::report;

/// What a folder of results holds.
#[derive(Debug, Default)]
pub struct Results {
    measured: BTreeMap<String, Measured>,
    /// Commits that were measured, and the machines: one each, unless somebody mixed folders.
    pub commits: Vec<String>,
    pub machines: Vec<String>,
}

/// One measurement, as its command wrote it.
#[derive(Debug)]
struct Measured {
    json: Json,
    /// The file to look at for more, inside the folder.
    raw: String,
}

/// A number of each round, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub rounds: Vec<f64>,
    /// `µs`, `/s`, or what a figure says of itself.
    pub unit: String,
    /// File inside the folder.
    pub raw: String,
}

impl Results {
    /// Every `.json` file of `folder` that holds measurements.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut files: Vec<_> = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let mut results = Self::default();
        for file in files {
            let json: Json = serde_json::from_slice(&fs::read(&file)?)
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            results.add(&json, &name)?;
        }
        Ok(results)
    }

    /// The measurements of one file.
    fn add(&mut self, json: &Json, file: &str) -> io::Result<()> {
        let mut measured_any = false;
        for list in ["rows", "rates", "figures"] {
            for measured in json[list].as_array().into_iter().flatten() {
                let Some(key) = measured["key"].as_str() else { continue };
                measured_any = true;
                let raw = match list {
                    "rows" => report::hgrm_name(key),
                    _ => file.to_owned(),
                };
                let json = measured.clone();
                if self.measured.insert(key.to_owned(), Measured { json, raw }).is_some() {
                    let message = format!("{file}: another file of the folder holds {key} too");
                    return Err(io::Error::other(message));
                }
            }
        }
        if !measured_any {
            return Ok(());
        }
        let text = |json: &Json| json.as_str().map(str::to_owned);
        note(&mut self.commits, text(&json["commit"]));
        let machine = &json["machine"];
        note(&mut self.machines, text(&machine["cpu"]).map(|cpu| describe(&cpu, machine)));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }

    /// `KEY#FIELD`: of rows `p50`, `p99`, `p99.9`, `max` in microseconds, `lost` in all, and
    /// `floor.p50` and so on; of rates `per_second`, `floor`, `lost` of each round; of figures the
    /// key alone. `None` when it was not measured.
    pub fn series(&self, place: &str) -> Option<Series> {
        let (key, field) = place.split_once('#').unwrap_or((place, ""));
        let Measured { json, raw } = self.measured.get(key)?;
        let of_round = |round: &Json| match field {
            "" => round.as_f64(),
            "per_second" => round["per_second"].as_f64(),
            "floor" => round["floor_per_second"].as_f64(),
            "lost" => round["lost_or_out_of_order"].as_f64(),
            _ => {
                let (whose, quantile) = match field.strip_prefix("floor.") {
                    Some(quantile) => ("floor", quantile),
                    None => ("latency", field),
                };
                let name = format!("{}_ns", quantile.replace('.', "_"));
                round[whose][name].as_f64().map(|ns| ns / 1_000.0)
            }
        };
        let rounds: Vec<f64> = match (field, &json["lost"]) {
            // Of a row: counted once for all rounds.
            ("lost", Json::Number(lost)) => lost.as_f64().into_iter().collect(),
            _ => json["rounds"].as_array()?.iter().filter_map(of_round).collect(),
        };
        let unit = match (field, json["unit"].as_str()) {
            ("lost", _) => "lost",
            ("per_second" | "floor", _) => "/s",
            (_, Some(unit)) => unit,
            (_, None) => "µs",
        };
        (!rounds.is_empty()).then(|| Series { rounds, unit: unit.to_owned(), raw: raw.clone() })
    }
}

fn describe(cpu: &str, machine: &Json) -> String {
    let kind = if machine["hypervisor"] == true { "virtual machine" } else { "bare machine" };
    let kernel = machine["kernel"].as_str().unwrap_or("unknown");
    format!("{cpu}, {} cores ({kind}), Linux {kernel}", machine["cores"])
}

fn note(list: &mut Vec<String>, found: Option<String>) {
    if let Some(found) = found.filter(|found| !list.contains(found)) {
        list.push(found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_found_by_its_key_and_field() {
        let mut results = Results::default();
        let before_keys = json!({"commit": "old", "rows": [{"name": "hop", "lost": 0}]});
        results.add(&before_keys, "summary.json").unwrap();
        assert!(results.is_empty() && results.commits.is_empty());
        let round = |ns: u64| {
            let latency = json!({"p50_ns": ns, "p99_9_ns": 9 * ns});
            json!({"latency": latency, "floor": {"p50_ns": 1_000}})
        };
        let file = json!({
            "commit": "abc", "machine": {"cpu": "AMD EPYC", "cores": 2, "kernel": "6.18",
                "hypervisor": true},
            "rows": [{"key": "hop/x", "lost": 3, "rounds": [round(2_000), round(4_000)]}],
            "rates": [{"key": "throughput/x", "rounds": [
                {"per_second": 5.0, "floor_per_second": 10.0, "lost_or_out_of_order": 0},
            ]}],
            "figures": [{"key": "memory/param", "unit": "bytes", "rounds": [150.5]}],
        });
        results.add(&file, "suite.json").unwrap();
        let cases: [(&str, &[f64]); 7] = [
            ("hop/x#p50", &[2.0, 4.0]),
            ("hop/x#p99.9", &[18.0, 36.0]),
            ("hop/x#floor.p50", &[1.0, 1.0]),
            ("hop/x#lost", &[3.0]),
            ("throughput/x#floor", &[10.0]),
            ("throughput/x#lost", &[0.0]),
            ("memory/param", &[150.5]),
        ];
        for (place, expected) in cases {
            assert_eq!(results.series(place).unwrap().rounds, expected, "{place}");
        }
        for nothing in ["hop/y#p50", "hop/x#p98", "memory/param#p50"] {
            assert_eq!(results.series(nothing), None, "{nothing}");
        }
        let units = [("hop/x#p50", "µs"), ("throughput/x#floor", "/s"), ("memory/param", "bytes")];
        for (place, unit) in units {
            assert_eq!(results.series(place).unwrap().unit, unit, "{place}");
        }
        assert_eq!(results.series("hop/x#p50").unwrap().raw, "hop-x.hgrm");
        assert_eq!(results.series("memory/param").unwrap().raw, "suite.json");
        assert_eq!(results.machines, ["AMD EPYC, 2 cores (virtual machine), Linux 6.18"]);
    }

    #[test]
    fn a_key_in_two_files_is_an_error_that_names_it() {
        let file = json!({"figures": [{"key": "memory/param", "rounds": [150.5]}]});
        let mut results = Results::default();
        results.add(&file, "one.json").unwrap();
        let error = results.add(&file, "two.json").unwrap_err().to_string();
        assert!(error.contains("two.json") && error.contains("memory/param"), "{error}");
    }
}
