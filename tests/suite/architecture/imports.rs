//! Which file imports which. A name counts for the file that defines it, whichever re-export it comes
//! through.

use std::collections::{BTreeMap, BTreeSet};

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
    let circles = circles(&Crate::read(super::sources()));
    assert!(circles.is_empty(), "{circles:#?}");
}

/// The order is the one in which ARCHITECTURE.md lists the modules.
#[test]
fn no_module_imports_one_that_is_listed_below_it() {
    let climbs = climbs(&Crate::read(super::sources()), &listed());
    assert!(climbs.is_empty(), "{climbs:#?}");
}

#[test]
fn every_module_is_listed_in_architecture_md() {
    let listed = listed();
    for (file, _) in super::sources() {
        assert!(
            floor_of(&file, &listed).is_some() || file == "lib.rs",
            "src/{file} is in no row of the table in ARCHITECTURE.md"
        );
    }
}

/// The check itself: each kind of import that it must see.
#[test]
fn a_circle_and_a_climb_are_seen_through_re_exports() {
    let files = |files: &[(&str, &str)]| {
        let files = files.iter();
        let owned = files.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Crate::read(owned.collect())
    };
    let listed = ["low.rs".to_owned(), "high/".to_owned()];
    // Through the root, through a folder's `mod.rs`, in a path, by an alias, and with a glob.
    for import in [
        "use crate::Top;",
        "use crate::high::Top;",
        "fn f() { crate::high::top::make() }",
        "use crate::{high::{top as other}};",
        "use super::high::*;\nstruct X(Top);",
    ] {
        let tree = files(&[
            ("lib.rs", "mod low; mod high; pub use high::Top;"),
            ("low.rs", import),
            ("high/mod.rs", "mod top; pub use top::Top;"),
            (
                "high/top.rs",
                "use crate::low; pub struct Top; pub fn make() {}",
            ),
        ]);
        assert_eq!(climbs(&tree, &listed).len(), 1, "{import}");
        if !import.contains('*') {
            assert_eq!(circles(&tree).len(), 1, "{import}");
        }
    }
    // Comments, strings and a file's own tests don't count.
    let quiet = "//! crate::high::Top\nconst X: &str = \"crate::high::Top\";\n#[cfg(test)]\nmod tests { use crate::high::Top; }";
    let tree = files(&[
        ("lib.rs", "mod low; mod high;"),
        ("low.rs", quiet),
        ("high/mod.rs", "pub struct Top; use crate::low::X;"),
    ]);
    assert!(climbs(&tree, &listed).is_empty());
    assert!(circles(&tree).is_empty());
    // One actor's files may.
    let tree = files(&[
        ("lib.rs", "mod engine;"),
        ("engine/mod.rs", "mod pool;"),
        (
            "engine/pool/mod.rs",
            "mod queue; use queue::Q; pub struct P;",
        ),
        ("engine/pool/queue.rs", "use super::P; pub struct Q;"),
    ]);
    assert!(circles(&tree).is_empty());
}

/// The modules in the order of ARCHITECTURE.md: the first column of its table, bottom first.
fn listed() -> Vec<String> {
    let listed: Vec<String> = super::architecture()
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/"))
        .filter_map(|line| line.split('`').next().map(str::to_owned))
        .collect();
    assert!(listed.len() > 10, "{listed:?}");
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
    for (from, to, name) in tree.imports() {
        let (Some(low), Some(high)) = (floor_of(&from, listed), floor_of(&to, listed)) else {
            continue;
        };
        if low < high {
            climbs.push(format!("src/{from} imports {name} of src/{to}"));
        }
    }
    climbs
}

fn circles(tree: &Crate) -> Vec<Vec<String>> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to, _) in tree.imports() {
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

/// The files of a crate and what they import.
struct Crate {
    files: BTreeMap<Vec<String>, Source>,
}

struct Source {
    file: String,
    /// Without comments, strings, tests and imports.
    code: String,
    uses: Vec<Use>,
}

struct Use {
    public: bool,
    /// From where it stands: `crate`, `super`, `self` or a name in scope first.
    path: Vec<String>,
    /// What it is called here; `*` for a glob.
    name: String,
}

impl Crate {
    fn read(sources: Vec<(String, String)>) -> Self {
        let files = sources.into_iter().map(|(file, text)| {
            let bare = without_comments_and_strings(&text);
            let bare = match bare.find("#[cfg(test)]\nmod tests") {
                Some(tests) => bare[..tests].to_owned(),
                None => bare,
            };
            let (code, uses) = split_uses(&bare);
            (module_of(&file), Source { file, code, uses })
        });
        Crate {
            files: files.collect(),
        }
    }

    /// Every import: the file, the file that defines what it imports, and the name.
    fn imports(&self) -> BTreeSet<(String, String, String)> {
        let mut imports = BTreeSet::new();
        for (module, source) in &self.files {
            let mut paths: Vec<Vec<String>> = Vec::new();
            for import in &source.uses {
                // A re-export is for others, unless the file uses the name itself.
                if !import.public || uses_name(&source.code, &import.name) {
                    paths.push(import.path.clone());
                }
            }
            paths.extend(paths_in(&source.code));
            for path in paths {
                if let Some(to) = self.resolve(module, &path, 0)
                    && to != source.file
                {
                    let name = path.last().cloned().unwrap_or_default();
                    imports.insert((source.file.clone(), to, name));
                }
            }
        }
        // What is declared isn't imported.
        imports.retain(|(from, ..)| from != "lib.rs");
        imports
    }

    /// The file that defines what this path names, if that is in this crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<String> {
        if depth > 16 {
            return None;
        }
        let (mut module, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" => (from[..from.len().saturating_sub(1)].to_vec(), &path[1..]),
            first if self.files.contains_key(&child(from, first)) => (from.to_vec(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            module.pop();
            rest = &rest[1..];
        }
        while let Some(segment) = rest.first() {
            if segment == "self" || segment == "*" {
                break;
            }
            let inner = child(&module, segment);
            if self.files.contains_key(&inner) {
                module = inner;
                rest = &rest[1..];
                continue;
            }
            let source = self.files.get(&module)?;
            let exported = source.uses.iter().find(|import| import.name == *segment);
            return match exported {
                Some(import) => {
                    let through = [&import.path[..], &rest[1..]].concat();
                    self.resolve(&module, &through, depth + 1)
                }
                None => Some(source.file.clone()),
            };
        }
        self.files.get(&module).map(|source| source.file.clone())
    }
}

fn child(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}

/// `task/table/mod.rs` is `[task, table]`, `task/id.rs` is `[task, id]`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

fn without_comments_and_strings(text: &str) -> String {
    let mut bare = String::new();
    for line in text.lines() {
        let mut chars = line.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                '\\' if quoted => drop(chars.next()),
                '"' => quoted = !quoted,
                c if !quoted => bare.push(c),
                _ => {}
            }
        }
        bare.push('\n');
    }
    bare
}

/// Takes the `use` items out of the code.
fn split_uses(bare: &str) -> (String, Vec<Use>) {
    let (mut code, mut uses) = (String::new(), Vec::new());
    let mut rest = bare;
    while let Some(at) = find_use(rest) {
        let head = &rest[..at];
        let visibility = head.trim_end().rsplit(['\n', ';', '}']).next();
        let public = visibility.is_some_and(|line| line.trim_start().starts_with("pub"));
        code.push_str(head);
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        expand(&rest[at + 4..end], &[], public, &mut uses);
        rest = &rest[(end + 1).min(rest.len())..];
    }
    code.push_str(rest);
    (code, uses)
}

/// The next `use`, as a word of its own that begins an item.
fn find_use(text: &str) -> Option<usize> {
    text.match_indices("use ").map(|(at, _)| at).find(|at| {
        let before = text[..*at].trim_end_matches(' ');
        before.is_empty()
            || before.ends_with(['\n', ';', '{', '}', ']'])
            || before.ends_with("pub")
            || before.ends_with(')')
    })
}

/// `a::{b, c as d}` is two uses.
fn expand(tree: &str, above: &[String], public: bool, uses: &mut Vec<Use>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut above = above.to_vec();
        let segments = tree[..open].split("::").map(str::trim);
        above.extend(segments.filter(|part| !part.is_empty()).map(str::to_owned));
        let inner = tree[open + 1..]
            .strip_suffix('}')
            .unwrap_or(&tree[open + 1..]);
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], &above, public, uses);
                    start = at + 1;
                }
                _ => {}
            }
        }
    } else if !tree.is_empty() {
        let (path, alias) = match tree.split_once(" as ") {
            Some((path, alias)) => (path, Some(alias.trim())),
            None => (tree, None),
        };
        let mut whole = above.to_vec();
        whole.extend(path.split("::").map(|part| part.trim().to_owned()));
        if whole.last().is_some_and(|last| last == "self") {
            whole.pop();
        }
        let name = alias.unwrap_or_else(|| whole.last().map_or("", String::as_str));
        let name = name.to_owned();
        uses.push(Use {
            public,
            path: whole,
            name,
        });
    }
}

/// Paths in the code itself that begin with `crate` or `super`.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c: char| !is_path(c))
        .filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        .map(|word| word.split("::").map(str::to_owned).collect())
        .collect()
}

/// Whether a name occurs in the code, other than as that of a module which is declared there.
fn uses_name(code: &str, name: &str) -> bool {
    let declared = format!("mod {name};");
    code.lines()
        .filter(|line| !line.ends_with(&declared))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .any(|word| word == name)
}
