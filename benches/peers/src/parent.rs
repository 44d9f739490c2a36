//! Runs the children, round by round, and gathers what they print.

use std::{
    env,
    io::Read,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Time after which a child is killed.
const PATIENCE: Duration = Duration::from_secs(180);

enum Event {
    CtrlC,
    /// The child's output: stdout, then stderr.
    Ended(String, String),
}

/// Starts children one after the other.
pub struct Parent {
    events: Receiver<Event>,
    sender: Sender<Event>,
    pub bar: ProgressBar,
    stopped: bool,
}

/// The end of a child.
pub enum Came {
    /// Its last line.
    Line(String),
    /// It failed, for this reason.
    Failed(String),
    /// Ctrl-C.
    Stopped,
}

impl Parent {
    pub fn new(children: usize) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let stop = sender.clone();
        ctrlc::set_handler(move || {
            stop.send(Event::CtrlC).ok();
        })
        .context("catching Ctrl-C")?;
        let bar = ProgressBar::new(children as u64);
        let style = "{elapsed_precise} {bar:30} {pos}/{len}  {msg}";
        bar.set_style(ProgressStyle::with_template(style)?);
        Ok(Parent {
            events,
            sender,
            bar,
            stopped: false,
        })
    }

    /// Runs this program again with these arguments, and waits for its end.
    ///
    /// # Errors
    /// It can't be started.
    pub fn child(&mut self, args: &[String], what: String) -> anyhow::Result<Came> {
        if self.stopped {
            return Ok(Came::Stopped);
        }
        self.bar.set_message(what);
        self.bar.tick();
        let program = env::current_exe().context("finding this program's file")?;
        let mut child = Command::new(&program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.listen(&mut child)?;
        let came = match self.events.recv_timeout(PATIENCE) {
            Ok(Event::Ended(out, err)) => {
                let status = child.wait()?;
                match out.lines().last() {
                    Some(line) if status.success() => Came::Line(line.to_owned()),
                    _ => Came::Failed(format!("{status}: {}", err.trim().replace('\n', "; "))),
                }
            }
            Ok(Event::CtrlC) => {
                self.stopped = true;
                end(child)?;
                Came::Stopped
            }
            Err(_) => {
                end(child)?;
                // The killed child's output must not be taken for the next one's.
                self.events.recv_timeout(Duration::from_secs(5)).ok();
                Came::Failed(format!("no end after {} s", PATIENCE.as_secs()))
            }
        };
        self.bar.inc(1);
        Ok(came)
    }

    /// Both streams are read while the child runs, so that it never waits for a full pipe.
    fn listen(&self, child: &mut Child) -> anyhow::Result<()> {
        let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("the child has no streams");
        };
        let sender = self.sender.clone();
        let errors = thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).ok();
            text
        });
        thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).ok();
            let errors = errors.join().unwrap_or_default();
            sender.send(Event::Ended(text, errors)).ok();
        });
        Ok(())
    }
}

fn end(mut child: Child) -> anyhow::Result<()> {
    // It may have ended by itself: Ctrl-C at a terminal reaches it as well.
    child.kill().ok();
    child.wait().context("waiting for the child's end")?;
    Ok(())
}
