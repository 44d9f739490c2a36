//! The browser with the page, and what one does there.

use std::{
    fs,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, KeyAction, KeyActions},
    key::Key,
    wd::WebDriverCompatibleCommand,
};
use serde_json::{Value, json};

/// The time after which something that has not come is missed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Page {
    client: Client,
    address: Rc<str>,
    name: Rc<str>,
}

/// A command of Chromium's own protocol.
#[derive(Debug)]
struct Devtools(&'static str, Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({"cmd": self.0, "params": self.1});
        (http::Method::POST, Some(body.to_string()))
    }
}

/// The browser's own lines, which are taken away by this.
#[derive(Debug)]
struct Complaints;

impl WebDriverCompatibleCommand for Complaints {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (
            http::Method::POST,
            Some(json!({"type": "browser"}).to_string()),
        )
    }
}

impl Page {
    pub(crate) async fn open(driver: &str, address: &str, name: &str) -> Self {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            // A name that leads here, but isn't this machine's: the browser trusts it as little as any other.
            "--host-resolver-rules=MAP plain.example 127.0.0.1",
        ];
        let wanted = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(wanted) = wanted else {
            unreachable!()
        };
        let mut builder =
            ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(wanted).connect(driver).await.unwrap();
        let page = Page {
            client,
            address: address.into(),
            name: name.into(),
        };
        page.resize(1440, "light").await;
        page
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }

    /// Runs JavaScript, with `return` in it.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// The same; it calls the last of its `arguments` in the end.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        self.client.execute_async(script, Vec::new()).await.unwrap()
    }

    /// Waits for something to be true.
    pub(crate) async fn until(&self, what: &str) {
        let until = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({what})")).await != json!(true) {
            if Instant::now() > until {
                self.shot("missing").await;
                let text = self.run("return document.body.innerText").await;
                panic!("{what} has not come; the page says {text}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a text, wherever on the page.
    pub(crate) async fn has(&self, text: &str) {
        let text = serde_json::to_string(text).unwrap();
        self.until(&format!(
            "document.body.innerText.includes({text}) || document.body.textContent.includes({text})"
        ))
        .await;
    }

    /// Goes to a view of the first pipeline.
    pub(crate) async fn go(&self, view: &str) {
        self.run(&format!("location.hash = '#/0/{view}'")).await;
        self.until(&format!("location.hash === '#/0/{view}'")).await;
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    /// Clicks where a person would, so that something that lies over it is noticed.
    pub(crate) async fn press(&self, selector: &str) {
        let quoted = serde_json::to_string(selector).unwrap();
        self.until(&format!("document.querySelector({quoted})"))
            .await;
        // A sample may come just then, which replaces it.
        for _ in 0..20 {
            let Ok(there) = self.client.find(Locator::Css(selector)).await else {
                continue;
            };
            if there.click().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.shot("not-pressed").await;
        panic!("{selector} can't be pressed");
    }

    /// Fills a field of the dialog.
    pub(crate) async fn fill(&self, name: &str, value: &str) {
        let selector = format!("dialog [name=\"{name}\"]");
        self.until(&format!("document.querySelector('{selector}')"))
            .await;
        let field = self.client.find(Locator::Css(&selector)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(value).await.unwrap();
    }

    /// Says yes in the dialog, and waits until it has gone.
    pub(crate) async fn confirm(&self) {
        self.press("dialog button.go").await;
        self.until("document.querySelector('dialog') === null")
            .await;
    }

    pub(crate) async fn search(&self, text: &str) {
        let field = self.client.find(Locator::Css("#search")).await.unwrap();
        field.send_keys(text).await.unwrap();
        self.enter().await;
    }

    pub(crate) async fn keys(&self, keys: &str) {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for value in keys.chars() {
            actions = actions
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
        }
        self.client.perform_actions(actions).await.unwrap();
    }

    /// The text that was copied, as it can be pasted.
    pub(crate) async fn pasted(&self) -> String {
        let search = "document.getElementById('search')";
        self.run(&format!(
            "{search}.maxLength = 100000; {search}.focus(); {search}.value = ''"
        ))
        .await;
        let control = char::from(Key::Control);
        let paste = [
            KeyAction::Down { value: control },
            KeyAction::Down { value: 'v' },
            KeyAction::Up { value: 'v' },
            KeyAction::Up { value: control },
        ];
        let keyboard = KeyActions::new("keyboard".to_owned());
        let paste = paste.into_iter().fold(keyboard, KeyActions::then);
        self.client.perform_actions(paste).await.unwrap();
        let text = self.run(&format!("return {search}.value")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Goes on with the tabulator until this is true of the element that has the focus.
    pub(crate) async fn tab_to(&self, what: &str) {
        for _ in 0..200 {
            self.keys(&char::from(Key::Tab).to_string()).await;
            let there = format!("return Boolean(document.activeElement?.matches('{what}'))");
            if self.run(&there).await == json!(true) {
                return;
            }
        }
        panic!("the keyboard doesn't get to {what}");
    }

    pub(crate) async fn enter(&self) {
        self.keys(&char::from(Key::Enter).to_string()).await;
    }

    pub(crate) async fn escape(&self) {
        self.keys(&char::from(Key::Escape).to_string()).await;
    }

    /// A window of this width, in these colours.
    pub(crate) async fn resize(&self, width: u32, theme: &str) {
        self.scale(width, 900, 1).await;
        self.visit(theme).await;
    }

    /// A window of 1,440 by 900 with a zoom of 200 %. To a page that is a window of half the size with twice as many
    /// pixels to each of its own, which is what a browser makes of it.
    pub(crate) async fn zoom(&self) {
        self.scale(720, 450, 2).await;
        self.visit("light").await;
    }

    async fn scale(&self, width: u32, height: u32, factor: u32) {
        let mobile = width < 700;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": factor, "mobile": mobile});
        self.client
            .issue_cmd(Devtools("Emulation.setDeviceMetricsOverride", size))
            .await
            .unwrap();
    }

    /// The same page by another name of this machine.
    pub(crate) async fn open_as(&self, host: &str, view: &str) {
        let address = self.address.replace("127.0.0.1", host);
        let address = format!("{address}#/0/{view}");
        self.client.goto(&address).await.unwrap();
    }

    async fn visit(&self, theme: &str) {
        self.client.goto(&self.address).await.unwrap();
        self.run(&format!("localStorage.setItem('batrun.theme', '{theme}')"))
            .await;
        self.reload().await;
        self.until("document.querySelector('.picture')").await;
    }

    /// Runs this before anything of the page, each time it is loaded.
    pub(crate) async fn runs_first(&self, script: &str) {
        let script = json!({"source": script});
        self.client
            .issue_cmd(Devtools("Page.addScriptToEvaluateOnNewDocument", script))
            .await
            .unwrap();
    }

    /// Opens another tab before this one.
    pub(crate) async fn hide(&self) -> fantoccini::wd::WindowHandle {
        let this = self.client.window().await.unwrap();
        let other = self.client.new_window(true).await.unwrap();
        self.client.switch_to_window(other.handle).await.unwrap();
        this
    }

    /// Closes it again.
    pub(crate) async fn show(&self, page: fantoccini::wd::WindowHandle) {
        self.client.close_window().await.unwrap();
        self.client.switch_to_window(page).await.unwrap();
    }

    /// Keeps what the page looks like, for people.
    pub(crate) async fn shot(&self, what: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
        fs::create_dir_all(&folder).unwrap();
        let picture = self.client.screenshot().await.unwrap();
        fs::write(folder.join(format!("{}-{what}.png", self.name)), picture).unwrap();
    }

    /// Neither errors nor reports of what the policy forbids.
    pub(crate) async fn has_no_complaints(&self) {
        let lines = self.client.issue_cmd(Complaints).await.unwrap();
        let lines = lines.as_array().cloned().unwrap_or_default();
        let bad: Vec<_> = lines
            .iter()
            .filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG")
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }

    /// Where some are expected.
    pub(crate) async fn forget_complaints(&self) {
        self.client.issue_cmd(Complaints).await.unwrap();
    }
}
