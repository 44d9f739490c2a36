//! A journal's file for people and their tools: everything in it, and decisions about stuck tasks.
//! The program `batrun` is made of this.

// The file, and reading from it.
pub(super) mod file;

// The things that are read.
pub(super) mod view;

// Decisions about stuck tasks, and about tasks by their keys.
mod by_key;
mod resolve;
