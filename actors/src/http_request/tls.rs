//! TLS as a setting: which servers are trusted, and who the client is.

use std::{error::Error, fmt, path::Path, sync::Arc};

use batrun_connect::certificates;
use rustls::{
    ClientConfig,
    pki_types::CertificateDer,
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The certificates that a client trusts, and its own.
///
/// Certificates and keys are PEM. They are read and checked when they are added, so that a mistake
/// is told before a pipeline runs. A certificate that is changed on the disk later counts for stages
/// that are built from then on.
///
/// Its `Debug` shows numbers, no contents.
///
/// ```no_run
/// use batrun_actors::{HttpRequest, Request, Tls};
///
/// # fn main() -> Result<(), batrun_actors::TlsError> {
/// let tls = Tls::system_roots()
///     .add_root_file("/etc/shop/ca.pem")?
///     .identity_files("/etc/shop/client.pem", "/etc/shop/client.key")?;
/// let ping = HttpRequest::new(|_: &u32| Request::get("https://orders.internal/ping")).tls(tls);
/// # let _ = ping;
/// # Ok(()) }
/// ```
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "the setting of HttpRequest")
)]
#[derive(Clone)]
pub struct Tls {
    system: bool,
    roots: Vec<CertificateDer<'static>>,
    identity: Option<CertifiedKey>,
}

#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "the setting of HttpRequest")
)]
impl Tls {
    /// Trusts the authorities that the system trusts: on Linux those of its certificate store (or of
    /// the variables `SSL_CERT_FILE` and `SSL_CERT_DIR`), elsewhere by the system's own verifier.
    pub fn system_roots() -> Self {
        Tls {
            system: true,
            roots: Vec::new(),
            identity: None,
        }
    }

    /// Trusts nobody but the authorities that are added.
    pub fn only_added_roots() -> Self {
        Tls {
            system: false,
            ..Tls::system_roots()
        }
    }

    /// Trusts the authorities of these certificates, too.
    ///
    /// # Errors
    /// There is no certificate in the text, or one that can't be an authority's.
    pub fn add_root(self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.add("the text given to add_root", pem.as_ref())
    }

    /// Like [`add_root`](Self::add_root), with the certificates of a file.
    ///
    /// # Errors
    /// The same, and the file can't be read. They name the file.
    pub fn add_root_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        self.add(
            &path.display().to_string(),
            &certificates::read(path).map_err(TlsError)?,
        )
    }

    fn add(mut self, from: &str, pem: &[u8]) -> Result<Self, TlsError> {
        let added = certificates::certificates(from, pem).map_err(TlsError)?;
        certificates::root_store(from, &added).map_err(TlsError)?;
        self.roots.extend(added);
        Ok(self)
    }

    /// Sets the client's certificate, followed by those between it and its authority, and its
    /// private key: all in one text, in any order. Default: none.
    ///
    /// # Errors
    /// One of them is missing or unusable, or the key is another certificate's.
    pub fn identity(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let (from, pem) = ("the text given to identity", pem.as_ref());
        self.identity =
            Some(certificates::certified_key((from, pem), (from, pem)).map_err(TlsError)?);
        Ok(self)
    }

    /// Like [`identity`](Self::identity), from a file with the certificates and one with the key.
    ///
    /// # Errors
    /// The same, and a file can't be read. They name the file.
    pub fn identity_files(
        mut self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let pair =
            certificates::certified_key_of_files(chain.as_ref(), key.as_ref()).map_err(TlsError)?;
        self.identity = Some(pair);
        Ok(self)
    }

    /// # Errors
    /// A text for people: there are no roots.
    pub(super) fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = certificates::provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?;
        let builder = if self.system {
            let verifier =
                certificates::system_verifier(self.roots.clone(), provider).map_err(TlsError)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        } else if self.roots.is_empty() {
            return Err(TlsError(
                "no server is trusted: add a root to Tls::only_added_roots, or use Tls::system_roots"
                    .to_owned(),
            ));
        } else {
            builder.with_root_certificates(
                certificates::root_store("Tls", &self.roots).map_err(TlsError)?,
            )
        };
        Ok(match &self.identity {
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())))
            }
            None => builder.with_no_client_auth(),
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("system_roots", &self.system)
            .field("added_roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// A mistake in the certificates of a [`Tls`]: its text names the file, or the method that got the
/// text.
#[derive(Clone, Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TlsError {}
