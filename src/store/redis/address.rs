//! Where the store is, and how to get a connection there.

use std::{fs, io, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisResult, TlsCertificates, cluster::ClusterClient, io::tcp::TcpSettings,
};
use secrecy::ExposeSecret as _;

use super::Connection;
use crate::config;

/// Calls that may be on their way to the connection at once; beyond it a call waits, within its timeout.
const PIPELINE: usize = 1024;

/// How often a cluster client follows a slot that has moved.
const REDIRECTS: u32 = 3;

/// The store's servers.
pub struct Address {
    kind: Kind,
}

enum Kind {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// Why a store cannot be used as it is configured. Says nothing of what the URL holds.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not an address of Redis.
    #[error(
        "`store.url` is no address such as `redis://HOST:PORT/DB` or `rediss://USER:PASSWORD@HOST`; characters like `@`, `/` and `,` in a password are written as `%40`, `%2F` and `%2C`"
    )]
    Url,
    /// Certificates are always verified.
    #[error(
        "`store.url` asks not to verify certificates, which surgetank always does; name the authority in `store.ca`"
    )]
    Insecure,
    /// Several servers that are no cluster.
    #[error(
        "`store.url` names several hosts, which only the nodes of a cluster can be; add `cluster: true`"
    )]
    ManyHosts,
    /// A database that clusters do not have.
    #[error("`store.url` names a database, which a cluster does not have; take the number out")]
    Database,
    /// The file of certificates cannot be read.
    #[error("`store.ca`: the file `{path}` cannot be read: {source}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client library refuses it.
    #[error("`store` cannot be used: {0}")]
    Client(#[from] redis::RedisError),
}

impl Address {
    /// Reads the configuration, and the certificate file that it may name.
    pub(super) fn new(config: &config::Store) -> Result<Self, AddressError> {
        let nodes = nodes(config.url.expose_secret(), config.cluster)?;
        let is_tls = nodes.iter().any(is_tls);
        let certificates = if is_tls {
            roots(config.ca.as_ref())?
        } else {
            None
        };
        let kind = if config.cluster {
            cluster(nodes, certificates)?
        } else {
            single(nodes, certificates)?
        };
        Ok(Self { kind })
    }

    /// Whether an address could be used; for checking a configuration.
    pub fn check(url: &str, cluster: bool) -> Result<(), AddressError> {
        nodes(url, cluster).map(|_| ())
    }

    pub(super) async fn connect(&self, within: Duration) -> RedisResult<Connection> {
        match &self.kind {
            Kind::Single(client) => {
                // Calls bring their own timeout.
                let config = AsyncConnectionConfig::new()
                    .set_response_timeout(None)
                    .set_connection_timeout(Some(within))
                    .set_pipeline_buffer_size(PIPELINE);
                let made = client.get_multiplexed_async_connection_with_config(&config);
                Ok(made.await?.into())
            }
            Kind::Cluster(client) => Ok(client.get_async_connection().await?.into()),
        }
    }
}

fn single(
    mut nodes: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
) -> Result<Kind, AddressError> {
    let node = nodes.pop().ok_or(AddressError::Url)?;
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(node, certificates)?,
        None => Client::open(node)?,
    };
    Ok(Kind::Single(Box::new(client)))
}

fn cluster(
    nodes: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
) -> Result<Kind, AddressError> {
    let mut builder = ClusterClient::builder(nodes)
        .retries(REDIRECTS)
        .tcp_settings(tcp());
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    Ok(Kind::Cluster(Box::new(builder.build()?)))
}

/// Every host of a URL as an address of its own: `redis://user:password@one:6379,two:6379`.
fn nodes(url: &str, cluster: bool) -> Result<Vec<ConnectionInfo>, AddressError> {
    let (scheme, rest) = url.split_once("://").ok_or(AddressError::Url)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let one = |host: &str| {
        let info = format!("{scheme}://{user}{host}{tail}").into_connection_info();
        let info = info.map_err(|_| AddressError::Url)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(AddressError::Insecure),
            ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } => {
                Ok(info.set_tcp_settings(tcp()))
            }
            _ => Err(AddressError::Url),
        }
    };
    let nodes = hosts.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
    if nodes.len() > 1 && !cluster {
        return Err(AddressError::ManyHosts);
    }
    if cluster && nodes.iter().any(|node| node.redis_settings().db() != 0) {
        return Err(AddressError::Database);
    }
    Ok(nodes)
}

fn is_tls(node: &ConnectionInfo) -> bool {
    matches!(node.addr(), ConnectionAddr::TcpTls { .. })
}

/// The library leaves Nagle's algorithm on, which delays a small request behind an unanswered one.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Whom to trust: the configured authority, else the machine's, else (`None`) those built into the library.
fn roots(ca: Option<&PathBuf>) -> Result<Option<TlsCertificates>, AddressError> {
    let pem = match ca {
        Some(path) => fs::read(path).map_err(|source| AddressError::Ca {
            path: path.clone(),
            source,
        })?,
        None => machine_roots(),
    };
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    };
    let is_any = certificates
        .root_cert
        .as_ref()
        .is_some_and(|pem| !pem.is_empty());
    Ok(is_any.then_some(certificates))
}

/// The machine's trust store as PEM, the only form that the library takes.
fn machine_roots() -> Vec<u8> {
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        pem.push_str(&STANDARD.encode(&certificate));
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_server_and_of_a_cluster() {
        let all = nodes("rediss://me:p%40ss@one:7000,two,[::1]:7002", true).expect("a cluster");
        let shown: Vec<_> = all.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(shown, ["one:7000", "two:6379", "::1:7002"]);
        for node in &all {
            assert!(is_tls(node) && node.tcp_settings().nodelay());
            assert_eq!(node.redis_settings().username(), Some("me"));
            assert_eq!(node.redis_settings().password(), Some("p@ss"));
        }
        let one = nodes("redis://:secret@h/3", false).expect("a server");
        assert_eq!((one.len(), one[0].redis_settings().db()), (1, 3));
        assert!(nodes("valkey://h", false).is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for (url, cluster, expected) in [
            ("h:6379", false, "is no address"),
            ("redis://", false, "is no address"),
            ("http://h", false, "is no address"),
            ("redis://h:port", false, "is no address"),
            ("redis://h/db", false, "is no address"),
            ("unix:///secret", false, "is no address"),
            ("rediss://h#insecure", false, "not to verify"),
            ("redis://a,b", false, "cluster: true"),
            ("redis://a,b/1", true, "take the number out"),
            ("redis://:secret@a,,b", true, "is no address"),
        ] {
            let error = Address::check(url, cluster).expect_err(url).to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
