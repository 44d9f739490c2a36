//! The words of ARCHITECTURE.md, held against the code: which module may import which, how
//! long its two walks are, and that the functions they name exist.

mod imports;
mod source;
mod walks;

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|folder| folder.join("ARCHITECTURE.md").is_file())
        .unwrap()
        .to_owned()
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Every file of the library, as a path from `src/`, with its text.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, src: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, src, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(src).unwrap().to_str().unwrap();
                found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    walk(&src, &src, &mut found);
    // A program on the public API, which the library knows nothing of, and tests.
    let is_test = |name: &str| {
        name.split('/')
            .any(|part| part == "tests" || part == "tests.rs")
    };
    found.retain(|(name, _)| !name.starts_with("bin/") && !is_test(name));
    found.sort();
    found
}

/// A file of more lines has more than one idea.
#[test]
fn no_source_file_is_longer_than_450_lines() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > 450)
        .map(|(name, lines)| format!("src/{name}: {lines}"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
