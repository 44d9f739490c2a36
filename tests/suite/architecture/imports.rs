//! The imports of each file. A name counts for the file that defines it, whichever re-export it comes
//! through.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Crate;

/// Folders in which files may import each other in a circle: those of one actor.
const ACTORS: [&str; 4] = [
    "engine/producer/",
    "engine/worker/",
    "engine/pool/",
    "engine/reporter/",
];

/// Between the files of the crate, except those of one actor.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&Crate::read(&super::sources()));
    assert!(circles.is_empty(), "{circles:#?}");
}

/// The order is the one in which ARCHITECTURE.md lists the modules.
#[test]
fn no_module_imports_one_that_is_listed_below_it() {
    let climbs = climbs(&Crate::read(&super::sources()), &listed());
    assert!(climbs.is_empty(), "{climbs:#?}");
}

#[test]
fn every_module_is_listed_in_architecture_md() {
    let listed = listed();
    for (file, _) in super::sources() {
        assert!(
            floor_of(&file, &listed).is_some(),
            "src/{file} is in no row of the table in ARCHITECTURE.md"
        );
    }
}

/// The check itself: each kind of import that it must see.
#[test]
fn a_circle_and_a_climb_are_seen_however_they_are_written() {
    for import in [
        // Through the root, through a folder's `mod.rs`, by an alias, with a glob.
        "use crate::Top;",
        "use crate::facade::Top;",
        "use crate::high::Top;",
        "use crate::{high::{top as other}};",
        "use super::high::*;",
        // As a path in code, in a macro, behind a module that is imported, in a function.
        "fn f() { crate::high::top::make() }",
        "fn f() { print!(\"{:?}\", crate::high::top::make()); }",
        "use crate::high; fn f() -> high::Top { loop {} }",
        "pub fn f() {\n    use crate::high::Top as _;\n}",
        // As a re-export, from an inner module, after what looks like a string or a comment.
        "pub(crate) use crate::high::Top;",
        "mod inner { use super::super::high::Top; }",
        "const Q: char = '\"'; /* // */ use crate::high::Top;",
        "#[cfg(test)]\nmod tests {}\nuse crate::high::Top;",
    ] {
        let tree = crate_of(&[
            (
                "lib.rs",
                "mod low; mod high; pub use high::Top; pub mod facade { pub use crate::high::Top; }",
            ),
            ("low.rs", &format!("{import}\npub struct Low;")),
            ("high/mod.rs", "mod top; pub use top::Top;"),
            (
                "high/top.rs",
                "use crate::low::Low; pub struct Top(Low); pub fn make() {}",
            ),
        ]);
        let listed = ["low.rs".to_owned(), "high/".to_owned()];
        assert!(!climbs(&tree, &listed).is_empty(), "{import}");
        // A glob counts for the folder's `mod.rs`, which imports nothing itself.
        let is_glob = import.contains("::*");
        assert_eq!(circles(&tree).len(), usize::from(!is_glob), "{import}");
    }
}

/// Comments, strings and a file's own tests are no imports, and one actor's files may be in a circle.
#[test]
fn nothing_else_is_taken_for_an_import() {
    let quiet = "//! crate::high::Top\nconst X: &str = \"crate::high::Top\";\n/* use crate::high::Top; */\n#[cfg(test)]\nmod tests { use crate::high::Top; }";
    let tree = crate_of(&[
        ("lib.rs", "mod low; mod high;"),
        ("low.rs", quiet),
        ("high/mod.rs", "pub struct Top; use crate::low::X;"),
    ]);
    let listed = ["low.rs".to_owned(), "high/".to_owned()];
    assert!(climbs(&tree, &listed).is_empty());
    assert!(circles(&tree).is_empty());
    let tree = crate_of(&[
        ("lib.rs", "mod engine;"),
        ("engine/mod.rs", "mod pool;"),
        (
            "engine/pool/mod.rs",
            "mod queue; use queue::Q; pub struct P(Q);",
        ),
        ("engine/pool/queue.rs", "use super::P; pub struct Q(P);"),
    ]);
    assert!(circles(&tree).is_empty());
}

fn crate_of(files: &[(&str, &str)]) -> Crate {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let files: Vec<(String, String)> = files.iter().map(owned).collect();
    Crate::read(&files)
}

/// The modules in the order of ARCHITECTURE.md: the first column of its table, bottom first.
fn listed() -> Vec<String> {
    let mut listed: Vec<String> = super::architecture()
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/"))
        .filter_map(|line| line.split('`').next().map(str::to_owned))
        .collect();
    assert!(listed.len() > 10, "{listed:?}");
    listed.push("lib.rs".to_owned());
    listed
}

/// The place in the list of the longest entry that holds this file.
fn floor_of(file: &str, listed: &[String]) -> Option<usize> {
    let holds = |entry: &String| entry == file || entry.ends_with('/') && file.starts_with(entry);
    (0..listed.len())
        .filter(|n| holds(&listed[*n]))
        .max_by_key(|n| listed[*n].len())
}

fn climbs(tree: &Crate, listed: &[String]) -> Vec<String> {
    let mut climbs = Vec::new();
    for (from, to) in tree.imports() {
        let (Some(low), Some(high)) = (floor_of(&from, listed), floor_of(&to, listed)) else {
            continue;
        };
        if low < high {
            climbs.push(format!("src/{from} imports src/{to}"));
        }
    }
    climbs
}

fn circles(tree: &Crate) -> Vec<Vec<String>> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in tree.imports() {
        let of_one = |actor: &&str| from.starts_with(*actor) && to.starts_with(*actor);
        if !ACTORS.iter().any(of_one) {
            next.entry(from).or_default().insert(to);
        }
    }
    let reachable = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from.clone()];
        while let Some(file) = todo.pop() {
            for to in next.get(&file).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    todo.push(to.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> =
        next.keys().map(|file| (file, reachable(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, far) in &reach {
        if far.contains(*file) {
            let back = |other: &&String| reach.get(other).is_some_and(|far| far.contains(*file));
            circles.insert(far.iter().filter(back).cloned().collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}
