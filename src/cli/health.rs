//! `surgetank health`: one question to a running surgetank's admin port.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::{Failed, listen};
use crate::config::Listen;

/// A probe that waits longer than this has found a process that is not well.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct HealthArguments {
    /// The admin address of the surgetank to ask.
    #[arg(long, value_name = "ADDR", env = "SURGETANK_ADMIN", default_value = "127.0.0.1:4291", value_parser = listen)]
    admin: Listen,
    /// Ask whether it is alive instead, which it still is while it lets the last answers finish.
    #[arg(long)]
    alive: bool,
}

pub(super) async fn run(arguments: HealthArguments) -> Result<(), Failed> {
    let admin = &arguments.admin;
    let path = if arguments.alive {
        "/healthz"
    } else {
        "/readyz"
    };
    let answer = tokio::time::timeout(PATIENCE, ask(admin, path))
        .await
        .map_err(|_| {
            Failed::unavailable(format!(
                "{admin} did not answer within {} s",
                PATIENCE.as_secs()
            ))
        })?
        .map_err(|error| {
            Failed::unavailable(format!(
                "nobody can be asked at {admin} ({error}): is surgetank running, and is that its admin \
                 address (--admin, SURGETANK_ADMIN)?"
            ))
        })?;
    let head = answer.lines().next().unwrap_or_default();
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(Failed::unavailable(format!(
        "{admin} is not well: {}",
        answer.lines().last().unwrap_or("no answer")
    )))
}

async fn ask(admin: &Listen, path: &str) -> std::io::Result<String> {
    let question = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    match admin {
        Listen::Tcp(addr) => {
            let mut addr = *addr;
            // A listener on every interface is asked on this machine's own.
            if addr.ip().is_unspecified() {
                addr.set_ip(if addr.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(question.as_bytes()).await?;
            stream.take(4096).read_to_end(&mut answer).await?;
        }
        Listen::Unix(path) => {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(question.as_bytes()).await?;
            stream.take(4096).read_to_end(&mut answer).await?;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
