//! What people see of the engine in Prometheus and Grafana: promtool has nothing to say against metrics and rules, the
//! dashboards keep their rules, and each of their queries finds data of a running `colo demo`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::dashboards::{Query, lint, queries};
use colo_tests::metrics::{Scrape, http_get};
use colo_tests::process::{Colo, free_tcp_address};
use colo_tests::prometheus::{Prometheus, promtool};
use serde_json::Value;

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(grafana().join("dashboards")).expect("dashboards");
    let files = files.map(|file| file.expect("a file").path());
    let parsed = files.map(|path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, serde_json::from_str(&read(&path)).expect("JSON"))
    });
    let mut all: Vec<_> = parsed.collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(all.len(), 3);
    all
}

fn rule_files() -> [String; 2] {
    ["colo-recording.yml", "colo-alerts.yml"]
        .map(|name| grafana().join("prometheus/rules").join(name).to_string_lossy().into_owned())
}

/// Names of metrics by docs/METRICS.md, which another test holds against the code.
fn known() -> BTreeSet<String> {
    let document = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md"));
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let known: BTreeSet<_> = rows.map(|(name, _)| name.to_owned()).collect();
    assert!(known.len() > 40, "{known:?}");
    known
}

#[test]
fn the_dashboards_keep_their_rules() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert_eq!(lint(&dashboard, &known()), Vec::<String>::new(), "{name}");
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}: its uid is another's");
    }
}

/// A change to a dashboard, and a word of what the lint says then.
type Broken = (&'static str, fn(&mut Value));

#[test]
fn a_broken_dashboard_is_found() {
    let broken: [Broken; 16] = [
        ("uid", |it| it["uid"] = "x".into()),
        ("belongs to an installation", |it| it["id"] = 7.into()),
        ("crosshair", |it| it["graphTooltip"] = 0.into()),
        ("data source variables", |it| it["templating"]["list"][0]["query"] = "loki".into()),
        ("variable pair", |it| it["templating"]["list"][3]["multi"] = false.into()),
        ("variable job", |it| it["templating"]["list"][1]["allValue"] = "".into()),
        ("no annotations", |it| it["annotations"]["list"] = Value::Array(Vec::new())),
        ("has no title", |it| it["panels"][0]["title"] = "".into()),
        ("has no description", |it| it["panels"][1]["description"] = "".into()),
        ("has no unit", |it| it["panels"][1]["fieldConfig"]["defaults"]["unit"] = "".into()),
        ("names the data source", |it| it["panels"][1]["targets"][0]["datasource"]["uid"] = "abc".into()),
        ("lies over", |it| it["panels"][1]["gridPos"] = it["panels"][2]["gridPos"].clone()),
        ("beside the grid", |it| it["panels"][1]["gridPos"]["w"] = 25.into()),
        ("is there twice", |it| it["panels"][1]["id"] = it["panels"][2]["id"].clone()),
        ("which there is not", |it| replace(it, "colo_connections{", "colo_conections{")),
        ("not $__rate_interval", |it| replace(it, "[$__rate_interval]", "[5m]")),
    ];
    let (_, good) = dashboards().into_iter().find(|(name, _)| name == "internals.json").expect("internals");
    let good = {
        // Its first panel is a row; the changes above want panels in front.
        let mut good = good;
        let panels = good["panels"].as_array_mut().expect("panels");
        panels.remove(0);
        good
    };
    assert_eq!(lint(&good, &known()), Vec::<String>::new());
    for (wanted, break_it) in broken {
        let mut copy = good.clone();
        break_it(&mut copy);
        let wrong = lint(&copy, &known());
        assert!(wrong.iter().any(|one| one.contains(wanted)), "{wanted}: {wrong:?}");
    }
    let mut copy = good;
    replace(&mut copy, ",pair=~\\\"$pair\\\"", "");
    assert!(lint(&copy, &known()).iter().any(|one| one.contains("by $pair")));
}

/// Everywhere in the JSON's text.
fn replace(dashboard: &mut Value, from: &str, to: &str) {
    let text = dashboard.to_string();
    assert!(text.contains(from), "{from} is not there to be broken");
    *dashboard = serde_json::from_str(&text.replace(from, to)).expect("JSON");
}

#[test]
fn rules_and_queries_are_sound_and_alerts_fire_and_are_silent() {
    let [recording, alerts] = rule_files();
    promtool(&["check", "rules", &recording, &alerts], "").expect("sound rules");
    let tests = grafana().join("prometheus/tests/colo-alerts.yml");
    promtool(&["test", "rules", &tests.to_string_lossy()], "").expect("rules that do what they say");
    promtool(&["check", "config", &grafana().join("prometheus/prometheus.yml").to_string_lossy()], "")
        .expect("a sound configuration");
    // Every query, as a recording rule.
    let folder = tempfile::tempdir().expect("a folder");
    let all = dashboards();
    let rule = |(number, query): (usize, Query)| {
        format!("  - record: query_{number}\n    expr: {}\n", Value::from(query.plain(60)))
    };
    let rules: Vec<_> = all.iter().flat_map(|(_, one)| queries(one)).enumerate().map(rule).collect();
    let text = format!("groups:\n- name: queries\n  rules:\n{}", rules.concat());
    let path = folder.path().join("queries.yml");
    std::fs::write(&path, text).expect("a file");
    promtool(&["check", "rules", &path.to_string_lossy()], "").expect("sound queries");
}

#[test]
fn every_alert_has_its_tests_and_its_line_in_the_runbook() {
    let [_, alerts] = rule_files();
    let (alerts, tests) =
        (read(Path::new(&alerts)), read(&grafana().join("prometheus/tests/colo-alerts.yml")));
    let runbook = read(&grafana().join("../docs/RUNBOOK.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let wanted = [
        "ColoDown",
        "ColoCheckpointRateHigh",
        "ColoReleaseLatencyNearTimeout",
        "ColoFramesDropped",
        "ColoShardStalled",
        "ColoPoolNearlyEmpty",
        "ColoStuckInPassiveMode",
        "ColoSecondaryLost",
        "ColoInvariantViolated",
    ];
    assert_eq!(names, wanted);
    for name in names {
        for which in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {which}\n")), "no test in which {name} {which}");
        }
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} is not in the runbook");
        assert!(alerts.contains(&format!("RUNBOOK.md#{}", name.to_lowercase())), "{name} names no line");
    }
    let each = |key: &str| alerts.lines().filter(|line| line.trim().starts_with(key)).count();
    for key in ["severity:", "summary:", "description:", "runbook:"] {
        assert_eq!(each(key), wanted.len(), "{key}");
    }
}

#[test]
fn every_query_finds_data_of_a_running_demo() -> Result<()> {
    let seconds = std::env::var("COLO_PROMETHEUS_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(15);
    let (folder, metrics) = (tempfile::tempdir()?, free_tcp_address()?);
    let run_for = (seconds + 120).to_string();
    let address = metrics.to_string();
    let arguments =
        ["demo", "--seconds", &run_for, "--diverge", "0.05", "--workers", "2", "--metrics", &address];
    let demo = Colo::start(arguments)?;
    Scrape::wait(metrics, Duration::from_secs(20), |page| {
        page.sum("colo_checkpoints_completed_total", &[]).is_ok_and(|count| count > 0)
    })?;
    promtool(&["check", "metrics"], &http_get(metrics, "/metrics")?)?;
    let prometheus = Prometheus::start(&configuration(folder.path(), &address)?, folder.path())?;
    std::thread::sleep(Duration::from_secs(seconds));
    // Rules are evaluated four times a minute, and a busy machine scrapes late: what is missing may yet come.
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let missing = without_data(&prometheus, seconds)?;
        if missing.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "queries without data:\n{}", missing.join("\n"));
        std::thread::sleep(Duration::from_secs(1));
    }
    let rules: Value = serde_json::from_str(&prometheus.get("/api/v1/rules")?)?;
    let groups = rules["data"]["groups"].as_array().context("groups")?;
    let all: Vec<_> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    ensure!(all.len() == 16 && all.iter().all(|rule| rule["health"] == "ok"), "rules: {rules}");
    // The page that names flows: the demo's secondary differs on purpose.
    let status: Value = serde_json::from_str(&http_get(metrics, "/status")?)?;
    let flows = &status["pairs"][0]["flows"];
    ensure!(flows["by_mismatches"][0]["mismatches"].as_u64() > Some(0), "{flows}");
    // On a busy machine a flow's last word may be a timeout.
    let differing = flows["by_mismatches"].as_array().context("flows that differ")?;
    ensure!(differing.iter().any(|flow| flow["last"]["detail"]["kind"].is_string()), "{flows}");
    ensure!(flows["by_held_time"][0]["held_seconds"].as_f64() > Some(0.0), "{flows}");
    drop(prometheus);
    demo.terminate(Duration::from_secs(20))?.expect_code(0)
}

/// The queries of all dashboards, and a recorded series, that have no number yet.
fn without_data(prometheus: &Prometheus, seconds: u64) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut ask = |of: &str, expression: &str| -> Result<()> {
        let series = prometheus.query(expression)?;
        let is_number = |one: &Value| one["value"][1].as_str().is_some_and(|text| text != "NaN");
        if !series.iter().any(is_number) {
            missing.push(format!("{of}: {expression}: {series:?}"));
        }
        Ok(())
    };
    for (name, dashboard) in dashboards() {
        for query in queries(&dashboard) {
            ask(&format!("{name}: {}", query.of), &query.plain(seconds))?;
        }
    }
    ask("a recording rule", "instance:colo_checkpoints_requested:rate1m")?;
    Ok(missing)
}

/// Ours, for this demo, every second.
fn configuration(folder: &Path, target: &str) -> Result<PathBuf> {
    let ours = read(&grafana().join("prometheus/prometheus.yml"));
    let rules = grafana().join("prometheus/rules").canonicalize()?;
    let mut text = ours.replace("127.0.0.1:9420", target);
    for (from, to) in [
        ("scrape_interval: 5s", "scrape_interval: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s"),
    ] {
        ensure!(text.contains(from), "{from} is not in prometheus.yml");
        text = text.replace(from, to);
    }
    text = text.replace("rules/*.yml", &format!("{}/*.yml", rules.display()));
    let path = folder.join("prometheus.yml");
    std::fs::write(&path, text)?;
    Ok(path)
}
