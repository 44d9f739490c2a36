//! The four walks of ARCHITECTURE.md: each step names a file and functions in it.

use std::{collections::BTreeMap, fs};

/// A reader who follows one task from `submit` to its outcome opens no more than that.
const MOST_FILES: usize = 15;
const MOST_LINES: usize = 4_500;

#[test]
fn one_submit_takes_at_most_15_files_and_4500_lines() {
    let files = files_of("## One submit");
    let lines: usize = files.keys().map(|file| text_of(file).lines().count()).sum();
    println!("one submit: {} files, {lines} lines", files.len());
    assert!(files.len() <= MOST_FILES, "{} files", files.len());
    assert!(lines <= MOST_LINES, "{lines} lines");
}

#[test]
fn the_walks_name_functions_that_exist() {
    for walk in [
        "## One submit",
        "## One stop",
        "## One return",
        "## One commit in a database",
    ] {
        let files = files_of(walk);
        let lines: usize = files.keys().map(|file| text_of(file).lines().count()).sum();
        println!("{walk}: {} files, {lines} lines", files.len());
        for (file, functions) in files {
            let text = text_of(&file);
            assert!(!functions.is_empty(), "{walk}: {file} without a function");
            let there = super::source::functions(&text);
            for function in functions {
                assert!(
                    there.contains(&function),
                    "{walk}: {file} has no function {function}"
                );
            }
        }
    }
}

fn text_of(file: &str) -> String {
    let path = super::root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files of a walk, each with the functions that its steps name: `` `src/a.rs` `f`, `T::g` ``.
fn files_of(walk: &str) -> BTreeMap<String, Vec<String>> {
    let text = super::architecture();
    let (_, section) = text.split_once(&format!("\n{walk}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut file = None;
    for code in section.split('`').skip(1).step_by(2) {
        if code.starts_with("src/") {
            files.entry(code.to_owned()).or_default();
            file = Some(code.to_owned());
        } else if let Some(function) = code.strip_suffix("()") {
            let file = file.as_ref().expect("a step begins with its file");
            files.get_mut(file).unwrap().push(function.to_owned());
        }
    }
    assert!(files.len() > 5, "{walk}: {files:?}");
    files
}
