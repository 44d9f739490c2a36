//! Certificates and keys as they are read for TLS, which is rustls on ring. Errors are texts for
//! people, and name the file.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use rustls_platform_verifier::Verifier;

/// The cryptography, named here and not taken from the process, in which somebody may have
/// installed another one, or nobody any.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The system's own judge of certificates, which trusts these roots besides.
pub fn system_verifier(
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, String> {
    Verifier::new_with_extra_roots(roots, provider).map_err(|error| {
        format!(
            "the system's root certificates can't be used ({error}): install them \
             (ca-certificates, on many systems), or name the roots to trust"
        )
    })
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The certificates in a PEM text, at least one. Errors begin with `from`.
pub fn certificates(from: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("{from}: it is not PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!(
            "{from}: there is no certificate in it; expected PEM, -----BEGIN CERTIFICATE-----"
        ));
    }
    Ok(found)
}

/// Checks that these can be an authority's certificates. Errors begin with `from`.
pub fn root_store(from: &str, roots: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        store.add(root.clone()).map_err(|error| {
            let number = index + 1;
            format!("{from}: certificate {number} can't be a root: {error}")
        })?;
    }
    Ok(store)
}

/// Like [`certified_key`], of a file with the certificates and one with the key.
pub fn certified_key_of_files(chain: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let (chain_name, key_name) = (chain.display().to_string(), key.display().to_string());
    certified_key((&chain_name, &read(chain)?), (&key_name, &read(key)?))
}

/// A certificate with its chain, and its key: a name for errors and a PEM text of each.
pub fn certified_key(
    (chain_from, chain): (&str, &[u8]),
    (key_from, key): (&str, &[u8]),
) -> Result<CertifiedKey, String> {
    let chain = certificates(chain_from, chain)?;
    // The error has no part of the key in it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        format!(
            "{key_from}: there is no private key in it that can be used without a password: {error}"
        )
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        format!(
            "the certificate of {chain_from} and the key of {key_from} can't be used together: {error}"
        )
    })
}
