//! The rules that Grafana dashboards keep, checked on their JSON: what Grafana itself would not complain about.

use std::collections::BTreeSet;

use serde_json::Value;

/// A query of a dashboard, and what asks it.
#[derive(Clone, Debug)]
pub struct Query {
    /// Title of the panel, or name of the annotation.
    pub of: String,
    /// With Grafana's variables in it.
    pub expression: String,
}

impl Query {
    /// Without variables, for a Prometheus that is asked over so many seconds.
    pub fn plain(&self, seconds: u64) -> String {
        self.expression
            .replace("$__rate_interval", "6s")
            .replace("$__range", &format!("{seconds}s"))
            .replace("$job", ".+")
            .replace("$instance", ".+")
            .replace("$pair", ".+")
    }
}

/// Every query of a dashboard: panels and annotations.
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let mut found = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            found.push(Query { of: text(&panel["title"]), expression: text(&target["expr"]) });
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        found.push(Query { of: text(&annotation["name"]), expression: text(&annotation["expr"]) });
    }
    found
}

/// What is wrong with a dashboard, a sentence each. `known` are the metrics that the engine has, and recording rules.
pub fn lint(dashboard: &Value, known: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let uid = text(&dashboard["uid"]);
    demand(uid.starts_with("colo-") && uid.len() <= 40, format!("uid {uid:?} is not a stable one of ours"));
    demand(dashboard["id"].is_null(), "id belongs to an installation and must be null".to_owned());
    demand(dashboard["graphTooltip"] == 1, "the crosshair is not shared".to_owned());
    demand(!text(&dashboard["title"]).is_empty(), "it has no title".to_owned());
    demand(!text(&dashboard["description"]).is_empty(), "it has no description".to_owned());
    demand(
        dashboard["elements"].is_null() && dashboard["schemaVersion"].is_u64(),
        "it is not of the classic model".to_owned(),
    );
    lint_variables(dashboard, &mut demand);
    let annotations = list(&dashboard["annotations"]["list"]);
    let checkpoints = |one: &&Value| text(&one["expr"]).contains("colo_last_checkpoint_timestamp_seconds");
    demand(annotations.iter().any(|one| checkpoints(&one)), "checkpoints are no annotations".to_owned());
    let panels = list(&dashboard["panels"]);
    let mut ids = BTreeSet::new();
    for (place, panel) in panels.iter().enumerate() {
        demand(ids.insert(panel["id"].as_u64()), format!("panel id {} is there twice", panel["id"]));
        for other in &panels[..place] {
            let titles = (text(&panel["title"]), text(&other["title"]));
            demand(!overlap(panel, other), format!("{:?} lies over {:?}", titles.0, titles.1));
        }
        lint_panel(panel, &mut demand);
    }
    for query in queries(dashboard) {
        lint_query(&query, known, &mut demand);
    }
    wrong
}

fn lint_variables(dashboard: &Value, demand: &mut impl FnMut(bool, String)) {
    let variables = list(&dashboard["templating"]["list"]);
    let sources = variables.iter().filter(|one| one["type"] == "datasource");
    let sources: Vec<_> = sources.map(|one| (text(&one["name"]), text(&one["query"]))).collect();
    let wanted = [("datasource".to_owned(), "prometheus".to_owned())];
    demand(sources == wanted, format!("data source variables are {sources:?}, not the one"));
    for name in ["job", "instance", "pair"] {
        let variable = variables.iter().find(|one| one["name"] == name);
        let fits = variable
            .is_some_and(|one| one["multi"] == true && one["includeAll"] == true && one["allValue"] == ".+");
        demand(fits, format!("variable {name} is not multi with .+ for all"));
    }
}

fn lint_panel(panel: &Value, demand: &mut impl FnMut(bool, String)) {
    let title = text(&panel["title"]);
    demand(!title.is_empty(), format!("panel {} has no title", panel["id"]));
    let place = |name: &str| panel["gridPos"][name].as_u64();
    let fits = place("x").zip(place("w")).is_some_and(|(x, w)| w > 0 && x + w <= 24);
    demand(fits && place("y").is_some() && place("h").is_some(), format!("{title:?} lies beside the grid"));
    if panel["type"] == "row" {
        return;
    }
    demand(!text(&panel["description"]).is_empty(), format!("{title:?} has no description"));
    demand(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), format!("{title:?} has no unit"));
    let targets = list(&panel["targets"]);
    demand(!targets.is_empty(), format!("{title:?} asks nothing"));
    for one in targets.iter().chain([panel]) {
        let source = text(&one["datasource"]["uid"]);
        demand(source == "${datasource}", format!("{title:?} names the data source {source:?}"));
    }
}

fn lint_query(query: &Query, known: &BTreeSet<String>, demand: &mut impl FnMut(bool, String)) {
    let Query { of, expression } = query;
    for variable in ["$job", "$instance"] {
        demand(expression.contains(variable), format!("{of:?} does not choose by {variable}"));
    }
    for function in ["rate(", "increase(", "changes("] {
        for (at, _) in expression.match_indices(function) {
            let window = expression[at..].split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let window = window.map_or("", |(window, _)| window);
            demand(
                ["$__rate_interval", "$__range", "1m"].contains(&window),
                format!("{of:?} has a {function}) over {window:?}, not $__rate_interval"),
            );
        }
    }
    for selector in expression.split('}').filter_map(|part| part.rsplit_once('{')) {
        let name = selector.0.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').next();
        let name = name.unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = known.contains(name) || family.is_some_and(|family| known.contains(family));
        demand(is_known, format!("{of:?} asks for {name}, which there is not"));
        let choosing =
            name.starts_with("process_") || name.starts_with("colo_core_") || name.starts_with("colo_poll_");
        demand(choosing || selector.1.contains("$pair"), format!("{of:?} does not choose {name} by $pair"));
    }
}

fn overlap(one: &Value, other: &Value) -> bool {
    let place = |panel: &Value, at: &str, length: &str| {
        let at = panel["gridPos"][at].as_u64().unwrap_or(0);
        at..at + panel["gridPos"][length].as_u64().unwrap_or(0)
    };
    let meet = |at, length| {
        let (one, other) = (place(one, at, length), place(other, at, length));
        one.start < other.end && other.start < one.end
    };
    meet("x", "w") && meet("y", "h")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
