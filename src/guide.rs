//! [stages]: crate::guide::stages
//! [pipelines]: crate::guide::pipelines
//! [rollback]: crate::guide::rollback
//! [shutdown]: crate::guide::shutdown
//! [journal]: crate::guide::journal
//! [many]: crate::guide::many
//! [database]: crate::guide::database
//! [testing]: crate::guide::testing
//! [actors]: crate::guide::actors
//! [operations]: crate::guide::operations
//! [monitor]: crate::guide::monitor
//! [what_happens]: crate::guide::what_happens
//! [clocks]: crate::guide::clocks
//! [guarantees]: crate::guide::guarantees
//!
#![doc = include_str!("../docs/guide/README.md")]

// The pages are files that read well by themselves, with links to each other at their end. Of two
// definitions of a link the first one holds, so here the same links lead to modules.
macro_rules! pages {
    ($($(#[$attribute:meta])* $page:ident = $file:literal, $api:literal;)*) => {$(
        /// [stages]: crate::guide::stages
        /// [pipelines]: crate::guide::pipelines
        /// [rollback]: crate::guide::rollback
        /// [shutdown]: crate::guide::shutdown
        /// [journal]: crate::guide::journal
        /// [many]: crate::guide::many
        /// [fence]: crate::guide::database#the-fence
        /// [web]: crate::guide::actors#in-a-web-service
        /// [database]: crate::guide::database
        /// [testing]: crate::guide::testing
        /// [actors]: crate::guide::actors
        /// [operations]: crate::guide::operations
        /// [monitor]: crate::guide::monitor
        /// [what_happens]: crate::guide::what_happens
        /// [clocks]: crate::guide::clocks
        /// [guarantees]: crate::guide::guarantees
        ///
        #[doc = include_str!(concat!("../", $file))]
        ///
        #[doc = $api]
        $(#[$attribute])*
        pub mod $page {}
    )*};
}

pages! {
    stages = "docs/guide/stages.md",
        "API: [`Stage`](crate::Stage), [`TaskContext`](crate::TaskContext), [`stage_fn`](crate::stage_fn).";
    pipelines = "docs/guide/pipelines.md",
        "API: [`Pipeline`](crate::Pipeline), [`PipelineHandle`](crate::PipelineHandle), \
         [`IntoWork`](crate::IntoWork), [`Intake`](crate::Intake), [`submit`](crate::submit), [`policy`](crate::policy).";
    rollback = "docs/guide/rollback.md",
        "API: [`Outcome`](crate::Outcome), [`Rollback`](crate::state::Rollback), [`OnStuck`](crate::policy::OnStuck).";
    shutdown = "docs/guide/shutdown.md",
        "API: [`Shutdown`](crate::Shutdown), [`PipelineHandle::shutdown`](crate::PipelineHandle::shutdown).";
    // Its code needs the feature; the page is there without it, but isn't run.
    #[cfg(any(feature = "journal", not(doctest)))]
    journal = "docs/guide/journal.md", "API: the module `journal`.";
    #[cfg(any(feature = "postgres", not(doctest)))]
    many = "docs/guide/many.md", "API: the module `journal`.";
    #[cfg(any(feature = "postgres", not(doctest)))]
    database = "docs/guide/database.md", "API: the module `journal`.";
    #[cfg(any(feature = "testing", not(doctest)))]
    testing = "docs/guide/testing.md", "API: the module `testing`, with a complete test of a stage.";
    // Its code runs as tests of the crate `batrun-monitor`, as does that of the page `monitor`.
    #[cfg(not(doctest))]
    actors = "docs/guide/actors.md",
        "API: [`actor`](crate::actor), [`Work::actor`](crate::Work::actor).";
    operations = "docs/guide/operations.md",
        "API: [`report`](crate::report).";
    #[cfg(not(doctest))]
    monitor = "docs/guide/monitor.md",
        "API: the crate `batrun-monitor`; [`Control`](crate::Control), [`report`](crate::report).";
    what_happens = "docs/guide/what_happens.md",
        "API: [`error`](crate::error), [`report`](crate::report).";
    clocks = "docs/guide/clocks.md",
        "API: [`submit`](crate::submit), [`IntoWork`](crate::IntoWork), [`Pipeline`](crate::Pipeline), \
         [`policy`](crate::policy).";
    guarantees = "GUARANTEES.md", "";
}
