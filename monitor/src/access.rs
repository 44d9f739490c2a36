//! The rights of a request's sender, as the application's hook gives them.

use std::{fmt, sync::Arc};

/// Something that changes a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Pauses the pipeline or a stage.
    Pause,
    /// Ends a pause.
    Resume,
    /// Gives a stage another number of workers.
    Resize,
    /// Gives a stage another rate limit.
    Rate,
    /// Cancels tasks.
    Cancel,
    /// Ends the pipeline once its tasks are done.
    Drain,
    /// Ends the pipeline at once.
    Abort,
    /// Takes a stuck task off the list.
    Resolve,
    /// Has the undos of a stuck task run again.
    Retry,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 9] = [
        Action::Pause,
        Action::Resume,
        Action::Resize,
        Action::Rate,
        Action::Cancel,
        Action::Drain,
        Action::Abort,
        Action::Resolve,
        Action::Retry,
    ];

    /// The name that the API has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Resize => "resize",
            Action::Rate => "rate",
            Action::Cancel => "cancel",
            Action::Drain => "drain",
            Action::Abort => "abort",
            Action::Resolve => "resolve",
            Action::Retry => "retry",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rights of a request's sender, to see and to do. Made for each request by the hook that
/// [`Mount::access`](crate::Mount::access) takes.
///
/// ```
/// use batrun_monitor::{Access, Action};
///
/// let operator = Access::look()
///     .action(Action::Pause)
///     .action(Action::Resume)
///     .named("ada");
/// assert!(operator.may(Action::Pause) && !operator.may(Action::Abort));
/// assert!(!operator.sees_values());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    look: bool,
    values: bool,
    actions: u16,
    who: Option<Arc<str>>,
}

impl Access {
    /// Nothing: the request is answered with 403.
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything that is to be seen except for [values](Self::values), and no action.
    pub fn look() -> Self {
        Access {
            look: true,
            ..Self::default()
        }
    }

    /// Everything: values, and all actions.
    pub fn all() -> Self {
        Action::ALL
            .into_iter()
            .fold(Self::look().values(), Access::action)
    }

    /// A hook that lets everyone who reaches the server do everything, for
    /// [`Mount::access`](crate::Mount::access). It logs a warning.
    pub fn everyone() -> impl Fn(&actix_web::HttpRequest) -> Access + Clone + Send + Sync + 'static
    {
        log::warn!(
            "the monitor lets everyone do everything who can reach it; \
             say .access(|request| ..) to tell people apart"
        );
        |_: &actix_web::HttpRequest| Access::all()
    }

    /// Shows values, too: keys of tasks, undos as their `Debug` shows them, outputs, and the place of a journal. The
    /// texts of errors and the labels of tasks are shown to all who may look. Default: hidden.
    pub fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Allows an action, and to look.
    pub fn action(mut self, action: Action) -> Self {
        self.look = true;
        self.actions |= action.bit();
        self
    }

    /// The name by which an action is logged. Default: the address of the peer.
    pub fn named(mut self, who: impl Into<Arc<str>>) -> Self {
        self.who = Some(who.into());
        self
    }

    /// `true` if anything may be seen.
    pub fn may_look(&self) -> bool {
        self.look
    }

    /// `true` if values may be seen.
    pub fn sees_values(&self) -> bool {
        self.look && self.values
    }

    /// `true` if this action is allowed.
    pub fn may(&self, action: Action) -> bool {
        self.look && self.actions & action.bit() != 0
    }

    pub(crate) fn who(&self) -> Option<&str> {
        self.who.as_deref()
    }

    pub(crate) fn actions(&self) -> Vec<&'static str> {
        let allowed = Action::ALL.into_iter().filter(|action| self.may(*action));
        allowed.map(Action::as_str).collect()
    }
}
