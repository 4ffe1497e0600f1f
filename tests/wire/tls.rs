//! TLS listeners: both protocols, the certificate of the day, and those who cannot shake hands.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use surgetank::{config::Config, server::Stage};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::{
    Caller, End, Folder, Origin, Recipe, Rig, Tongue, Wire, find, soon, text, until,
};

/// A certificate of its own for `localhost`, in a folder as a deployment has it.
struct Issued {
    certificate: CertificateDer<'static>,
}

impl Issued {
    fn into(folder: &Folder) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        folder.write("tls.crt", &made.cert.pem());
        folder.write("tls.key", &made.signing_key.serialize_pem());
        Self {
            certificate: made.cert.der().clone(),
        }
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the defaults")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TcpStream::connect(addr).await?;
        soon(
            "a handshake",
            TlsConnector::from(Arc::new(config)).connect(name, stream),
        )
        .await
    }

    async fn caller(&self, addr: SocketAddr) -> Caller {
        let stream = self
            .connect(addr, &["http/1.1"])
            .await
            .expect("a handshake");
        Caller {
            wire: Wire::of_tls(stream),
        }
    }
}

fn block(folder: &Folder) -> String {
    let path = |name| folder.path(name).display().to_string();
    format!(
        "tls: {{ cert: '{}', key: '{}' }}",
        path("tls.crt"),
        path("tls.key")
    )
}

fn rig(folder: &Folder) -> Rig {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let tank = Recipe::over(&lab.url())
        .server("head_timeout: 400ms")
        .start_with(&block(folder));
    Rig { lab, tank }
}

#[tokio::test]
async fn http_1_streams_and_their_honest_ends_pass_through_tls() {
    let folder = Folder::new();
    let issued = Issued::into(&folder);
    let rig = rig(&folder);
    let mut caller = issued.caller(rig.tank.addr).await;
    for tongue in Tongue::ALL {
        assert_eq!(caller.call(&tongue.plain()).await.status, 200);
        let whole = caller.call(&tongue.stream()).await;
        assert_eq!((whole.status, whole.end), (200, End::Whole));
        assert!(whole.text().contains(tongue.terminator()));
    }
    let broken = issued
        .caller(rig.tank.addr)
        .await
        .call(&Tongue::Chat.stream().script("cut", "cut;after=2"))
        .await;
    assert_ne!(broken.end, End::Whole, "{}", broken.text());
    assert!(
        broken.text().contains(Tongue::Chat.error_mark()),
        "{}",
        broken.text()
    );
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_prefer_it() {
    let folder = Folder::new();
    let issued = Issued::into(&folder);
    let rig = rig(&folder);
    let stream = issued
        .connect(rig.tank.addr, &["h2", "http/1.1"])
        .await
        .expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let body = r#"{"model":"gpt-lab","messages":[],"stream":true}"#;
    let request = http::Request::post("https://localhost/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(body))
        .expect("a request");
    let answer = soon("an answer", sender.send_request(request))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let body = soon("its end", answer.into_body().collect())
        .await
        .expect("whole");
    assert!(text(&body.to_bytes()).contains(Tongue::Chat.terminator()));
    driving.abort();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_caller_and_nobody_is_cut() {
    let folder = Folder::new();
    let first = Issued::into(&folder);
    let rig = rig(&folder);
    let yaml = Recipe::over(&rig.lab.url()).yaml(&block(&folder));
    let mut before = first.caller(rig.tank.addr).await;
    assert_eq!(before.call(&Tongue::Chat.plain()).await.status, 200);

    let second = Issued::into(&folder);
    assert!(
        second.connect(rig.tank.addr, &[]).await.is_err(),
        "not before it is read"
    );
    rig.tank.reload(&yaml);
    assert!(first.connect(rig.tank.addr, &[]).await.is_err());
    let mut after = second.caller(rig.tank.addr).await;
    assert_eq!(after.call(&Tongue::Chat.plain()).await.status, 200);
    assert_eq!(before.call(&Tongue::Chat.plain()).await.status, 200);

    // Half of a renewal: the new certificate with the old key.
    let key = std::fs::read_to_string(folder.path("tls.key")).expect("a key");
    Issued::into(&folder);
    folder.write("tls.key", &key);
    for (name, content, words) in [
        ("", "", "cannot be used with the key in"),
        (
            "tls.crt",
            "no certificate",
            "cannot be read as a certificate (PEM)",
        ),
        ("tls.key", "", "cannot be read as"),
    ] {
        if !name.is_empty() {
            folder.write(name, content);
        }
        let config = Config::parse("test", &yaml, &|_| None).expect("well written");
        let error = rig
            .tank
            .proxy
            .reload(&config, &|_| None)
            .expect_err("unusable")
            .to_string();
        assert!(error.contains(words), "{error}");
        let mut still = second.caller(rig.tank.addr).await;
        assert_eq!(
            still.call(&Tongue::Chat.plain()).await.status,
            200,
            "the old one holds on"
        );
    }
    let cleartext = Recipe::over(&rig.lab.url()).yaml("");
    assert_eq!(rig.tank.reload(&cleartext), ["server.head_timeout", "tls"]);
}

#[tokio::test]
async fn whoever_does_not_shake_hands_holds_nobody_up() {
    let folder = Folder::new();
    let issued = Issued::into(&folder);
    let rig = rig(&folder);
    let mut strangers = Vec::new();
    for said in ["", "\x16\x03\x01", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut wire = Wire::connect(rig.tank.addr).await;
        wire.send(said).await;
        strangers.push(wire);
    }
    let mut caller = issued.caller(rig.tank.addr).await;
    assert_eq!(caller.call(&Tongue::Chat.plain()).await.status, 200);
    for wire in &mut strangers {
        let (rest, _) = soon("the stranger is let go", wire.rest()).await;
        assert!(
            !text(&rest).contains("HTTP/1.1"),
            "no clear text on a TLS port"
        );
    }
    rig.tank.proxy.lifecycle().advance(Stage::Draining);
    soon("a caller in TLS is told to go", caller.wire.closed()).await;
    until("none is left", || rig.tank.proxy.fleet().live() == 0).await;
    assert_eq!(rig.lab.stats().requests, 1);
}

#[tokio::test]
async fn an_upstream_that_cannot_prove_who_it_is_gets_nothing_and_the_operator_hears_why() {
    let folder = Folder::new();
    Issued::into(&folder);
    let stranger = rig(&folder);
    let plain = Origin::start().await;
    let plain_addr = plain.addr;
    // It answers whatever connects, and keeps what it hears.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    tokio::spawn(async move {
        loop {
            let mut connection = plain.accept_at_last().await;
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = connection.wire.try_send(answer).await;
            let (said, _) = connection.wire.rest().await;
            hearing.lock().expect("nobody panics with it").push(said);
        }
    });
    // A certificate that nobody has signed, and no TLS at all.
    for addr in [stranger.tank.addr, plain_addr] {
        let url = format!("https://localhost:{}", addr.port());
        let tank = Recipe::over(&url)
            .timeouts("connect: 20s")
            .retry("max_retries: 0")
            .start();
        let answer = tank.call(&Tongue::Chat.plain()).await;
        assert_eq!(answer.status, 502);
        assert!(
            answer.text().contains("no agreement on TLS"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(stranger.tank.count("surgetank_requests_total", &[]), 0);
    let heard = || heard.lock().expect("nobody panics with it").concat();
    until("it was spoken to", || !heard().is_empty()).await;
    assert_eq!(
        find(&heard(), b"POST"),
        None,
        "nothing was sent in the clear"
    );
}
