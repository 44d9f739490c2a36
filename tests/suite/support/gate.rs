//! A gate for blocking calls: a call says that it is in, and stays until the test lets it out.

use std::sync::{Arc, Mutex, mpsc};

/// The side of the call.
#[derive(Clone)]
pub struct Gate {
    entered: mpsc::Sender<()>,
    released: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// The side of the test.
pub struct Keeper {
    entered: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

pub fn gate() -> (Gate, Keeper) {
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let gate = Gate {
        entered: enter,
        released: Arc::new(Mutex::new(released)),
    };
    (gate, Keeper { entered, release })
}

impl Gate {
    /// Blocks the thread until the test lets one call out, or has dropped its side.
    pub fn pass(&self) {
        self.entered.send(()).ok();
        self.released.lock().unwrap().recv().ok();
    }
}

impl Keeper {
    /// Blocks the thread until a call is in.
    pub fn wait_for_call(&self) {
        self.entered.recv().unwrap();
    }

    /// True if a call has come in since.
    pub fn has_call(&self) -> bool {
        self.entered.try_recv().is_ok()
    }

    /// Lets one call out, be it one that comes later.
    pub fn release(&self) {
        self.release.send(()).unwrap();
    }
}
