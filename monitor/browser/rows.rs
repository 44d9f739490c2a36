//! The other functions of the page, a test for each.

use std::time::Duration;

use batrun::Shutdown;
use serde_json::json;

use crate::on_a_page;

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn the_history_has_three_ranges_and_is_read_as_a_table_by_keyboard() {
    on_a_page("history", async |world, page| {
        world.settle().await;
        page.until("document.querySelectorAll('.charts canvas').length === 4")
            .await;
        // Until there is a row with tasks in it.
        let done = |history: &serde_json::Value| -> f64 {
            let done = history["pipeline"]["done"].as_array().unwrap();
            done.iter().filter_map(serde_json::Value::as_f64).sum()
        };
        while done(&world.history("5m").await) == 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for (range, step) in [("1h", 10_000), ("24h", 60_000), ("5m", 1_000)] {
            let button = format!("[data-act=range][data-range=\"{range}\"]");
            page.tab_to(&button).await;
            page.enter().await;
            page.until(&format!(
                "document.querySelector('{button}').getAttribute('aria-pressed') === 'true'"
            ))
            .await;
            page.until(&format!(
                "performance.getEntriesByType('resource').some((one) => one.name.endsWith('/history?range={range}'))"
            ))
            .await;
            assert_eq!(world.history(range).await["step_ms"], json!(step));
            page.until("document.querySelectorAll('.charts canvas').length === 4")
                .await;
        }
        // A chart says in words how it ends, for those who see no picture.
        page.until("/^tasks a second: done .+, failed .+/.test(document.querySelector('.plot').getAttribute('aria-label'))")
            .await;
        page.tab_to("[data-act=as-table][data-name=\"tasks a second\"]")
            .await;
        page.enter().await;
        page.until("document.querySelectorAll('.charts canvas').length === 3")
            .await;
        page.tab_to("[role=region][aria-label=Values]").await;
        let heads = page
            .run("return [...document.querySelectorAll('.charts th[scope=col]')].map((head) => head.textContent)")
            .await;
        assert_eq!(heads, json!(["time", "done", "failed"]));
        page.until("document.querySelectorAll('.charts tbody tr').length > 1")
            .await;
        // The numbers are the API's: tasks were done in these seconds.
        page.until("[...document.querySelectorAll('.charts tbody tr')].some((row) => Number(row.cells[1].textContent) > 0)")
            .await;
        page.shot("table").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_timeline_shortens_gaps_and_can_be_only_failures() {
    on_a_page("timeline", async |world, page| {
        let task = world.hang("waits long").await;
        page.go(&format!("task/{task}")).await;
        page.press("[data-act=\"cancel-one\"]").await;
        page.confirm().await;
        world.until_ended(task).await;
        page.has("undone in").await;
        // It waited far longer than anything else took.
        page.until("document.querySelectorAll('.timeline .pause').length >= 1")
            .await;
        let gap = page
            .run("return document.querySelector('.timeline .pause').textContent")
            .await;
        assert!(gap.as_str().unwrap().ends_with('s'), "{gap}");
        let shown = "[...document.querySelectorAll('.timeline .event .what')].map((one) => one.textContent.trim())";
        let all = page.run(&format!("return {shown}")).await;
        let all = all.as_array().unwrap().len();
        page.press("[data-act=\"only-failures\"]").await;
        page.until(&format!("{shown}.length > 0 && {shown}.length < {all}"))
            .await;
        page.until(&format!(
            "{shown}.every((text) => /^(attempt ended|undo failed|rollback begins|ended)/.test(text))"
        ))
        .await;
        page.shot("failures").await;
        page.press("[data-act=\"only-failures\"]").await;
        page.until(&format!("{shown}.length === {all}")).await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_bulk_whose_count_has_changed_is_asked_again() {
    on_a_page("bulk", async |world, page| {
        for label in ["bulk 1", "bulk 2"] {
            world.hang(label).await;
        }
        page.go("tasks?q=bulk").await;
        page.has("Cancel all 2 shown by the filter").await;
        page.press("[data-act=\"cancel-all\"]").await;
        page.has("Cancel 2 tasks?").await;
        // One more comes while one thinks.
        world.hang("bulk 3").await;
        page.press("dialog button.go").await;
        page.has("Cancel 3 tasks?").await;
        page.until("document.querySelector('#said .bad')?.textContent.includes('3')")
            .await;
        assert_eq!(world.sample().await["in_flight"], json!("3"));
        page.shot("asked-again").await;
        // The browser has written down the refusal.
        page.forget_complaints().await;
        page.confirm().await;
        world
            .until(|sample| sample["in_flight"] == json!("0"))
            .await;
        assert_eq!(world.sample().await["counts"]["cancelled"], json!("3"));
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn several_pipelines_have_tabs_and_one_that_ended_stays_until_it_is_dismissed() {
    on_a_page("several", async |world, page| {
        let tab = ".pipelines [data-key=\"1\"]";
        let mails = world.another_pipeline().await;
        page.has("mails").await;
        mails.submit(7).await.unwrap().outcome().await.unwrap();
        page.press(&format!("{tab} a")).await;
        page.until("location.hash === '#/1/overview'").await;
        page.until("document.title.startsWith('mails')").await;
        page.until("document.querySelector('[data-number=done]')?.textContent === '1'")
            .await;
        assert_eq!(
            page.run("return document.querySelectorAll('.pipelines .over').length")
                .await,
            json!(0)
        );
        mails
            .shutdown(Shutdown::Drain(Duration::MAX))
            .await
            .unwrap();
        page.until(&format!("document.querySelector('{tab}.pipeline.over')"))
            .await;
        let paler = page
            .run("return getComputedStyle(document.querySelector('.pipeline.over a')).color !== getComputedStyle(document.querySelector('.pipeline:not(.over) a')).color || getComputedStyle(document.querySelector('.pipeline.over')).opacity < 1")
            .await;
        assert_eq!(paler, json!(true));
        // It is still there, with its report, also for those who come later.
        page.reload().await;
        page.until("document.querySelector('[data-number=done]')?.textContent === '1'")
            .await;
        page.shot("ended").await;
        page.press("[data-act=dismiss][data-p=\"1\"]").await;
        page.until(&format!("document.querySelector('{tab}') === null"))
            .await;
        page.until("location.hash === '#/0/overview'").await;
        page.until("document.title.startsWith('orders')").await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_task_is_copied_as_json_and_as_a_command_also_over_plain_http() {
    on_a_page("copy", async |world, page| {
        let task = world.hang("copy me").await;
        let view = format!("task/{task}");
        // This machine's pages have a clipboard, those of others only over HTTPS.
        for (host, secure) in [("127.0.0.1", true), ("plain.example", false)] {
            page.open_as(host, &view).await;
            page.has("copy me").await;
            let has = page.run("return Boolean(navigator.clipboard)").await;
            assert_eq!(has, json!(secure), "{host}");
            page.press("[data-act=copy]").await;
            page.has("copied").await;
            let json: serde_json::Value = serde_json::from_str(&page.pasted().await).unwrap();
            assert_eq!(json["view"]["task"], json!(task.to_string()));
            assert_eq!(json["view"]["label"], json!("copy me"));
            page.press("[data-act=copy-command]").await;
            page.has("copied").await;
            let wanted = format!(
                "curl -s '{}api/v1/pipelines/0/tasks/{task}'",
                world.address().replace("127.0.0.1", host)
            );
            assert_eq!(page.pasted().await, wanted);
        }
        // The browser has written down that a header means nothing there.
        page.forget_complaints().await;
    });
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn a_zoom_of_200_per_cent_leaves_everything_in_reach() {
    on_a_page("zoom", async |world, page| {
        world.settle().await;
        let stuck = world.get_stuck(1).await;
        page.zoom().await;
        let window = page.run("return [innerWidth, devicePixelRatio]").await;
        assert_eq!(window, json!([720, 2]));
        let task = format!("task/{}", stuck[0]);
        for view in ["overview", "tasks", &task, "failures", "stuck"] {
            page.go(view).await;
            page.until("document.querySelector('main .card')").await;
            let outside = page
                .run("return [...document.querySelectorAll('a, button, select, input, h2, td')].filter((one) => one.checkVisibility() && !one.closest('.scroll, .skip') && !one.matches('.skip') && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)")
                .await;
            assert_eq!(outside, json!([]), "{view}");
            let wide = page
                .run("return document.documentElement.scrollWidth - innerWidth")
                .await;
            assert_eq!(wide, json!(0), "{view}");
            page.shot(&view.replace('/', "-")).await;
        }
        world.the_bank_answers();
        page.go("stuck").await;
        page.press(&format!("[data-act=\"retry\"][data-task=\"{}\"]", stuck[0]))
            .await;
        world.until(|sample| sample["stuck"] == json!(0)).await;
    });
}
