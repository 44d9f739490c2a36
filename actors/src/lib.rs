//! Ready-made stages and producers for batrun.
