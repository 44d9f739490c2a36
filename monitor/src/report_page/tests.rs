#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, time::Duration};

use batrun::prelude::*;

use super::{
    words::{duration, grouped},
    *,
};

const HOSTILE: &str = "<script>alert(1)</script>\" onload='x' &amp; \u{202e}evil\u{7}";

async fn report() -> Report {
    let first = stage_fn(HOSTILE, async |n: u32, task: &TaskContext<String>| {
        task.on_cancel(format!("{HOSTILE} {n}")).await?;
        Ok(n)
    })
    .cancel_with(async |_: String, _: &CancelContext| Err(Failure::permanent(HOSTILE)));
    let second = stage_fn("pay", async |n: u32, _: &TaskContext<()>| match n {
        3 => Err(Failure::permanent(HOSTILE.repeat(300))),
        n => Ok(n),
    });
    Pipeline::new(HOSTILE)
        .producer(from_iter(0..10))
        .stage(first)
        .stage(second)
        .run()
        .await
        .unwrap()
}

#[actix::test]
async fn the_page_has_the_numbers_of_the_report() {
    let report = report().await;
    let page = report.to_html();
    assert!(
        page.contains("9 of 10 tasks are done, one is not"),
        "{page}"
    );
    assert!(page.contains("One task is stuck"));
    assert!(page.contains("<span class=\"label\">accepted</span>\n<strong>10</strong>"));
    for heading in [
        "The pipeline",
        "Times",
        "Stages",
        "Last failures",
        "Stuck, to be looked at by a person",
    ] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
}

#[actix::test]
async fn texts_of_others_are_text() {
    let page = report().await.to_html();
    for wrong in ["<script", "onload='", "\u{202e}", "\u{7}", "\" onload"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("\\u{202e}evil\\u{7}"));
    // It loads nothing.
    for wrong in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    assert!(page.len() < 64 * 1024, "{}", page.len());
}

#[actix::test]
async fn each_element_that_is_opened_is_closed() {
    let page = report().await.to_html();
    let mut open: HashMap<&str, i32> = HashMap::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap();
        if tag.ends_with('/')
            || tag.starts_with('!')
            || tag.starts_with("meta")
            || tag.starts_with("line ")
        {
            continue;
        }
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        *open.entry(name).or_default() += if tag.starts_with('/') { -1 } else { 1 };
    }
    open.retain(|_, count| *count != 0);
    assert!(open.is_empty(), "{open:?}");
}

#[actix::test]
async fn a_pipeline_without_tasks_has_a_page() {
    let none = stage_fn("none", async |n: u32, _: &TaskContext<()>| Ok(n));
    let report = Pipeline::new("empty")
        .producer(from_iter(0..0))
        .stage(none)
        .run()
        .await
        .unwrap();
    let page = report.to_html();
    assert!(page.contains("No task came"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn numbers_and_times_are_short() {
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
    let shown = [0, 870, 3_400_000, 12_000_000_000, 320_000_000_000]
        .map(|ns| duration(Duration::from_nanos(ns)));
    assert_eq!(shown, ["0 ns", "870 ns", "3.4 ms", "12 s", "5 min 20 s"]);
    assert_eq!(duration(Duration::from_secs(11_100)), "3 h 5 min");
}
