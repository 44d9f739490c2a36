//! The undos as the process after a kill finds them.

use super::*;
use crate::killed;

#[test]
fn f26_the_undo_runs_after_a_restart() {
    let folder = tempdir().unwrap();
    let stage = || {
        let stage: Make = MakeDirectory::new(|root| root.join("a/b/c"));
        stage.parents()
    };
    let outcome = killed::after_it(stage, folder.path().to_owned(), || {
        assert!(folder.path().join("a/b/c").is_dir());
    });
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 3 });
    assert!(is_empty(&folder));
}

/// The undos of `a/b`, as the next process finds them: that of the hidden names, those of the
/// directories.
fn kept(staged: &Staged, identities: &[Identity]) -> (MakeDirectoryUndo, Vec<Made>) {
    let hidden = staged.staged().map(|path| Name(path.to_owned())).collect();
    let directories = staged.directories.iter().zip(identities);
    let made = directories.map(|((staged, path), identity)| Made {
        path: Name(path.clone()),
        staged: Name(staged.clone()),
        identity: identity.clone(),
    });
    let hidden = killed::reread(&MakeDirectoryUndo(Step::Staged(hidden)));
    (hidden, made.map(|made| killed::reread(&made)).collect())
}

fn run_hidden(undo: &MakeDirectoryUndo) {
    let Step::Staged(paths) = &undo.0 else {
        panic!("{undo:?}")
    };
    undo::remove_staged(paths.iter().map(|path| &***path)).unwrap();
}

#[test]
fn f26_a_kill_before_the_rename_leaves_what_another_made() {
    let folder = tempdir().unwrap();
    let staged = Staged::of(&folder.path().join("a/b"), true).unwrap();
    for made_first in 0..=2 {
        // As many of the hidden directories were made when the process was killed.
        let builder = DirBuilder::new();
        for path in staged.staged().rev().take(made_first) {
            builder.create(path).unwrap();
        }
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let (hidden, _) = kept(&staged, &[]);
        for _ in 0..2 {
            run_hidden(&hidden);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            assert!(folder.path().join("a/b").is_dir());
        }
    }
    // All are made and registered.
    let identities = staged.make(&DirBuilder::new()).unwrap();
    let (_, made) = kept(&staged, &identities);
    for _ in 0..2 {
        made.iter().for_each(|made| match undo::remove(made) {
            Ok(()) => {}
            // The second run can't tell any more, and leaves it alone.
            Err(error) => assert!(error.to_string().contains("may not be the one"), "{error}"),
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(folder.path().join("a/b").is_dir());
    }
}

#[test]
fn f26_a_kill_after_the_rename_takes_back_this_tasks_own() {
    let folder = tempdir().unwrap();
    let staged = Staged::of(&folder.path().join("a/b"), true).unwrap();
    let identities = staged.make(&DirBuilder::new()).unwrap();
    let (hidden, made) = kept(&staged, &identities);
    let (from, to) = staged.directories.last().unwrap();
    place_directory(from, to).unwrap();
    for _ in 0..2 {
        run_hidden(&hidden);
        made.iter().for_each(|made| undo::remove(made).unwrap());
        assert!(is_empty(&folder));
    }
}

#[test]
fn f26_one_that_another_made_anew_with_the_same_inode_stays() {
    let folder = tempdir().unwrap();
    let staged = Staged::of(&folder.path().join("a"), false).unwrap();
    let identities = staged.make(&DirBuilder::new()).unwrap();
    let (_, made) = kept(&staged, &identities);
    let (from, to) = staged.directories.last().unwrap();
    place_directory(from, to).unwrap();
    if anew(to, fs::metadata(to).unwrap().created()) {
        undo::remove(&made[0]).unwrap();
        assert!(to.is_dir());
    }
}

#[test]
fn f26_what_nobody_can_tell_stays_and_the_undo_fails() {
    let folder = tempdir().unwrap();
    let staged = Staged::of(&folder.path().join("a"), false).unwrap();
    let identities = staged.make(&DirBuilder::new()).unwrap();
    let (_, mut made) = kept(&staged, &identities);
    let (from, to) = staged.directories.last().unwrap();
    place_directory(from, to).unwrap();
    // As after a reboot that gave the device another number, where no time of birth is kept.
    made[0].identity = identities[0].clone().on_another_device();
    let error = undo::remove(&made[0]).unwrap_err();
    assert!(error.to_string().contains("may not be the one"), "{error}");
    assert!(to.is_dir());
}

#[test]
fn f26_a_rename_never_replaces_an_empty_directory() {
    let folder = tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let theirs = Identity::of(&fs::metadata(&to).unwrap());
    let error = place_directory(&from, &to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(theirs.is_of(&fs::metadata(&to).unwrap()));
}
