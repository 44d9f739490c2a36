//! The page: files that are compiled in. The page itself is asked for each time; all others are in a folder that is
//! named by their contents, and are kept by browsers for good.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::LazyLock,
};

use actix_web::{HttpResponse, http::header};

/// The word in the page that stands for the folder's path.
const FOLDER: &str = "@ASSETS@";

const INDEX: &str = include_str!("../page/index.html");

macro_rules! files {
    ($kind:literal in $folder:literal: $($name:literal)*) => {
        &[$(($name, $kind, include_str!(concat!("../", $folder, "/", $name)))),*]
    };
}

/// The others, each with its type.
const FILES: [&[(&str, &str, &str)]; 5] = [
    files!("text/javascript; charset=utf-8" in "page":
        "actions.js" "api.js" "app.js" "charts.js" "copy.js" "dom.js" "failures.js" "format.js" "journal.js" "keys.js"
        "overview.js"
        "picture.js" "search.js" "stream.js" "task.js" "tasks.js"),
    files!("text/css; charset=utf-8" in "page": "app.css"),
    files!("image/svg+xml" in "page": "icon.svg"),
    files!("text/javascript; charset=utf-8" in "vendor": "uplot.js"),
    files!("text/css; charset=utf-8" in "vendor": "uplot.css"),
];

/// The path of the folder, and the page that leads there.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    FILES.concat().hash(&mut hasher);
    let folder = format!("assets/{:016x}", hasher.finish());
    let page = INDEX.replace(FOLDER, &folder);
    (folder, page)
});

/// A file of the page.
pub(crate) fn find(path: &str) -> Option<HttpResponse> {
    let (folder, page) = &*PAGE;
    if path.is_empty() || path == "index.html" {
        let mut response = HttpResponse::Ok();
        response.content_type("text/html; charset=utf-8");
        return Some(response.body(page.as_str()));
    }
    let name = path.strip_prefix(&**folder)?.strip_prefix('/')?;
    let (_, kind, text) = FILES
        .iter()
        .copied()
        .flatten()
        .find(|file| file.0 == name)?;
    let mut response = HttpResponse::Ok();
    response.content_type(*kind);
    response.insert_header((
        header::CACHE_CONTROL,
        "private, max-age=31536000, immutable",
    ));
    Some(response.body(*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages that are heavier are slow to come, and nobody reads them any more.
    const MOST_BYTES: usize = 150_000;

    #[test]
    fn the_page_is_light_and_names_only_files_that_are_there() {
        let all = FILES.concat();
        let bytes: usize = all.iter().map(|file| file.2.len()).sum();
        assert!(bytes + INDEX.len() <= MOST_BYTES, "{bytes}");
        let (folder, page) = &*PAGE;
        let linked = page.split(&**folder).skip(1);
        for rest in linked {
            let name = rest[1..].split('"').next().unwrap();
            assert!(find(&format!("{folder}/{name}")).is_some(), "{name}");
        }
        for (name, _, text) in all.iter().filter(|file| file.0 != "uplot.js") {
            for rest in text.split("from \"./").skip(1) {
                let module = rest.split('"').next().unwrap();
                assert!(
                    find(&format!("{folder}/{module}")).is_some(),
                    "{name}: {module}"
                );
            }
        }
    }

    #[test]
    fn d1_the_page_puts_texts_in_as_texts_only() {
        let ways = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ];
        for (name, _, text) in FILES.concat() {
            for way in ways {
                assert!(!text.contains(way), "{name}: {way}");
            }
        }
    }
}
