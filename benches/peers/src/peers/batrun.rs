use crate::work::{Measure, Params};

pub fn run(_: &Params) -> Option<anyhow::Result<Measure>> {
    None
}

pub fn run_on_one(_: &Params) -> Option<anyhow::Result<Measure>> {
    None
}
