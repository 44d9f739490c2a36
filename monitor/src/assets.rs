//! The page: files that are compiled in. The page is asked for each time; what it names is named by its content,
//! and is kept by browsers for good.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::LazyLock,
};

use actix_web::{HttpResponse, http::header};

macro_rules! files {
    ($($name:literal, $kind:literal;)*) => {
        [$(($name, $kind, include_str!(concat!("../page/", $name)))),*]
    };
}

/// All files of the page, each with its type. A file may name those before it.
const FILES: &[(&str, &str, &str)] = &files! {
    "index.html", "text/html; charset=utf-8";
};

struct Asset {
    /// The name with its hash, or `index.html`.
    path: String,
    kind: &'static str,
    text: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let mut assets: Vec<Asset> = Vec::new();
    let mut names: Vec<(&str, String)> = Vec::new();
    for (name, kind, text) in FILES {
        let mut text = (*text).to_owned();
        for (plain, hashed) in &names {
            text = text.replace(&format!("./{plain}"), &format!("./{hashed}"));
        }
        let path = match *name {
            "index.html" => (*name).to_owned(),
            _ => hashed(name, &text),
        };
        names.push((name, path.clone()));
        assets.push(Asset { path, kind, text });
    }
    assets
});

fn hashed(name: &str, text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let hash = hasher.finish();
    let file = name.rsplit('/').next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{hash:016x}.{extension}"),
        None => format!("{file}-{hash:016x}"),
    }
}

/// A file of the page.
pub(crate) fn find(path: &str) -> Option<HttpResponse> {
    let path = if path.is_empty() { "index.html" } else { path };
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let mut response = HttpResponse::Ok();
    response.content_type(asset.kind);
    if asset.path != "index.html" {
        response.insert_header((
            header::CACHE_CONTROL,
            "private, max-age=31536000, immutable",
        ));
    }
    Some(response.body(asset.text.as_str()))
}
