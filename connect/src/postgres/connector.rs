//! TLS to a PostgreSQL server, with the strictness that a connection string asks for.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::SingleCertAndKey,
};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, Trust};
use crate::certificates;

/// TLS as the address asks for it. It reads the files that the address names: call it anew for each
/// connection, so that a certificate may be renewed while a pipeline runs.
///
/// # Errors
/// A file can't be read or used, which the text names, or the system has no roots to trust.
pub fn connector(address: &Address) -> Result<MakeRustlsConnect, String> {
    if address.config.get_ssl_mode() == SslMode::Disable {
        // It is not used, so no file has to be there.
        return config(&Trust::Anyone, None, false);
    }
    let direct = address.config.get_ssl_negotiation() == SslNegotiation::Direct;
    config(&address.trust, address.identity.as_ref(), direct)
}

fn config(
    trust: &Trust,
    identity: Option<&(std::path::PathBuf, std::path::PathBuf)>,
    direct: bool,
) -> Result<MakeRustlsConnect, String> {
    let provider = certificates::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous();
    let builder = match trust {
        Trust::System => {
            let verifier = certificates::system_verifier(Vec::new(), provider)?;
            builder.with_custom_certificate_verifier(Arc::new(verifier))
        }
        Trust::Anyone => {
            builder.with_custom_certificate_verifier(Arc::new(Judge::new(provider, None)))
        }
        Trust::File { path, name } => {
            let from = path.display().to_string();
            let roots = certificates::certificates(&from, &certificates::read(path)?)?;
            let store = certificates::root_store(&from, &roots)?;
            let name = *name;
            let roots = Roots { roots, store, name };
            builder.with_custom_certificate_verifier(Arc::new(Judge::new(provider, Some(roots))))
        }
    };
    let mut config = match identity {
        Some((certificate, key)) => {
            let pair = certificates::certified_key_of_files(certificate, key)?;
            let pair = SingleCertAndKey::from(pair);
            builder.with_client_cert_resolver(Arc::new(pair))
        }
        None => builder.with_no_client_auth(),
    };
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

/// Judges a server's certificate.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    /// `None` if every server will do.
    roots: Option<Roots>,
}

#[derive(Debug)]
struct Roots {
    roots: Vec<CertificateDer<'static>>,
    store: RootCertStore,
    /// `true` if the certificate has to name the host.
    name: bool,
}

impl Judge {
    fn new(provider: Arc<CryptoProvider>, roots: Option<Roots>) -> Self {
        Judge { provider, roots }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        // A server without an authority signs for itself; its certificate is then the root.
        if !roots.roots.iter().any(|root| root == certificate) {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &roots.store,
                between,
                now,
                algorithms,
            )?;
        }
        if roots.name {
            verify_server_name(&parsed, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signature(verify_tls12_signature(
            message,
            certificate,
            signed,
            algorithms,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.signature(verify_tls13_signature(
            message,
            certificate,
            signed,
            algorithms,
        ))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Judge {
    fn signature(
        &self,
        verified: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verified {
            // A certificate of another age can't be read; where every server will do, it needn't.
            Err(Error::InvalidCertificate(
                CertificateError::BadEncoding | CertificateError::Other(_),
            )) if self.roots.is_none() => Ok(HandshakeSignatureValid::assertion()),
            other => other,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_is_named_only_if_it_is_needed() {
        let missing = "/missing/ca.pem";
        for (options, needed) in [
            ("sslmode=verify-full", true),
            ("sslmode=verify-ca", true),
            ("sslmode=require", true),
            ("sslmode=disable", false),
        ] {
            let text = format!("host=h {options} sslrootcert={missing}");
            match connector(&Address::parse(&text).unwrap()) {
                Ok(_) => assert!(!needed, "{options}"),
                Err(shown) => assert!(needed && shown.starts_with(missing), "{options}: {shown}"),
            }
        }
    }
}
