//! Many slow streams, held until standard input ends, so that memory can be read meanwhile.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet, time::timeout};

use crate::{streams, wire::Inbox};

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Whom it calls.
    #[arg(long)]
    to: SocketAddr,
    /// Streams at once.
    #[arg(long, default_value_t = 1000)]
    streams: u32,
    /// Connections that are opened at the same time.
    #[arg(long, default_value_t = 100)]
    opening: usize,
}

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let (mut opening, mut held, mut refused) = (JoinSet::new(), Vec::new(), 0_u32);
    for number in 0..settings.streams {
        if opening.len() >= settings.opening {
            keep(&mut opening, &mut held, &mut refused).await;
        }
        opening.spawn(timeout(ANSWERED_WITHIN, begun(settings.to, number)));
    }
    while !opening.is_empty() {
        keep(&mut opening, &mut held, &mut refused).await;
    }
    println!(
        "{}",
        serde_json::json!({ "held": held.len(), "refused": refused })
    );
    // Reading on, so that the streams flow as they would; the end of standard input ends it all.
    let mut readers = JoinSet::new();
    for mut stream in held {
        readers.spawn(async move {
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
    }
    let mut nothing = Vec::new();
    tokio::io::stdin().read_to_end(&mut nothing).await?;
    Ok(())
}

type Opening = JoinSet<Result<std::io::Result<TcpStream>, tokio::time::error::Elapsed>>;

async fn keep(opening: &mut Opening, held: &mut Vec<TcpStream>, refused: &mut u32) {
    match opening.join_next().await {
        Some(Ok(Ok(Ok(stream)))) => held.push(stream),
        Some(_) => *refused += 1,
        None => {}
    }
}

/// A stream whose first event has come.
async fn begun(to: SocketAddr, number: u32) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await?;
    streams::ask(&mut stream, to, number).await?;
    let mut inbox = Inbox::default();
    inbox.head(&mut stream).await?;
    while memchr::memmem::find(inbox.bytes(), b"data:").is_none() {
        if stream.read_buf(inbox.bytes()).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(stream)
}
