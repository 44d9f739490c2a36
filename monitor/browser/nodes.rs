//! The processes that share a real database. Needs a server beside the browser:
//!
//!   .ci/postgres .ci/chromium cargo test -p batrun-browser postgres -- --ignored

use std::{env, future::pending, process, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};
use batrun::{PipelineHandle, journal::Journal, prelude::*};
use batrun_monitor::Monitor;
use serde_json::{Value, json};

use crate::page::Page;

/// Longer than a busy machine lets a process stand still.
const LEASE: Duration = Duration::from_secs(10);

/// A process, whose tasks hang.
async fn node(server: &str, version: u32) -> PipelineHandle<u32, u32> {
    let schema = format!("browser {}", process::id());
    let journal = Journal::options().lease(LEASE).schema(schema);
    let hangs = stage_fn("hang", async |_: u32, _: &TaskContext<()>| pending().await);
    Pipeline::new("shared")
        .journal(journal.postgres(server).await.unwrap())
        .stage(hangs.workers(4).version(version))
        .start()
        .await
        .unwrap()
}

/// The address of a page about this process, and its server.
fn serve(of: &PipelineHandle<u32, u32>) -> (String, ServerHandle) {
    let monitor = Monitor::new().watch(of);
    let server = HttpServer::new(move || App::new().service(monitor.mount("/batrun")));
    let server = server.workers(1).disable_signals();
    let server = server.bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/batrun/", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    rt::spawn(server);
    (address, handle)
}

/// The cells of each row of a table of the page.
async fn table(page: &Page, label: &str) -> Vec<Vec<String>> {
    let rows = format!(
        "return [...document.querySelectorAll('[aria-label=\"{label}\"] tbody tr')]
             .map((row) => [...row.cells].map((cell) => cell.textContent))"
    );
    serde_json::from_value(page.run(&rows).await).unwrap()
}

/// The answer of the API.
async fn answer(page: &Page) -> Value {
    page.run_async(
        "const done = arguments[arguments.length - 1];
         fetch('api/v1/pipelines/0/nodes').then((answer) => answer.json()).then(done)",
    )
    .await
}

#[test]
#[ignore = "needs a server and chromium: .ci/postgres .ci/chromium"]
fn nodes_takeovers_and_stranded_tasks_are_shown_as_they_are_on_postgres() {
    let (Ok(driver), Ok(server)) = (env::var("BATRUN_WEBDRIVER"), env::var("BATRUN_POSTGRES"))
    else {
        panic!("run it through .ci/postgres .ci/chromium")
    };
    actix_rt::System::new().block_on(async {
        let first = node(&server, 1).await;
        for n in 0..3 {
            first.submit(n).await.unwrap();
        }
        let second = node(&server, 1).await;
        let (address, stop) = serve(&second);
        let page = Page::open(&driver, &address, "nodes-postgres").await;
        page.press("nav a[href=\"#/0/nodes\"]").await;
        page.until("document.querySelectorAll('[aria-label=\"Nodes\"] tbody tr').length === 2")
            .await;
        let nodes = table(&page, "Nodes").await;
        for (row, (number, state, tasks)) in
            nodes.iter().zip([("1", "alive", "3"), ("2", "alive", "0")])
        {
            assert_eq!(
                (&*row[0], &*row[2], &*row[4]),
                (&*format!("node {number}"), state, tasks)
            );
            assert!(
                row[3].ends_with("of 10.0 s") && row[8] == "hang v1",
                "{row:?}"
            );
        }
        assert!(nodes[1][1].ends_with("(this process)"), "{nodes:?}");
        page.has("No process has taken tasks over from another one")
            .await;

        first.shutdown(Shutdown::Suspend).await.unwrap();
        page.until("document.querySelector('[aria-label=\"Taken over\"] tbody tr')")
            .await;
        page.until("document.querySelectorAll('[aria-label=\"Nodes\"] tbody tr').length === 1")
            .await;
        let (shown, told) = (table(&page, "Taken over").await, answer(&page).await);
        let took = &told["takeovers"][0];
        assert_eq!(
            (&took["node"], &took["from"], &took["tasks"]),
            (&json!("2"), &json!("1"), &json!("3"))
        );
        let [row] = &shown[..] else {
            panic!("{shown:?}")
        };
        assert_eq!(
            (&*row[0], &*row[1], &*row[2]),
            ("node 2 was given", "3", "node 1")
        );
        assert_eq!(row[3], "it has ended and left them to others");
        assert_eq!(
            (json!(row[5]), json!(row[6])),
            (took["name"].clone(), took["from_name"].clone())
        );
        page.shot("taken-over").await;
        page.has_no_complaints().await;

        // One with another version is left with tasks that it can't go on with, and every view says so.
        let third = node(&server, 2).await;
        second.shutdown(Shutdown::Suspend).await.unwrap();
        page.close().await;
        stop.stop(false).await;
        let (address, stop) = serve(&third);
        let page = Page::open(&driver, &address, "stranded-postgres").await;
        page.press("#warnings a[href=\"#/0/nodes\"]").await;
        page.has("3 tasks wait for a process with the stages hang v1, and none lives: start one")
            .await;
        page.until("document.querySelector('[aria-label=\"Stranded tasks\"] tbody tr')")
            .await;
        let stranded = table(&page, "Stranded tasks").await;
        assert_eq!(stranded, [["hang v1", "3", "0"]]);
        // The tasks that the first one has left are still to be seen.
        assert_eq!(table(&page, "Taken over").await[0][0], "node 2 was given");
        page.shot("stranded").await;
        page.has_no_complaints().await;
        page.close().await;
        third.shutdown(Shutdown::Abort).await.unwrap();
        stop.stop(false).await;
    });
}
