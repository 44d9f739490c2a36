//! The process around the stage is killed, or has inherited something.

use super::*;

#[test]
fn f26_the_undo_runs_after_a_restart() {
    let folder = tempdir().unwrap();
    // Bytes that are no text, as the undo's argument and input.
    let odd: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"\xff".to_vec());
    let stage = || {
        let odd = odd.clone();
        stage("touch $1/file").cancel_with(move |folder| {
            script(
                folder,
                "cat > $1/input; printf %s \"$2\" > $1/argument; rm $1/file",
            )
            .arg(&odd)
            .env("KEY", "value")
            .current_dir(folder)
            .stdin(b"\0\xfe".to_vec())
        })
    };
    let outcome = crate::killed::after_it(stage, folder.path().to_owned(), || {
        assert!(folder.path().join("file").exists());
    });
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert!(!folder.path().join("file").exists());
    assert_eq!(fs::read(folder.path().join("input")).unwrap(), b"\0\xfe");
    assert_eq!(fs::read(folder.path().join("argument")).unwrap(), b"\xff");
}

const CHILD: &str = "BATRUN_SIGCHLD_IS_IGNORED";

/// Does nothing unless the test below starts it.
#[test]
fn child_with_sigchld_ignored() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.split("SigIgn:").nth(1).unwrap();
        let ignored = ignored.split_whitespace().next().unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_ne!(ignored & 1 << (Signal::SIGCHLD as u64 - 1), 0, "{status}");
    }
    let folder = tempdir().unwrap();
    let report = run(&folder, stage("true").into_work(), AMPLE);
    assert_eq!(report.counts.done, 1, "{report}");
    // Its exit code, and the undo's, are seen as well.
    let stage = stage("exit 3").cancel_with(|folder| script(folder, "exit 6"));
    let report = run(&folder, stage.gone([6]).into_work(), AMPLE);
    assert_eq!(end(&report).1, "sh ended with exit code 3");
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
}

#[test]
fn f25_a_program_runs_where_sigchld_is_ignored() {
    // Other shells don't pass on that this signal is ignored.
    let child = std::process::Command::new("bash")
        .args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "command::tests::surroundings::child_with_sigchld_ignored",
        ])
        .args(["--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
