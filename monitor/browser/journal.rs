//! The contents of a journal: finished tasks, found by their keys, and the processes that share one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};
use batrun::{PipelineHandle, journal::Journal, prelude::*};
use batrun_monitor::{Access, Monitor};
use serde_json::{Value, json};

use crate::{
    axe::{axe, findings},
    page::Page,
};

/// More than fit on a page.
const TASKS: u32 = 120;

struct Archive {
    handle: PipelineHandle<u32, String>,
    address: SocketAddr,
    server: ServerHandle,
    only_look: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Archive {
    /// Tasks 1 to 120 have ended, of which each tenth failed; all have keys.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let print = stage_fn("print", async |n: u32, task: &TaskContext<u32>| {
            task.on_cancel(n).await?;
            match n % 10 {
                0 => Err(Failure::permanent("<img src=x onerror=alert(1)> no paper")),
                _ => Ok(format!("<b>page</b> {n}")),
            }
        })
        .cancel_with(async |_: u32, _: &CancelContext| Ok(()));
        let handle = Pipeline::new("archive")
            .journal(Journal::open(folder.path().join("journal")).unwrap())
            .stage(print)
            .start()
            .await
            .unwrap();
        for n in 1..=TASKS {
            let ticket = handle.submit(n).key(format!("order <{n}>"));
            ticket.await.unwrap().outcome().await.unwrap();
        }
        let (monitor, only_look) = (Monitor::new().watch(&handle), Arc::<AtomicBool>::default());
        let look = only_look.clone();
        let server = HttpServer::new(move || {
            let look = look.clone();
            let access = move |_: &actix_web::HttpRequest| match look.load(Ordering::SeqCst) {
                true => Access::look(),
                false => Access::all(),
            };
            App::new().service(monitor.mount("/batrun").access(access))
        });
        let server = server.workers(1).disable_signals();
        let server = server.bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let archive = Archive {
            handle,
            address,
            server: server.handle(),
            only_look,
            _folder: folder,
        };
        rt::spawn(server);
        archive
    }

    async fn end(self) {
        self.handle.shutdown(Shutdown::Abort).await.unwrap();
        self.server.stop(false).await;
    }
}

fn on_a_page<F: Future<Output = Archive>>(name: &str, test: impl FnOnce(Archive, Page) -> F) {
    let Ok(driver) = std::env::var("BATRUN_WEBDRIVER") else {
        panic!("run it through .ci/chromium")
    };
    actix_rt::System::new().block_on(async {
        let archive = Archive::start().await;
        let address = format!("http://{}/batrun/", archive.address);
        let page = Page::open(&driver, &address, name).await;
        let after = page.clone();
        let archive = test(archive, page).await;
        after.has_no_complaints().await;
        after.close().await;
        archive.end().await;
    });
}

/// The numbers of the tasks that the page lists.
async fn listed(page: &Page) -> Vec<u64> {
    let listed = page.run(
        "return [...document.querySelectorAll('[data-row]')].map((row) => Number(row.dataset.row))",
    );
    let listed = listed.await;
    let listed = listed.as_array().unwrap().iter();
    listed.map(|task| task.as_u64().unwrap()).collect()
}

/// The number of lines behind the link that exports what is shown.
async fn exported(page: &Page) -> Value {
    page.run_async(
        "const done = arguments[arguments.length - 1];
         fetch(document.querySelector('main a[href*=\"/export\"]').href).then(async (answer) => {
           const lines = (await answer.text()).trim().split('\\n').map((line) => JSON.parse(line));
           done(answer.headers.get('content-disposition').startsWith('attachment') ? lines.length : 'it is shown');
         }).catch((error) => done(String(error)))",
    )
    .await
}

/// To people with a screen reader, a keyboard or weak eyes, as far as axe-core can tell.
async fn is_open_to_all(page: &Page) {
    if let Some(axe) = axe() {
        page.run(&axe).await;
        assert_eq!(findings(page).await, json!([]));
    }
}

fn down_from(first: u64, last: u64) -> Vec<u64> {
    (last..=first).rev().collect()
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn finished_tasks_are_paged_and_found_by_their_keys() {
    on_a_page("journal", async |archive, page| {
        page.press("nav a[href=\"#/0/journal\"]").await;
        page.until("document.querySelectorAll('[data-row]').length === 50")
            .await;
        assert_eq!(listed(&page).await, down_from(120, 71));
        page.has("<img src=x onerror=alert(1)> no paper").await;
        page.shot("newest").await;
        assert_eq!(exported(&page).await, json!(TASKS + 1));
        page.press("[data-act=\"further\"]").await;
        page.until("document.querySelector('[data-row]')?.dataset.row === '70'")
            .await;
        assert_eq!(listed(&page).await, down_from(70, 21));
        // The place stands in the address.
        page.reload().await;
        page.until("document.querySelector('[data-row]')?.dataset.row === '70'")
            .await;
        page.press("[data-act=\"further\"]").await;
        page.until("document.querySelectorAll('[data-row]').length === 20")
            .await;
        assert_eq!(listed(&page).await, down_from(20, 1));
        assert_eq!(
            page.run("return document.querySelectorAll('[data-act=\"further\"]').length")
                .await,
            json!(0)
        );
        page.press("[data-act=\"newest\"]").await;
        page.until("document.querySelector('[data-row]')?.dataset.row === '120'")
            .await;
        // New ones come by themselves.
        let ticket = archive.handle.submit(121).await.unwrap();
        ticket.outcome().await.unwrap();
        page.until("document.querySelector('[data-row]')?.dataset.row === '121'")
            .await;

        // By the box on top, from any view, with a key that was pressed.
        page.keys("go").await;
        page.until("document.querySelector('.picture')").await;
        page.search("order <7>").await;
        page.has("In the journal").await;
        page.press("main .hits a").await;
        page.until("location.hash.includes('/journal?q=')").await;
        page.until("document.querySelectorAll('[data-row]').length === 1")
            .await;
        assert_eq!(listed(&page).await, [7]);
        page.has("<b>page</b> 7").await;
        assert_eq!(exported(&page).await, json!(2));
        page.shot("key").await;
        let made = page
            .run("return document.querySelectorAll('main img, main td b').length")
            .await;
        assert_eq!(made, json!(0));
        page.go("journal?q=nobody").await;
        page.has("No finished task that is kept has this key.")
            .await;
        archive
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_journal_is_gone_through_with_the_keyboard_on_narrow_and_dark_pages() {
    on_a_page("journal-sizes", async |archive, page| {
        for (width, theme) in [
            (360, "light"),
            (360, "dark"),
            (720, "light"),
            (1440, "dark"),
        ] {
            page.resize(width, theme).await;
            page.keys("gj").await;
            page.until("document.querySelectorAll('[data-row]').length === 50")
                .await;
            let wide = page
                .run("return document.documentElement.scrollWidth - innerWidth")
                .await;
            assert_eq!(wide, json!(0), "{width}");
            page.shot(&format!("{width}-{theme}")).await;
            is_open_to_all(&page).await;
            if width == 360 {
                let small = page.run("return [...document.querySelectorAll('main button, main input, nav a')].filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 43.5).map((one) => one.outerHTML)");
                assert_eq!(small.await, json!([]));
            }
        }
        page.keys("j").await;
        page.until("document.activeElement?.closest('[data-row]')?.dataset.row === '120'")
            .await;
        page.enter().await;
        page.until("location.hash.includes('/journal?q=')").await;
        page.until("document.querySelectorAll('[data-row]').length === 1")
            .await;
        assert_eq!(listed(&page).await, [120]);
        page.escape().await;
        page.until("document.querySelectorAll('[data-row]').length === 50")
            .await;
        archive
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn who_may_only_look_sees_no_keys_and_no_box_for_them() {
    on_a_page("journal-look", async |archive, page| {
        archive.only_look.store(true, Ordering::SeqCst);
        page.reload().await;
        page.go("journal").await;
        page.until("document.querySelectorAll('[data-row]').length === 50")
            .await;
        let text = page
            .run("return document.querySelector('main').textContent")
            .await;
        let text = text.as_str().unwrap();
        assert!(
            !text.contains("order <") && text.contains("hidden from you"),
            "{text}"
        );
        let boxes = page
            .run("return document.querySelectorAll('main input').length")
            .await;
        assert_eq!(boxes, json!(0));
        archive
    });
}

/// The answers of a database that several processes share, which is not beside this browser; the API's own tests
/// hold it against one.
const SHARED: &str = r#"
    const [fetched, parsed] = [window.fetch, JSON.parse];
    JSON.parse = (text) => parsed(text.replaceAll('"journal":"file"', '"journal":"database"'));
    const stages = (version) => [{ name: "pack <i>", version }, { name: "send", version: 1 }];
    const node = (node, more) => ({ node, this: false, name: "host-" + node + " process 4711 <b>", state: "live", began: Date.now() - 60000,
      lease_ns: "15000000000", lease_left_ns: "12300000000", tasks: "17", queued: "3", room: "40", commits: "9007199254740993", stages: stages(2), ...more });
    const answer = {
      kind: "database", this: "3", lease_left_ns: "12300000000", waiting: "5",
      nodes: [
        node("1", { state: "dead", lease_left_ns: null, tasks: "2", stages: stages(1) }),
        node("2", { state: "overdue", lease_left_ns: null, tasks: "10000" }), node("3", { this: true }), node("4", { state: "left", lease_left_ns: null, stages: [] }),
      ],
      takeovers: [
        { node: "3", name: "host-3 process 4711 <b>", from: "1", from_name: "host-1 <i>", killed: true, tasks: "12", at: Date.now() - 60000 },
        { node: "2", name: "host-2", from: "4", from_name: "host-4", killed: false, tasks: "1", at: Date.now() - 86400000 },
      ],
      counted_to: "10000",
      stranded: [{ stages: stages(1), tasks: "2", stuck: "1" }],
    };
    window.fetch = async (path, ...rest) => String(path).endsWith("/nodes") ? new Response(JSON.stringify(answer)) : fetched(path, ...rest);
"#;

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn nodes_their_leases_takeovers_and_stranded_tasks_are_shown() {
    on_a_page("nodes", async |archive, page| {
        let tabs = "return document.querySelectorAll('nav a[href$=\"/nodes\"]').length";
        assert_eq!(page.run(tabs).await, json!(0));
        page.runs_first(SHARED).await;
        for (width, theme) in [(1440, "light"), (1440, "dark"), (360, "light")] {
            page.resize(width, theme).await;
            page.press("nav a[href=\"#/0/nodes\"]").await;
            for text in [
                "host-3 process 4711 <b> (this process)",
                "12.3 s of 15.0 s",
                "silent: its lease has run out",
                "gone: its lease ran out",
                "gone: it has ended",
                "node 3 has taken over",
                "node 2 was given",
                "host-1 <i>",
                "it has ended and left them to others",
                "10\u{2009}000 or more",
                "5 tasks wait for a process with room",
                "Tasks that no process can go on with",
                "pack <i> v1 → send v1",
                "none: it only submits",
            ] {
                page.has(text).await;
            }
            let wide = page
                .run("return document.documentElement.scrollWidth - innerWidth")
                .await;
            assert_eq!(wide, json!(0), "{width}");
            page.shot(&format!("{width}-{theme}")).await;
            is_open_to_all(&page).await;
        }
        page.keys("go").await;
        page.until("document.querySelector('.picture')").await;
        page.keys("gn").await;
        page.has("node 3 has taken over").await;
        archive
    });
}
