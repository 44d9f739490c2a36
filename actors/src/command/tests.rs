#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::{error::FailureKind, prelude::*, report::Report, state::Rollback};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::{TempDir, tempdir};

use super::*;

mod surroundings;

/// A program in the form of a shell script; `$1` is the folder.
fn script(folder: &Path, text: &str) -> Program {
    Program::new("sh").args(["-c", text, "script"]).arg(folder)
}

fn stage(text: &'static str) -> Command<PathBuf> {
    Command::new(move |folder: &PathBuf| script(folder, text))
}

/// Runs one task through a stage, with this deadline.
fn run<S>(folder: &TempDir, work: Work<S>, timeout: Duration) -> Report
where
    S: Stage<Input = PathBuf>,
{
    actix_rt::System::new()
        .block_on(
            Pipeline::new("programs")
                .producer(from_iter([folder.path().to_owned()]).timeout(timeout))
                .stage(work)
                .run(),
        )
        .unwrap()
}

const AMPLE: Duration = Duration::from_secs(60);

fn end(report: &Report) -> (FailureKind, String) {
    match &report.last_failures[0].end {
        End::Failed { failure, .. } => (failure.kind(), failure.to_string()),
        other => panic!("{other:?}"),
    }
}

fn rollback(report: &Report) -> &Rollback {
    &report.last_failures[0].rollback
}

/// The output of a program that ends with exit code 0.
fn said(stage: Command<PathBuf>) -> Output {
    let folder = tempdir().unwrap();
    let output = Arc::new(Mutex::new(None));
    let kept = output.clone();
    let stage = stage.then(move |folder, output| {
        *kept.lock().unwrap() = Some(output);
        Ok(folder)
    });
    let report = run(&folder, stage.into_work(), AMPLE);
    assert_eq!(report.counts.done, 1, "{report}");
    output.lock().unwrap().take().unwrap()
}

/// `true` if a process is at work. One that was killed and not collected yet is not.
fn is_alive(pid: i32) -> bool {
    let listed = kill(Pid::from_raw(pid), None).is_ok();
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X']),
        Err(_) => listed && !Path::new("/proc/self/stat").exists(),
    }
}

/// The numbers that a script wrote, if it got that far.
fn pids(folder: &TempDir) -> Option<Vec<i32>> {
    let text = fs::read_to_string(folder.path().join("pids")).ok()?;
    Some(
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect(),
    )
}

/// Runs with ever longer timeouts, until the script has written its numbers before it was stopped.
fn until_pids(run: impl Fn(&TempDir, Duration) -> Report) -> (TempDir, Vec<i32>, Report) {
    for seconds in [1, 3, 9, 27] {
        let folder = tempdir().unwrap();
        let report = run(&folder, Duration::from_secs(seconds));
        if let Some(pids) = pids(&folder) {
            return (folder, pids, report);
        }
    }
    panic!("the script didn't start");
}

#[test]
fn what_a_program_says_is_handed_on() {
    let output = said(stage("printf out; printf err >&2"));
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b"out"[..], &b"err"[..])
    );
    assert!(!output.stdout_cut && !output.stderr_cut);
}

#[test]
fn what_is_too_much_is_cut() {
    let output = said(stage("printf 12345; printf 1234 >&2").largest(4));
    assert_eq!((&*output.stdout, output.stdout_cut), (&b"1234"[..], true));
    assert_eq!((&*output.stderr, output.stderr_cut), (&b"1234"[..], false));
}

#[test]
fn a_flood_of_output_is_read() {
    let output = said(stage(
        "head -c 8000000 /dev/zero; head -c 8000000 /dev/zero >&2; printf end",
    ));
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (LARGEST, LARGEST)
    );
    assert!(output.stdout_cut && output.stderr_cut);
}

#[test]
fn arguments_and_surroundings_reach_the_program() {
    let output = said(Command::new(|folder: &PathBuf| {
        Program::new("/bin/sh")
            .args([
                "-c",
                r#"printf '%s|' "$1" "$NAME" "$HOME"; basename "$(pwd)""#,
            ])
            .args(["script", "$(touch no); *"])
            .env_clear()
            .env("NAME", "Ada")
            .env("PATH", "/usr/bin:/bin")
            .current_dir(folder.parent().unwrap().join("."))
    }));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("$(touch no); *|Ada||"), "{said}");
    let parent = tempdir().unwrap();
    let parent = parent.path().parent().unwrap().file_name().unwrap();
    assert!(
        said.trim_end().ends_with(parent.to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn input_reaches_the_program_and_ends() {
    let long = vec![b'x'; 1 << 20];
    let bytes = long.clone();
    let output = said(
        Command::new(move |_: &PathBuf| Program::new("cat").stdin(bytes.clone())).largest(2 << 20),
    );
    assert!(output.stdout == long);
}

#[test]
fn input_that_is_not_read_is_no_failure() {
    said(Command::new(|_: &PathBuf| {
        Program::new("true").stdin(vec![b'x'; 1 << 20])
    }));
    let output = said(Command::new(|_: &PathBuf| {
        Program::new("sh")
            .args(["-c", "exec <&-; printf done"])
            .stdin(vec![b'x'; 1 << 20])
    }));
    assert_eq!(output.stdout, b"done");
}

#[test]
fn a_process_left_behind_does_not_hold_the_stage() {
    // It sleeps for longer than the task's deadline, so that a stage that waits for it fails.
    let output = said(stage("sleep 90 & echo $!"));
    let text = String::from_utf8(output.stdout).unwrap();
    let pid: i32 = text.trim().parse().unwrap();
    // It is left alone: it might be a daemon.
    assert!(is_alive(pid));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn exit_codes_say_whether_to_try_again() {
    let folder = tempdir().unwrap();
    let retry = Retry::constant(2, Duration::ZERO);
    let text = "echo x >> $1/tries; echo one >&2; printf 'two\\n\\n \\033[1mthree\\n4' >&2; exit 3";
    let report = run(&folder, stage(text).retry(retry), AMPLE);
    let why = "sh ended with exit code 3: two; [1mthree; 4".to_owned();
    assert_eq!(end(&report), (FailureKind::Error, why.clone()));
    let tries = || {
        fs::read_to_string(folder.path().join("tries"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(tries(), 3);

    let report = run(&folder, stage(text).permanent([2, 3]).retry(retry), AMPLE);
    assert_eq!(end(&report), (FailureKind::Permanent, why));
    assert_eq!(tries(), 4);
}

#[test]
fn the_last_words_are_the_last_ones_of_many() {
    let folder = tempdir().unwrap();
    let text = "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
    let report = run(&folder, stage(text).largest(0).into_work(), AMPLE);
    let why = "sh ended with exit code 1: line 2997; line 2998; line 2999";
    assert_eq!(end(&report).1, why);
}

#[test]
fn a_signal_is_a_failure() {
    let folder = tempdir().unwrap();
    let report = run(&folder, stage("kill -9 $$").into_work(), AMPLE);
    let why = "sh ended with signal 9".to_owned();
    assert_eq!(end(&report), (FailureKind::Error, why));
}

#[test]
fn a_program_that_is_not_there_has_done_nothing() {
    let folder = tempdir().unwrap();
    for name in ["/nowhere/no-such-program", "no-such-program", "/"] {
        let stage = Command::new(move |_: &PathBuf| Program::new(name).arg("secret"))
            .cancel_with(|folder| script(folder, "touch $1/cancelled"))
            .retry(Retry::constant(2, Duration::ZERO));
        let report = run(&folder, stage, AMPLE);
        let (kind, why) = end(&report);
        assert_eq!(kind, FailureKind::Permanent);
        assert!(why.starts_with(name) && !why.contains("secret"), "{why}");
        assert_eq!(rollback(&report), &Rollback::None);
    }
    assert!(!folder.path().join("cancelled").exists());
}

#[test]
fn the_cancel_is_run() {
    let folder = tempdir().unwrap();
    let stage = stage("touch $1/file; exit 1").cancel_with(|folder| script(folder, "rm $1/file"));
    let report = run(&folder, stage.into_work(), AMPLE);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert!(!folder.path().join("file").exists());
}

#[test]
fn a_failure_after_the_program_takes_it_back() {
    let folder = tempdir().unwrap();
    let stage = stage("touch $1/file")
        .then(|_, _| Err::<(), _>(Failure::permanent("no")))
        .cancel_with(|folder| script(folder, "rm $1/file"));
    let report = run(&folder, stage.into_work(), AMPLE);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert!(!folder.path().join("file").exists());
}

#[test]
fn what_was_not_touched_is_left() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("theirs"), "").unwrap();
    let stage = stage("[ ! -e $1/theirs ] || exit 9")
        .cancel_with(|folder| script(folder, "rm $1/theirs"))
        .untouched([9])
        .retry(Retry::constant(2, Duration::ZERO));
    let report = run(&folder, stage, AMPLE);
    assert_eq!(end(&report).0, FailureKind::Permanent);
    assert_eq!(rollback(&report), &Rollback::None);
    assert!(folder.path().join("theirs").exists());
}

#[test]
fn a_cancel_may_find_nothing_left() {
    let folder = tempdir().unwrap();
    let stage = |gone: &'static [i32]| {
        stage("exit 1")
            .cancel_with(|folder| script(folder, "echo absent >&2; exit 6"))
            .gone(gone.iter().copied())
            .cancel_retry(Retry::none())
    };
    let report = run(&folder, stage(&[6]), AMPLE);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });

    let report = run(&folder, stage(&[]), AMPLE);
    let Rollback::Stuck(stuck) = rollback(&report) else {
        panic!("{report}")
    };
    assert_eq!(stuck.undos[0].undo, "run sh");
    assert_eq!(stuck.undos[0].error, "sh ended with exit code 6: absent");
}

#[test]
fn a_cancel_that_can_not_start_is_stuck() {
    let folder = tempdir().unwrap();
    let stage = stage("exit 1")
        .cancel_with(|_| Program::new("no-such-program"))
        .cancel_retry(Retry::none());
    let report = run(&folder, stage, AMPLE);
    assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
}

/// Writes the process numbers of a shell and of its child, and goes on for long.
const LONG: &str = "sleep 1000 & echo $$ $! > $1/new; mv $1/new $1/pids; wait";

#[test]
fn a_deadline_leaves_no_process() {
    let (folder, pids, report) = until_pids(|folder, timeout| {
        // Its shell is gone when the undo runs.
        let stage = stage(LONG).cancel_with(|folder| {
            let text = "read leader child < $1/pids; ! kill -0 $leader && touch $1/cancelled";
            script(folder, text)
        });
        run(folder, stage.cancel_retry(Retry::none()), timeout)
    });
    assert_eq!(report.counts.timed_out, 1, "{report}");
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert!(folder.path().join("cancelled").exists());
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_limit_fails_the_attempt() {
    let (_folder, pids, report) =
        until_pids(|folder, limit| run(folder, stage(LONG).limit(limit).into_work(), AMPLE));
    let (kind, why) = end(&report);
    assert_eq!(kind, FailureKind::Error);
    assert!(why.starts_with("sh ran for more than "), "{why}");
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_group_may_be_asked_first() {
    let (folder, pids, report) = until_pids(|folder, limit| {
        let text = "trap 'touch $1/asked; exit' TERM; sleep 1000 & \
                    echo $$ $! > $1/new; mv $1/new $1/pids; wait";
        // A stage that waits for all of the patience would make the task late.
        let stage = stage(text).limit(limit).terminate_first(AMPLE * 10);
        run(folder, stage.into_work(), AMPLE)
    });
    assert_eq!(report.counts.failed, 1, "{report}");
    assert!(folder.path().join("asked").exists());
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_group_that_does_not_listen_is_killed() {
    let (_folder, pids, report) = until_pids(|folder, limit| {
        let text = "trap '' TERM; sleep 1000 & echo $$ $! > $1/new; mv $1/new $1/pids; wait";
        let patience = Duration::from_millis(50);
        let stage = stage(text).limit(limit).terminate_first(patience);
        run(folder, stage.into_work(), AMPLE)
    });
    assert_eq!(report.counts.failed, 1, "{report}");
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_cancel_that_takes_too_long_is_killed() {
    let (_folder, pids, report) = until_pids(|folder, timeout| {
        let stage = stage("exit 1")
            .cancel_with(|folder| script(folder, LONG))
            .cancel_retry(Retry::none())
            .cancel_timeout(timeout);
        run(folder, stage, AMPLE)
    });
    assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
    // The stage has sent the signal, but doesn't wait for the end.
    for _ in 0..1000 {
        if !pids.iter().any(|&pid| is_alive(pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the cancel's program still runs");
}

#[test]
fn debug_shows_no_secrets() {
    let program = Program::new("login")
        .arg("secret")
        .env("KEY", "secret")
        .stdin("secret");
    assert_eq!(format!("{program:?}"), "run login");
    let output = Output {
        stdout: b"secret".to_vec(),
        stdout_cut: true,
        ..Output::default()
    };
    assert_eq!(
        format!("{output:?}"),
        "Output(stdout 6 bytes, cut; stderr 0 bytes)"
    );
}
