//! Connecting, TLS included, within one timeout.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::Service;

use super::Names;

/// How long to try one address family before the other is tried beside it (RFC 8305).
const HAPPY_EYEBALLS: Duration = Duration::from_millis(250);

/// TCP keep-alive probes: a vendor that vanished without a FIN is noticed while a stream is silent.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection, in clear text or under TLS.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections to one upstream.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector<Names>>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(
        tls: &Arc<rustls::ClientConfig>,
        names: Names,
        http2: bool,
        timeout: Duration,
    ) -> Self {
        let mut dialer = HttpConnector::new_with_resolver(names);
        dialer.enforce_http(false);
        dialer.set_nodelay(true);
        dialer.set_keepalive(Some(TCP_KEEPALIVE));
        dialer.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls.as_ref().clone())
            .https_or_http();
        let client = if http2 {
            builder.enable_http2().wrap_connector(dialer)
        } else {
            builder.enable_http1().wrap_connector(dialer)
        };
        Self {
            https: client,
            timeout,
        }
    }

    /// Opens a connection to the scheme, host and port of `uri`.
    pub(super) fn open(&self, uri: Uri) -> impl Future<Output = io::Result<Stream>> + Send + use<> {
        let (connecting, timeout) = (self.https.clone().call(uri), self.timeout);
        async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected.map_err(io::Error::other),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connecting took longer than `timeouts.connect`",
                )),
            }
        }
    }
}
