//! Mistakes in putting a pipeline together are told, by `start` or by the compiler.

use std::time::Duration;

use batrun::{Error, error::BuildError, prelude::*};

use crate::support::{Do, acting, still};

fn error<C: Send + 'static>(pipeline: Pipeline<Do, C>) -> BuildError {
    still(async {
        match pipeline.current_arbiter().start().await {
            Err(Error::Build(error)) => error,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it started"),
        }
    })
}

#[test]
fn g13_a_build_error_names_the_stage() {
    let with = |work: Work<_>| error(Pipeline::new("p").stage(acting("first")).stage(work));
    let named = || acting("second").workers(1);
    let zero = Duration::ZERO;
    assert_eq!(
        error(Pipeline::new("p")),
        BuildError::NoStage("p".to_owned())
    );
    let told = [
        with(named().workers(0)),
        with(named().capacity(0)),
        with(named().capacity(usize::MAX)),
        with(named().timeout(zero)),
        with(named().cancel_timeout(zero)),
        with(named().rate_limit(RateLimit::per_second(0))),
        with(named().rate_limit(RateLimit::new(1, zero))),
        with(named().rate_limit(RateLimit::per_second(1).burst(0))),
    ];
    for error in &told {
        assert!(error.to_string().contains("stage \"second\""), "{error}");
    }
    assert!(matches!(told[0], BuildError::ZeroWorkers(_)));
    assert!(matches!(told[1], BuildError::ZeroCapacity(_)));
    assert!(matches!(told[2], BuildError::CapacityTooLarge(_)));
    assert!(matches!(told[3], BuildError::ZeroTimeout(_, "timeout")));
    assert!(matches!(
        told[4],
        BuildError::ZeroTimeout(_, "cancel timeout")
    ));
    assert!(
        told[5..]
            .iter()
            .all(|error| matches!(error, BuildError::ZeroRate(_)))
    );
    assert_eq!(
        with(named().named("first")),
        BuildError::SameName("first".to_owned())
    );
    assert_eq!(
        error(Pipeline::new("p").stage(named()).max_in_flight(0)),
        BuildError::ZeroInFlight("p".to_owned())
    );
    assert_eq!(
        error(Pipeline::new("p").stage(named()).max_stuck(0)),
        BuildError::ZeroStuck("p".to_owned())
    );
    assert_eq!(
        error(Pipeline::new("").stage(named())),
        BuildError::NoPipelineName
    );
    assert_eq!(
        error(Pipeline::new("p").stage(named().named(""))),
        BuildError::NoStageName("p".to_owned())
    );
    let none = still(Pipeline::new("p").stage(named()).arbiters(0).run());
    assert!(matches!(
        none,
        Err(Error::Build(BuildError::ZeroArbiters(name))) if name == "p"
    ));
}

#[test]
fn g13_mismatched_types_do_not_compile() {
    trybuild::TestCases::new().compile_fail("misuse/*.rs");
}
