//! Each promise has a test, and each numbered test a promise.

use std::{collections::BTreeMap, fs, path::Path};

/// Every test's name in the sources below here.
fn tests_in(directory: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if !(line == "#[test]" || line.ends_with("::test]")) {
                    continue;
                }
                let name = lines
                    .find_map(|line| line.split_once("fn "))
                    .map(|(_, rest)| rest.split('(').next().unwrap().to_owned());
                names.extend(name);
            }
        }
    }
}

/// What promises are called, and how many there are of each kind.
const KINDS: [(char, u32); 2] = [('G', 13), ('J', 5)];

/// `G3` for `g03_first_registered_first_cancelled`.
fn promise_of(test: &str) -> Option<String> {
    let (kind, _) = KINDS
        .iter()
        .find(|(kind, _)| test.starts_with(kind.to_ascii_lowercase()))?;
    let (number, _) = test[1..].split_once('_')?;
    let number: u32 = number.parse().ok()?;
    Some(format!("{kind}{number}"))
}

#[test]
fn every_promise_has_a_test_and_every_numbered_test_a_promise() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut names = Vec::new();
    tests_in(&root.join("tests"), &mut names);
    tests_in(&root.join("src"), &mut names);
    let mut proofs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        if let Some(promise) = promise_of(&name) {
            proofs.entry(promise).or_default().push(name);
        }
    }
    let of_kind = |(kind, last): (char, u32)| (1..=last).map(move |n| format!("{kind}{n}"));
    let promises: Vec<String> = KINDS.into_iter().flat_map(of_kind).collect();
    for promise in &promises {
        assert!(proofs.contains_key(promise), "{promise} has no test");
    }
    for (promise, tests) in &proofs {
        assert!(promises.contains(promise), "{tests:?} prove nothing");
    }
    let text = fs::read_to_string(root.join("GUARANTEES.md")).unwrap();
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    for promise in &promises {
        assert!(
            words.contains(&promise.as_str()),
            "GUARANTEES.md says nothing of {promise}"
        );
    }
    // It names every test that proves something, and none that doesn't exist.
    for test in proofs.values().flatten() {
        assert!(
            words.contains(&test.as_str()),
            "GUARANTEES.md doesn't name {test}"
        );
    }
    for word in words {
        if let Some(promise) = promise_of(word) {
            assert!(
                proofs[&promise].iter().any(|name| name == word),
                "GUARANTEES.md names {word}, which is no test"
            );
        }
    }
}
