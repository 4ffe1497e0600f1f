//! The fake API.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_rustls::{TlsAcceptor, rustls};

use crate::{Tls, stats, wire::Inbox};

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Events of a stream.
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// Milliseconds between them.
    #[arg(long, default_value_t = 20)]
    pause: u64,
    #[command(flatten)]
    tls: Tls,
}

/// As long as what a model says in a sentence or two, with the envelope that OpenAI puts around it.
const ANSWER_BYTES: usize = 1024;

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-request-id: req_0123456789\r\ntransfer-encoding: chunked\r\n\r\n";
const STREAM_END: &[u8] = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

struct Api {
    answer: Vec<u8>,
    events: u32,
    pause: Duration,
}

pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let api = Arc::new(Api {
        answer: answer(),
        events: settings.events,
        pause: Duration::from_millis(settings.pause),
    });
    let acceptor = acceptor(&settings.tls)?;
    let listener = TcpListener::bind(settings.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (api, acceptor) = (api.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => api.serve(stream).await,
                Some(acceptor) => api.serve(acceptor.accept(stream).await?).await,
            }
        });
    }
}

impl Api {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut inbox = Inbox::default();
        while let Some(request) = inbox.message(&mut stream).await? {
            if memmem::find(&request.body, b"\"stream\":true").is_some() {
                self.stream(&mut stream).await?;
            } else {
                stream.write_all(&self.answer).await?;
            }
            stream.flush().await?;
        }
        Ok(())
    }

    async fn stream(&self, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        to.write_all(STREAM_HEAD).await?;
        let mut pace = interval_at(Instant::now(), self.pause.max(Duration::from_micros(1)));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..self.events {
            if !self.pause.is_zero() {
                pace.tick().await;
            }
            to.write_all(&event()).await?;
            to.flush().await?;
        }
        to.write_all(STREAM_END).await
    }
}

/// One event in a chunk of its own, with the moment of its sending where an id would stand.
fn event() -> Vec<u8> {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-{:020}\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" token\"}},\"finish_reason\":null}}]}}\n\n",
        stats::now()
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

fn answer() -> Vec<u8> {
    let open = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let close = r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":400,"completion_tokens":150,"total_tokens":550}}"#;
    let text = "a".repeat(ANSWER_BYTES - open.len() - close.len());
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789\r\nopenai-processing-ms: 12\r\ncontent-length: {ANSWER_BYTES}\r\n\r\n{open}{text}{close}"
    )
    .into_bytes()
}

fn acceptor(tls: &Tls) -> anyhow::Result<Option<TlsAcceptor>> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(None);
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .with_context(|| format!("the certificate {}", cert.display()))?
        .collect::<Result<_, _>>()?;
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("the key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
