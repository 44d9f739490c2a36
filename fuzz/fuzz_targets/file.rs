//! Writes the bytes somewhere into a journal's file and reads that; two of them are the place.
#![no_main]

use std::{fs, sync::OnceLock};

use batrun::{journal::{Journal, JournalFile}, prelude::*};

static SEED: OnceLock<(tempfile::TempDir, Vec<u8>)> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (folder, seed) = SEED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seed");
        futures::executor::block_on(fill(&path));
        let bytes = fs::read(&path).expect("its bytes");
        (folder, bytes)
    });
    let [a, b, rest @ ..] = bytes else { return };
    let mut file = seed.clone();
    let at = usize::from(u16::from_le_bytes([*a, *b])) % file.len();
    let end = (at + rest.len()).min(file.len());
    file[at..end].copy_from_slice(&rest[..end - at]);
    let path = folder.path().join("file");
    for log in ["file-wal", "file-shm"] {
        fs::remove_file(folder.path().join(log)).ok();
    }
    fs::write(&path, &file).expect("written");
    if let Ok(journal) = JournalFile::look(&path) {
        let _ = (journal.pipeline(), journal.stages(), journal.corrupt());
        let _ = journal.check();
        let _ = journal.tasks(|task| drop(format!("{task:?}")));
        let _ = journal.outcomes(|outcome| drop(format!("{outcome:?}")));
    }
});

/// Makes a journal with tasks that are done, that failed and that are under way.
async fn fill(path: &std::path::Path) {
    let stage = stage_fn("stage", async |n: u32, task: &TaskContext<'_, String>| {
        task.on_cancel(format!("undo {n}")).await?;
        match n {
            3 => Err(Failure::permanent("three")),
            7.. => std::future::pending().await,
            _ => Ok(n),
        }
    });
    let stage = stage
        .cancel_with(async |_: String, _: &CancelContext<'_>| Ok(()))
        .workers(4);
    let pipeline = Pipeline::new("fuzz").journal(Journal::open(path).expect("a journal"));
    let handle = pipeline.stage(stage).start().await.expect("it starts");
    for n in 0..10 {
        let ticket = handle
            .submit(n)
            .key(format!("key {n}"))
            .await
            .expect("accepted");
        if n < 7 {
            ticket.outcome().await.expect("an outcome");
        }
    }
    handle.shutdown(Shutdown::Suspend).await.expect("it ends");
}
