//! axe-core looks at each view, and finds nothing that keeps people with a screen reader, a keyboard or weak eyes out.

use std::{env, fs, path::Path};

use serde_json::{Value, json};

use crate::{on_a_page, page::Page};

/// Its source, which goes into the page beside the policy, as all that the driver runs does.
pub(crate) fn axe() -> Option<String> {
    // Where there is no way to npm's packages: the script has said so.
    if env::var("BATRUN_AXE").is_ok_and(|axe| axe == "none") {
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run it through .ci/chromium", path.display()));
    Some(axe)
}

/// The rules that are broken, but for minor ones, each with the elements that break it.
pub(crate) async fn findings(page: &Page) -> Value {
    page.run_async(
        "const done = arguments[arguments.length - 1];
         axe.run(document, { resultTypes: ['violations'] }).then(
           ({ violations }) => done(violations
             .filter(({ impact }) => impact !== 'minor')
             .map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(({ html, failureSummary }) => [html, failureSummary]) }))),
           (error) => done(String(error)),
         );",
    )
    .await
}

#[test]
#[ignore = "needs chromium: .ci/chromium"]
fn axe_finds_nothing_in_any_view() {
    let Some(axe) = axe() else {
        return;
    };
    on_a_page("axe", async move |world, page| {
        world.settle().await;
        let stuck = world.get_stuck(1).await;
        world.hang("ada").await;
        let task = format!("task/{}", stuck[0]);
        for (width, theme) in [
            (1440, "light"),
            (1440, "dark"),
            (360, "light"),
            (360, "dark"),
        ] {
            page.resize(width, theme).await;
            page.run(&axe).await;
            for (view, there) in [
                ("overview", ".charts canvas"),
                ("tasks", "[data-row]"),
                (&*task, ".timeline, main .note"),
                ("failures", "[data-row]"),
                ("stuck", "[data-row]"),
                ("search?q=ada", "main section"),
            ] {
                page.go(view).await;
                page.until(&format!("document.querySelector('{there}')"))
                    .await;
                assert_eq!(
                    findings(&page).await,
                    json!([]),
                    "{view} at {width}, {theme}"
                );
            }
        }
        page.resize(1440, "light").await;
        page.run(&axe).await;
        page.press("[data-act=\"drain\"]").await;
        page.until("document.querySelector('dialog[open]')").await;
        assert_eq!(findings(&page).await, json!([]), "a dialog");
    });
}
