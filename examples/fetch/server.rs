//! A small site to fetch from, with pages that are slow to come, missing, too large or silent. It
//! counts the requests for each page.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};

use crate::{ATTEMPTS, LARGEST};

/// Number of pages.
const PAGES: usize = 40;

/// The answer of a page.
#[derive(Clone, Copy)]
enum Kind {
    Fine,
    /// 503 this many times, then the page.
    Busy(u32),
    /// Always 503.
    AlwaysBusy,
    /// 404.
    Missing,
    /// A page that is too large.
    TooLarge,
    /// No answer.
    Silent,
    /// A page without a title, which the review rejects.
    Untitled,
}

fn kind(page: usize) -> Kind {
    match page {
        7 | 19 => Kind::Busy(1),
        11 | 23 | 31 => Kind::Busy(2),
        37 => Kind::AlwaysBusy,
        5 | 17 | 29 => Kind::Missing,
        13 => Kind::TooLarge,
        27 => Kind::Silent,
        9 | 33 => Kind::Untitled,
        _ => Kind::Fine,
    }
}

fn body(page: usize) -> String {
    let title = match kind(page) {
        Kind::Untitled => String::new(),
        _ => format!("<title>Page {page}</title>"),
    };
    let words = match kind(page) {
        Kind::TooLarge => LARGEST / 4,
        _ => 20 + page * 37,
    };
    let text = "word ".repeat(words);
    format!("<!doctype html><html><head>{title}</head><body><p>{text}</p></body></html>")
}

/// The end that a page's task should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Done, with this many bytes in the database.
    Done(u64),
    /// Failed in this stage.
    Failed(&'static str),
    /// Timed out in this stage.
    TimedOut(&'static str),
}

/// The server while it runs.
pub(crate) struct Site {
    address: SocketAddr,
    handle: ServerHandle,
    requests: web::Data<Vec<AtomicU32>>,
}

impl Site {
    /// Serves on a free port of the loopback interface.
    pub(crate) fn start() -> io::Result<Site> {
        let requests: Vec<_> = (0..PAGES).map(|_| AtomicU32::new(0)).collect();
        let requests = web::Data::new(requests);
        let data = requests.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/page/{page}", web::get().to(serve))
        })
        .workers(1)
        // Longer than the run: a connection that ends just as it is used again would be one more
        // try.
        .keep_alive(Duration::from_secs(600))
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server
            .addrs()
            .first()
            .copied()
            .ok_or_else(|| io::Error::other("the server has no address"))?;
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Site {
            address,
            handle,
            requests,
        })
    }

    /// Stops, and drops the requests that are still unanswered.
    pub(crate) async fn stop(&self) {
        self.handle.stop(false).await;
    }

    fn url(&self, page: usize) -> String {
        format!("http://{}/page/{page}", self.address)
    }

    /// The URL of each page.
    pub(crate) fn urls(&self) -> Vec<String> {
        (0..PAGES).map(|page| self.url(page)).collect()
    }

    /// The end that each page's task should have.
    pub(crate) fn fates(&self) -> BTreeMap<String, Fate> {
        let fate = |page| match kind(page) {
            Kind::Fine | Kind::Busy(_) => Fate::Done(body(page).len() as u64),
            Kind::AlwaysBusy | Kind::Missing | Kind::TooLarge => Fate::Failed("fetch"),
            Kind::Silent => Fate::TimedOut("fetch"),
            Kind::Untitled => Fate::Failed("review"),
        };
        (0..PAGES)
            .map(|page| (self.url(page), fate(page)))
            .collect()
    }

    /// Number of requests for all pages.
    pub(crate) fn total(&self) -> u64 {
        let count = |count: &AtomicU32| u64::from(count.load(Ordering::SeqCst));
        self.requests.iter().map(count).sum()
    }

    /// The pages with too many or too few requests. Right is one request for each page, and one
    /// more for each 503 that another attempt could follow.
    pub(crate) fn miscounted(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (page, count) in self.requests.iter().enumerate() {
            let expected = match kind(page) {
                Kind::Busy(times) => times + 1,
                Kind::AlwaysBusy => ATTEMPTS,
                _ => 1,
            };
            let found = count.load(Ordering::SeqCst);
            if found != expected {
                wrong.push(format!(
                    "{}: {found} requests instead of {expected}",
                    self.url(page)
                ));
            }
        }
        wrong
    }
}

async fn serve(page: web::Path<usize>, requests: web::Data<Vec<AtomicU32>>) -> HttpResponse {
    let page = page.into_inner();
    let Some(count) = requests.get(page) else {
        return HttpResponse::NotFound().finish();
    };
    let before = count.fetch_add(1, Ordering::SeqCst);
    let fine = || {
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .body(body(page))
    };
    match kind(page) {
        Kind::Busy(times) if before < times => HttpResponse::ServiceUnavailable().finish(),
        Kind::AlwaysBusy => HttpResponse::ServiceUnavailable().finish(),
        Kind::Missing => HttpResponse::NotFound().finish(),
        Kind::Silent => std::future::pending().await,
        Kind::Fine | Kind::Busy(_) | Kind::TooLarge | Kind::Untitled => fine(),
    }
}
