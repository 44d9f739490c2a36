//! Metrics, and what is made for those who read them.

use std::{collections::BTreeSet, process::Command};

use batrun_monitor::Monitor;
use prometheus_client::{encoding::text, registry::Registry};

use crate::{
    journal::archive,
    support::{Shop, ask, get, monitor, one_of_each, shop},
};

async fn scrape(shop: &Shop, accept: &'static str) -> (String, String) {
    let answer = ask(
        monitor(shop).mount("/batrun"),
        get("metrics").insert_header(("accept", accept)),
    )
    .await;
    assert_eq!(answer.status, 200);
    (answer.header("content-type").to_owned(), answer.text)
}

/// The names of the samples.
fn names(metrics: &str) -> BTreeSet<String> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

#[actix_web::test]
async fn metrics_have_the_names_that_are_promised() {
    let shop = shop().await;
    one_of_each(&shop).await;
    let (kind, metrics) = scrape(&shop, "").await;
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let mut promised = BTreeSet::new();
    for name in "pipeline_info tasks_accepted_total tasks_ended_total tasks_refused_total tasks_in_flight \
        tasks_in_flight_limit tasks_stuck tasks_stuck_limit pipeline_paused pipeline_draining pipeline_suspended \
        stage_queued stage_queue_capacity stage_oldest_queued_seconds stage_workers stage_workers_busy \
        stage_workers_target stage_up stage_build_failures stage_attempts_started_total stage_attempts_total \
        stage_retries_total stage_undos_cancelled_total stage_cancel_failures_total monitor_streams \
        monitor_sample_seconds_total"
        .split_whitespace()
    {
        promised.insert(format!("batrun_{name}"));
    }
    for name in [
        "stage_wait_seconds",
        "stage_work_seconds",
        "rollback_seconds",
    ] {
        promised.extend(["bucket", "sum", "count"].map(|part| format!("batrun_{name}_{part}")));
    }
    assert_eq!(names(&metrics), promised);
    for line in [
        r#"batrun_tasks_accepted_total{pipeline="shop <&>"} 4"#,
        r#"batrun_tasks_ended_total{pipeline="shop <&>",outcome="failed"} 2"#,
        r#"batrun_tasks_in_flight{pipeline="shop <&>"} 1"#,
        r#"batrun_stage_attempts_total{pipeline="shop <&>",stage="take",result="finished"} 4"#,
        r#"batrun_stage_work_seconds_bucket{pipeline="shop <&>",stage="take",le="+Inf"} 4"#,
        r#"batrun_rollback_seconds_count{pipeline="shop <&>"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    // Never an error, a label, a key or an undo.
    for text in ["luck", "label-", "secret"] {
        assert!(!metrics.contains(text));
    }
}

/// The metrics of a pipeline with a journal in a file.
async fn with_a_journal() -> String {
    let archive = archive().await;
    let metrics = ask(archive.monitor.mount("/batrun"), get("metrics")).await;
    archive
        .handle
        .shutdown(batrun::Shutdown::Abort)
        .await
        .unwrap();
    metrics.text
}

#[actix_web::test]
async fn a_journal_adds_what_is_promised_and_nothing_else() {
    let plain = names(&scrape(&shop().await, "").await.1);
    let with = names(&with_a_journal().await);
    let added: Vec<_> = with.difference(&plain).map(String::as_str).collect();
    let promised = [
        "batrun_journal_bytes",
        "batrun_journal_commit_seconds_bucket",
        "batrun_journal_commit_seconds_count",
        "batrun_journal_commit_seconds_sum",
        "batrun_journal_outcomes_kept",
    ];
    assert_eq!(added, promised);
    assert!(plain.is_subset(&with));
}

#[actix_web::test]
async fn openmetrics_is_written_for_those_who_accept_it() {
    let shop = shop().await;
    let (kind, metrics) = scrape(
        &shop,
        "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
    )
    .await;
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    assert!(metrics.ends_with("# EOF\n"));
    assert!(metrics.contains("# UNIT batrun_stage_wait_seconds seconds\n"));
}

#[actix_web::test]
async fn a_registry_of_the_users_has_the_same() {
    let shop = shop().await;
    let monitor = Monitor::new().watch(&shop).buckets([1.0, 0.5]);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(monitor.collector()));
    let mut own = String::new();
    text::encode(&mut own, &registry).unwrap();
    assert!(own.contains("batrun_tasks_accepted_total{pipeline=\"shop <&>\"} 0"));
    let bounds = own
        .lines()
        .filter(|line| line.starts_with("batrun_rollback_seconds_bucket"));
    assert_eq!(bounds.count(), 3);
    // It keeps nothing.
    drop(monitor);
    let mut own = String::new();
    text::encode(&mut own, &registry).unwrap();
    assert_eq!(own, "# EOF\n");
}

#[actix_web::test]
async fn dashboard_and_alerts_ask_for_what_there_is() {
    let shop = shop().await;
    let mut known = names(&scrape(&shop, "").await.1);
    known.append(&mut names(&with_a_journal().await));
    for (file, text) in [
        ("grafana.json", include_str!("../../grafana.json")),
        ("alerts.yml", include_str!("../../alerts.yml")),
    ] {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let mut asked = 0;
        for name in words.filter(|word| word.starts_with("batrun_")) {
            assert!(known.contains(name), "{file} asks for {name}");
            asked += 1;
        }
        assert!(asked > 5, "{file}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../grafana.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 8);
}

/// Debian's package is prometheus.
#[actix_web::test]
#[ignore = "needs promtool"]
async fn promtool_finds_nothing_to_say() {
    let shop = shop().await;
    one_of_each(&shop).await;
    for metrics in [scrape(&shop, "").await.1, with_a_journal().await] {
        check_metrics(&metrics);
    }
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/alerts.yml");
    let output = Command::new("promtool")
        .args(["check", "rules", rules])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn check_metrics(metrics: &str) {
    use std::{io::Write, process::Stdio};
    let mut check = Command::new("promtool");
    let check = check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
