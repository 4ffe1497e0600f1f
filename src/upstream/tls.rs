//! Whom we trust at the other end.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The client side of TLS: the machine's own trust store (so that a company's root works), or the
/// Mozilla roots built into the binary where the image carries none. Certificates are always
/// verified; there is no setting that turns this off.
///
/// # Errors
/// When the TLS library refuses its own defaults, which a working build does not.
pub fn trust() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (usable, broken) = roots.add_parsable_certificates(native.certs);
    if usable == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        tracing::debug!("no trust store on this machine; using the built-in roots");
    } else {
        tracing::debug!(usable, broken, "trusting the machine's certificates");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
