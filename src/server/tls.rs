//! What TLS listeners show of themselves.
//!
//! A certificate lives shorter than a process should. It is looked up at each handshake, so that a
//! renewed one is shown to the next caller and nobody who is connected notices.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config;

/// The certificate that is shown now. Clones share it.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Shown>);

#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

/// A certificate or its key cannot be used. Never shows any of the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No file, or one without what is looked for in it.
    #[error("`{path}` cannot be read as {what}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// They are not a pair, or of a kind that is not known.
    #[error("the certificate in `{cert}` cannot be used with the key in `{key}`: {source}")]
    NoPair {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// When a file cannot be read or the two are not a pair.
    pub fn read(files: &config::Tls) -> Result<CertifiedKey, CertificateError> {
        let chain = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .and_then(|chain| {
                if chain.is_empty() {
                    return Err(pem::Error::NoItemsFound);
                }
                Ok(chain)
            })
            .map_err(unreadable(&files.cert, "a certificate (PEM)"))?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(unreadable(&files.key, "a private key (PEM)"))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
            CertificateError::NoPair {
                cert: files.cert.clone(),
                key: files.key.clone(),
                source,
            }
        })
    }

    /// Begins to show `certified`.
    #[must_use]
    pub fn new(certified: CertifiedKey) -> Self {
        Self(Arc::new(Shown(ArcSwap::from_pointee(certified))))
    }

    /// Shows `certified` from the next handshake on.
    pub fn replace(&self, certified: CertifiedKey) {
        self.0.0.store(Arc::new(certified));
    }

    /// How a listener shakes hands: TLS 1.2 or 1.3, HTTP/2 or HTTP/1.1 as the caller prefers.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults, which a working build does not.
    pub fn acceptor(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn unreadable(path: &Path, what: &'static str) -> impl FnOnce(pem::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::Unreadable { path, what, source }
}
