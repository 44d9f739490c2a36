//! Each promise of GUARANTEES.md has a test, each numbered test a promise, and the page lists them.
//!
//! The list at the page's end follows from the names of the tests. This writes it anew:
//!
//!   BATRUN_TESTS=overwrite cargo test -p batrun-suite --test suite guarantees

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

/// The kinds of promises, and the numbers of each.
const KINDS: [(char, &[u32]); 4] = [
    ('G', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    ('J', &[1, 2, 3, 4, 5]),
    ('C', &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ('D', &[1, 2]),
];

/// The heading of the page's last part, which lists the tests.
const TESTS: &str = "# Tests\n";

/// `G1`, `G2` .. `D2`.
fn promises() -> impl Iterator<Item = String> {
    KINDS
        .into_iter()
        .flat_map(|(kind, numbers)| numbers.iter().map(move |n| format!("{kind}{n}")))
}

/// `G2` and `G5` for `g02_g05_invariants_hold`.
fn promises_of(test: &str) -> Vec<String> {
    let number = |part: &str| {
        let (kind, _) = KINDS
            .iter()
            .find(|(kind, _)| part.starts_with(kind.to_ascii_lowercase()))?;
        let number: u32 = part[1..].parse().ok()?;
        // With two digits a D is no promise: the number of a decision that a test is about, as in `d08_`.
        (*kind != 'D' || part.len() == 2).then(|| format!("{kind}{number}"))
    };
    test.split('_').map_while(number).collect()
}

/// Every test's name in the sources below here.
fn tests_in(directory: &Path, names: &mut BTreeSet<String>) {
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

/// The tests of each promise.
fn proofs(tests: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<&str>> {
    let mut proofs = BTreeMap::<String, BTreeSet<&str>>::new();
    for test in tests {
        for promise in promises_of(test) {
            proofs.entry(promise).or_default().insert(test);
        }
    }
    proofs
}

/// The title of each promise that the page has: `FIFO rollback` for `G3`.
fn titles(page: &str) -> BTreeMap<&str, &str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("## ")?.split_once(' '))
        .collect()
}

/// The names that a page lists for each promise.
fn listed(page: &str) -> BTreeMap<String, BTreeSet<&str>> {
    let mut listed = BTreeMap::<String, BTreeSet<&str>>::new();
    let mut promise = String::new();
    let (_, list) = page.split_once(TESTS).unwrap_or_default();
    for line in list.lines() {
        if let Some(summary) = line.strip_prefix("<summary>") {
            promise = summary.split(' ').next().unwrap().to_owned();
        } else if let Some(name) = line.strip_prefix("- `") {
            let names = listed.entry(promise.clone()).or_default();
            names.insert(name.trim_end_matches('`'));
        }
    }
    listed
}

/// The page with the list that these tests call for.
fn overwritten(page: &str, tests: &BTreeSet<String>) -> String {
    let (promised, _) = page.split_once(TESTS).unwrap_or((page, ""));
    let (titles, proofs) = (titles(page), proofs(tests));
    let mut text = format!("{promised}{TESTS}");
    text.push_str("Each promise unfolds to the tests that prove it.\n");
    for promise in promises() {
        let title = titles.get(&*promise).unwrap_or(&"");
        let summary = format!("<details>\n<summary>{promise} {title}</summary>\n\n");
        text.push('\n');
        text.push_str(&summary);
        for test in proofs.get(&promise).into_iter().flatten() {
            text.push_str(&format!("- `{test}`\n"));
        }
        text.push_str("\n</details>\n");
    }
    text
}

/// Everything in which the page and the tests differ.
fn complaints(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let (titles, proofs, listed) = (titles(page), proofs(tests), listed(page));
    let none = BTreeSet::new();
    let mut complaints = Vec::new();
    for promise in promises() {
        if !titles.contains_key(&*promise) {
            complaints.push(format!("GUARANTEES.md says nothing of {promise}"));
        }
        if !proofs.contains_key(&promise) {
            complaints.push(format!("{promise} has no test"));
        }
    }
    let known: BTreeSet<String> = promises().collect();
    for (promise, tests) in &proofs {
        if !known.contains(promise) {
            complaints.push(format!("there is no promise {promise} for {tests:?}"));
        }
    }
    for promise in known {
        let proofs = proofs.get(&promise).unwrap_or(&none);
        let listed = listed.get(&promise).unwrap_or(&none);
        for test in proofs.difference(listed) {
            complaints.push(format!("GUARANTEES.md doesn't list {test} for {promise}"));
        }
        for test in listed.difference(proofs) {
            complaints.push(format!(
                "GUARANTEES.md lists {test} for {promise}, and there is no such test"
            ));
        }
    }
    if complaints.is_empty() && page != overwritten(page, tests) {
        complaints.push("the list of GUARANTEES.md is not in its order or form".to_owned());
    }
    complaints
}

#[test]
fn every_promise_has_a_test_and_every_numbered_test_a_promise() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut tests = BTreeSet::new();
    tests_in(&root.join("tests"), &mut tests);
    tests_in(&root.join("src"), &mut tests);
    for part in ["src", "tests", "browser"] {
        tests_in(&root.join("monitor").join(part), &mut tests);
    }
    let path = root.join("GUARANTEES.md");
    let page = fs::read_to_string(&path).unwrap();
    if env::var("BATRUN_TESTS").is_ok_and(|how| how == "overwrite") {
        return fs::write(&path, overwritten(&page, &tests)).unwrap();
    }
    let complaints = complaints(&page, &tests);
    let how = "BATRUN_TESTS=overwrite writes the list of GUARANTEES.md anew";
    assert!(
        complaints.is_empty(),
        "\n{}\n{how}\n",
        complaints.join("\n")
    );
}

/// A page and tests that agree, before and after each change; then exactly this is complained of.
#[test]
fn each_difference_between_promises_and_tests_is_found() {
    let heading = |promise| format!("## {promise} A title\nA promise.\n\n");
    let head: String = promises().map(heading).collect();
    let tests: BTreeSet<String> = promises()
        .map(|promise| format!("{}_it_holds", promise.to_lowercase()))
        .chain([
            "g02_j3_both_hold".to_owned(),
            "an_unnumbered_one".to_owned(),
        ])
        .collect();
    let page = overwritten(&head, &tests);
    assert_eq!(complaints(&page, &tests), [""; 0]);

    let with = |name: &str| {
        let mut tests = tests.clone();
        tests.insert(name.to_owned());
        tests
    };
    let without = |name: &str| {
        let mut tests = tests.clone();
        assert!(tests.remove(name));
        tests
    };
    assert_eq!(
        complaints(&page.replace("## G7 A title\n", ""), &tests),
        ["GUARANTEES.md says nothing of G7"]
    );
    assert_eq!(
        complaints(&page, &without("j4_it_holds")),
        [
            "J4 has no test",
            "GUARANTEES.md lists j4_it_holds for J4, and there is no such test"
        ]
    );
    assert_eq!(
        complaints(&page, &with("g14_it_holds")),
        [r#"there is no promise G14 for {"g14_it_holds"}"#]
    );
    assert_eq!(
        complaints(&page, &with("c10_it_holds")),
        [r#"there is no promise C10 for {"c10_it_holds"}"#]
    );
    assert_eq!(complaints(&page, &with("d08_a_decision_holds")), [""; 0]);
    assert_eq!(
        complaints(&page, &with("g05_something_new_holds")),
        ["GUARANTEES.md doesn't list g05_something_new_holds for G5"]
    );
    assert_eq!(
        complaints(&page, &without("g02_j3_both_hold")),
        [
            "GUARANTEES.md lists g02_j3_both_hold for G2, and there is no such test",
            "GUARANTEES.md lists g02_j3_both_hold for J3, and there is no such test"
        ]
    );
    assert_eq!(
        complaints(&page.replace("</details>", ""), &tests),
        ["the list of GUARANTEES.md is not in its order or form"]
    );
}
