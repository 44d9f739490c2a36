//! The monitor's page in a real browser, beside a pipeline that works.
//!
//!   .ci/postgres .ci/chromium cargo test -p batrun-browser -- --ignored
//!
//! Screenshots are in the folder `browser` beside the built tests. [`page`] drives the browser, [`world`] is the
//! pipeline.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod axe;
mod journal;
mod nodes;
mod page;
mod rows;
mod world;

use std::time::Duration;

use serde_json::json;

use page::Page;
use world::World;

/// Runs a test with a page on which nothing may be complained of.
fn on_a_page<F: Future<Output = ()>>(name: &str, test: impl FnOnce(World, Page) -> F) {
    let Ok(driver) = std::env::var("BATRUN_WEBDRIVER") else {
        panic!("run it through .ci/chromium")
    };
    actix_rt::System::new().block_on(async {
        let world = World::start().await;
        let page = Page::open(&driver, &world.address(), name).await;
        let after = page.clone();
        test(world.clone(), page).await;
        after.has_no_complaints().await;
        after.close().await;
        world.end().await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn the_page_shows_the_stages_and_the_numbers_of_the_api() {
    on_a_page("overview", async |world, page| {
        world.settle().await;
        page.has("reserve <b>seats</b>").await;
        page.has("charge").await;
        world
            .until(|sample| sample["counts"]["failed"] == json!("5"))
            .await;
        for (tile, field) in [
            ("done", "done"),
            ("failed", "failed"),
            ("accepted", "accepted"),
        ] {
            let there = world.sample().await;
            let wanted = there["counts"][field].as_str().unwrap().to_owned();
            page.until(&format!("document.querySelector('[data-number=\"{tile}\"]')?.textContent.replaceAll('\\u2009', '') === '{wanted}'")).await;
        }
        let snapshot = world.handle().snapshot();
        assert_eq!(
            world.sample().await["counts"]["failed"],
            snapshot.counts.failed.to_string()
        );
        page.shot("light").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn d1_texts_from_elsewhere_are_shown_as_texts() {
    on_a_page("hostile", async |world, page| {
        world.settle().await;
        page.go("failures").await;
        page.has("<script>alert(1)</script>").await;
        page.has("\\u{202e}").await;
        let made = page
            .run("return document.querySelectorAll('main script, main img, main b b').length")
            .await;
        assert_eq!(made, json!(0));
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_stage_is_paused_resized_and_limited() {
    on_a_page("actions", async |world, page| {
        page.press("[data-act=\"stage-pause\"][data-stage=\"charge\"]")
            .await;
        world
            .until(|sample| sample["stages"][1]["paused"] == json!(true))
            .await;
        page.press("[data-act=\"stage-resume\"][data-stage=\"charge\"]")
            .await;
        world
            .until(|sample| sample["stages"][1]["paused"] == json!(false))
            .await;
        page.press("[data-act=\"stage-resize\"][data-stage=\"charge\"]")
            .await;
        page.fill("workers", "5").await;
        page.confirm().await;
        world
            .until(|sample| sample["stages"][1]["workers"] == json!(5))
            .await;
        page.press("[data-act=\"stage-rate\"][data-stage=\"charge\"]")
            .await;
        page.fill("rate", "50").await;
        page.confirm().await;
        world
            .until(|sample| sample["stages"][1]["rate_limit"]["per_second"] == json!(50.0))
            .await;
        page.press("[data-act=\"pause\"]").await;
        world.until(|sample| sample["paused"] == json!(true)).await;
        page.has("Resume").await;
        page.press("[data-act=\"resume\"]").await;
        world.until(|sample| sample["paused"] == json!(false)).await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_task_is_found_looked_at_and_cancelled() {
    on_a_page("tasks", async |world, page| {
        let task = world.hang("wait for me").await;
        page.go("tasks").await;
        page.has("wait for me").await;
        page.shot("list").await;
        page.search("wait for").await;
        page.has(&format!("task {task}")).await;
        page.go(&format!("task/{task}")).await;
        page.has("Seat(").await;
        page.press("[data-act=\"cancel-one\"]").await;
        page.confirm().await;
        world.until_ended(task).await;
        page.has("cancelled").await;
        page.has("undone in").await;
        page.shot("timeline").await;
        // Its number is whole, whatever JavaScript thinks of it.
        let text = page
            .run("return document.querySelector('h2').textContent")
            .await;
        assert!(text.as_str().unwrap().contains(&task.to_string()), "{text}");
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_stuck_task_is_tried_again_and_resolved() {
    on_a_page("stuck", async |world, page| {
        let stuck = world.get_stuck(2).await;
        page.go("stuck").await;
        page.has("the bank does not answer").await;
        page.shot("list").await;
        world.the_bank_answers();
        page.press(&format!("[data-act=\"retry\"][data-task=\"{}\"]", stuck[0]))
            .await;
        world.until(|sample| sample["stuck"] == json!(1)).await;
        page.press(&format!(
            "[data-act=\"resolve\"][data-task=\"{}\"]",
            stuck[1]
        ))
        .await;
        page.fill("who", "ada").await;
        page.fill("why", "called the bank").await;
        page.confirm().await;
        world.until(|sample| sample["stuck"] == json!(0)).await;
        page.has("No task is stuck.").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_drain_is_confirmed_by_the_name_and_its_report_stays() {
    on_a_page("drain", async |world, page| {
        page.press("[data-act=\"drain\"]").await;
        page.fill("name", "another one").await;
        page.confirm().await;
        page.until("document.querySelector('#said .bad') !== null")
            .await;
        // The browser has written down the refusal.
        page.forget_complaints().await;
        assert_eq!(world.sample().await["draining"], json!(false));
        page.press("[data-act=\"drain\"]").await;
        page.fill("name", "orders").await;
        page.confirm().await;
        world.until(|sample| sample["ended"] == json!(true)).await;
        page.go("report").await;
        page.until("document.querySelector('pre')?.textContent.includes('reserve')")
            .await;
        let done = world.sample().await["counts"]["done"]
            .as_str()
            .unwrap()
            .to_owned();
        page.has(&done).await;
        page.shot("report").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_narrow_page_a_dark_one_and_a_large_one_have_no_text_outside() {
    on_a_page("sizes", async |world, page| {
        world.settle().await;
        world.get_stuck(1).await;
        for (width, theme) in [
            (1440, "dark"),
            (360, "light"),
            (360, "dark"),
            (720, "light"),
        ] {
            page.resize(width, theme).await;
            for view in ["overview", "tasks", "failures", "stuck"] {
                page.go(view).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                let wide = page
                    .run("return document.documentElement.scrollWidth - innerWidth")
                    .await;
                assert_eq!(wide, json!(0), "{view} at {width}");
                page.shot(&format!("{view}-{width}-{theme}")).await;
            }
        }
        page.resize(360, "light").await;
        let small = page.run(
            "return [...document.querySelectorAll('button, select, main a.tile, nav a')].filter((one) => one.checkVisibility() && !one.classList.contains('plain') && one.getBoundingClientRect().height < 43.5).map((one) => one.outerHTML)",
        ).await;
        assert_eq!(small, json!([]));
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn the_keyboard_alone_is_enough() {
    on_a_page("keys", async |world, page| {
        let task = world.hang("ada").await;
        page.keys("gt").await;
        page.until("location.hash.endsWith('/tasks')").await;
        page.has("ada").await;
        page.keys("j").await;
        page.until("document.activeElement?.closest('[data-row]') !== null")
            .await;
        page.enter().await;
        page.until(&format!("location.hash.endsWith('/task/{task}')"))
            .await;
        page.keys("/").await;
        page.until("document.activeElement?.id === 'search'").await;
        page.escape().await;
        page.keys("p").await;
        page.has("paused").await;
        page.keys("p").await;
        page.keys("go").await;
        page.until("location.hash.endsWith('/overview')").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_server_that_comes_back_is_found_again() {
    on_a_page("restart", async |world, page| {
        page.until("document.querySelector('.live.live') !== null")
            .await;
        world.stop_server().await;
        page.until("document.querySelector('.live.stale') !== null")
            .await;
        world.start_server().await;
        page.until("document.querySelector('.live.live') !== null")
            .await;
        page.forget_complaints().await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_hidden_tab_holds_no_stream() {
    on_a_page("hidden", async |world, page| {
        page.until("document.querySelector('.live.live') !== null")
            .await;
        world.until_streams(1).await;
        let other = page.hide().await;
        world.until_streams(0).await;
        page.show(other).await;
        world.until_streams(1).await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn d1_who_may_only_look_has_no_buttons() {
    on_a_page("look", async |world, page| {
        world.only_look().await;
        page.reload().await;
        page.has("charge").await;
        let acts = page
            .run("return document.querySelectorAll('.acts button, [data-act^=stage-]').length")
            .await;
        assert_eq!(acts, json!(0));
        let refused = page.run_async(
            "const done = arguments[0]; fetch('api/v1/pipelines/0/pause', {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Batrun': '1'}, body: '{}'}).then((answer) => done(answer.status))",
        ).await;
        assert_eq!(refused, json!(403));
        page.forget_complaints().await;
    });
}
