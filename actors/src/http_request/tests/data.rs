//! Bodies from files, and undos as data.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use batrun::state::Rollback;
use serde::de::DeserializeOwned;

use super::{
    server::{head, raw},
    *,
};

/// Sends a file with a `PUT`.
fn sending(root: String, path: &Path) -> HttpRequest<String> {
    let (back, path) = (root.clone(), path.to_owned());
    HttpRequest::new(move |id: &String| Request::put(format!("{root}/{id}")).body_from_file(&path))
        .cancel_with(move |id| Request::delete(format!("{back}/{id}")))
}

#[test]
fn a_file_is_sent_with_its_length() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for size in [0, 1, 65_536, 65_537, 1 << 20] {
        let text: String = ('a'..='z').cycle().take(size).collect();
        std::fs::write(&file, &text).unwrap();
        let server = status(200);
        let (outcome, _) = done(sending(server.root(), file.path()));
        assert!(outcome.is_done(), "{outcome}");
        let seen = &server.seen()[0];
        assert_eq!(seen.header("content-length"), Some(&*size.to_string()));
        assert_eq!(seen.header("transfer-encoding"), None);
        assert_eq!(seen.body, text, "{size}");
    }
}

#[test]
fn a_file_is_opened_again_for_each_attempt() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "first").unwrap();
    let path = file.path().to_owned();
    let server = Server::start(move |seen: &Seen| {
        let status = if seen.body == "first" { 503 } else { 200 };
        std::fs::write(&path, "second").unwrap();
        answer(status, "")
    });
    let retry = Retry::constant(1, Duration::from_millis(1));
    let root = server.root();
    let path = file.path().to_owned();
    let stage =
        HttpRequest::new(move |_: &String| Request::put(root.clone()).body_from_file(path.clone()));
    let (outcome, _) = done(stage.retry(retry));
    assert!(outcome.is_done(), "{outcome}");
    let seen = server.seen();
    let bodies = seen.iter().map(|seen| &*seen.body);
    assert_eq!(bodies.collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn what_cannot_be_sent_from_a_file_is_not_sent_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = status(200);
    let missing = folder.path().join("missing");
    for path in [&missing, folder.path(), &missing.join("below")] {
        let (outcome, report) = done(sending(server.root(), path));
        let failure = failure(&outcome);
        let text = failure.to_string();
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
        assert!(text.starts_with("PUT http://"), "{text}");
        assert!(!failure.is_retryable(), "{text}");
        assert_eq!(report.stages[0].counts.cancelled, 0);
    }
    assert!(server.methods().is_empty());
}

/// A pipe without a writer must not be waited for.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (outcome, _) = done(sending(status(200).root(), &pipe));
    let text = failure(&outcome).to_string();
    assert!(text.contains("pipe: it is not a file"), "{text}");
}

#[test]
fn a_file_that_becomes_shorter_fails_the_attempt_and_is_taken_back() {
    // More than is read ahead; the server has it cut once the first part has come.
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let path = file.path().to_owned();
    let root = raw(move |mut stream| {
        if head(&mut stream).starts_with("DELETE") {
            stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").unwrap();
            return;
        }
        let file = File::options().write(true).open(&path);
        file.unwrap().set_len(1).unwrap();
        let mut piece = [0; 4096];
        while let Ok(1..) = stream.read(&mut piece) {}
    });
    let (outcome, report) = done(sending(format!("http://{root}"), file.path()));
    let failure = failure(&outcome);
    let text = failure.to_string();
    assert!(text.contains("became shorter"), "{text}");
    assert!(text.contains(&*file.path().to_string_lossy()), "{text}");
    assert!(failure.is_retryable(), "{text}");
    assert_eq!(report.stages[0].counts.cancelled, 1);
}

fn through<T: DeserializeOwned>(undo: &impl serde::Serialize) -> [T; 2] {
    let packed = rmp_serde::to_vec_named(undo).unwrap();
    let text = serde_json::to_string(undo).unwrap();
    [
        rmp_serde::from_slice(&packed).unwrap(),
        serde_json::from_str(&text).unwrap(),
    ]
}

#[test]
fn an_undo_reads_back_as_it_was() {
    let plain = Request::delete("http://me:secret@host/7?token=secret");
    let requests = [
        plain.clone().header("A", "b").header("A", "c"),
        plain.clone().body(vec![0, 159, 146, 150]),
        plain.clone().body(""),
        plain.clone().body_from_file("/srv/a file"),
        plain,
    ];
    for request in requests {
        let key = "web/1/HttpRequest/0/cancel".to_owned();
        let undo = HttpRequestUndo { request, key };
        for read in through::<HttpRequestUndo>(&undo) {
            assert!(read.request == undo.request, "{undo:?}");
            assert_eq!(read.key, undo.key);
        }
    }
}

/// A body takes a byte for each of its bytes.
#[test]
fn an_undo_is_stored_with_its_layout_and_without_waste() {
    let request = Request::delete("http://host/7").body(vec![200; 10_000]);
    let undo = HttpRequestUndo {
        request,
        key: "k".to_owned(),
    };
    assert!(rmp_serde::to_vec_named(&undo).unwrap().len() < 10_200);
    let mut stored = serde_json::to_value(&undo).unwrap();
    assert_eq!(stored["layout"], 1);
    assert_eq!(stored["url"], "http://host/7");
    stored["layout"] = 2.into();
    // Another layout may have nothing else of this one.
    for later in [stored, serde_json::json!({ "layout": 2, "url": 7 })] {
        let error = serde_json::from_value::<HttpRequestUndo>(later).unwrap_err();
        assert!(error.to_string().contains("layout 2"), "{error}");
    }
}

/// It must compile, too.
#[test]
fn a_stage_with_an_undo_works_with_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("web.journal");
    let server = status(200);
    let stage = post(&server);
    actix_rt::System::new().block_on(async {
        let journal = batrun::journal::Journal::open(journal).unwrap();
        let pipeline = Pipeline::new("web").journal(journal).stage(stage);
        let fail = stage_fn("fail", async |_: String, _: &TaskContext<()>| {
            Err::<(), _>(Failure::permanent("no"))
        });
        let pipeline = pipeline.stage(fail).start().await.unwrap();
        let ticket = pipeline.submit("7".to_owned()).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
        pipeline.shutdown(Shutdown::Drain(PATIENCE)).await.unwrap();
    });
    assert_eq!(server.methods(), ["POST", "DELETE"]);
}
