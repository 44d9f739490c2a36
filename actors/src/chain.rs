//! The sources of an error.

use std::{error::Error, io, iter};

/// The error and all its sources. The source of an error that is within an `io::Error` is not that
/// one's source, but that of the one within.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        let within = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .map(|error| error as &(dyn Error + 'static));
        within.or_else(|| error.source())
    })
    // Some error may be its own source.
    .take(32)
}

/// The first of them that is of this type.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// `true` if the server is not the one that it has to be, which another attempt won't change.
pub(crate) fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented, UnsupportedNameType};
    matches!(
        find::<rustls::Error>(error),
        Some(InvalidCertificate(_) | NoCertificatesPresented | UnsupportedNameType)
    )
}
