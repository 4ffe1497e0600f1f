//! Pods are replaced one by one while applications stream, and no application sees an error.
//!
//! An application connects anew where nobody listens any more, as every client library does: that is a connection
//! that never was, and not a request that failed.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use surgetank::lab::{Lab, LabConfig, LabHandle};
use tokio::{net::TcpStream, task::JoinSet};

use super::harness::{Answer, Caller, End, Process, Recipe, Request, Tongue, Wire, soon};

const CALLERS: usize = 24;

/// How often the pod is replaced; set it to 20 for the figure in docs/operations.md.
fn rounds() -> usize {
    let rounds = std::env::var("SURGETANK_TEST_ROLLS");
    let rounds = rounds.ok().and_then(|rounds| rounds.parse().ok());
    rounds.unwrap_or(3)
}

async fn start(lab: &LabHandle) -> Process {
    let yaml = Recipe::over(&lab.url())
        .workers(2)
        .yaml("telemetry: { log: json }\nshutdown: { settle: 300ms, drain: 60s }")
        .replace("admin: none", "admin: 127.0.0.1:0");
    let process = Process::start(&yaml).await;
    assert_eq!(process.ask("/readyz").await.status, 200);
    process
}

/// Where the Service leads, as far as a client has heard.
#[derive(Clone)]
struct Service(Arc<Mutex<SocketAddr>>);

impl Service {
    fn now(&self) -> SocketAddr {
        *self.0.lock().expect("no test panics while it looks")
    }

    fn leads_to(&self, addr: SocketAddr) {
        *self.0.lock().expect("no test panics while it looks") = addr;
    }

    async fn connect(&self) -> Caller {
        loop {
            match soon("connecting", TcpStream::connect(self.now())).await {
                Ok(stream) => {
                    return Caller {
                        wire: Wire::new(stream),
                    };
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

/// Asks again and again, over one connection for as long as the answers leave it open.
async fn application(
    service: Service,
    is_stream: bool,
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) {
    let mut caller = service.connect().await;
    while !over.load(Ordering::Relaxed) {
        let request = if is_stream {
            Tongue::Chat
                .stream()
                .header("x-lab-fault", "ok;interval=20ms;words=40")
        } else {
            Request::get("/v1/models")
        };
        let answer = caller.try_call(&request).await;
        let answer = answer.unwrap_or_else(|end| panic!("{end:?} instead of an answer"));
        is_well(&answer, is_stream);
        served.fetch_add(1, Ordering::Relaxed);
        if answer.head.one("connection") == Some("close") {
            caller = service.connect().await;
        }
    }
}

pub(super) fn is_well(answer: &Answer, is_stream: bool) {
    let told = answer.text();
    assert_eq!((answer.status, answer.end), (200, End::Whole), "{told}");
    assert!(!answer.head.has("x-surgetank-fallback"), "{told}");
    if is_stream {
        assert!(told.contains(Tongue::Chat.terminator()), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_replaced_under_load_and_no_application_sees_an_error() {
    let lab = Lab::start(LabConfig::default()).expect("a free port");
    let mut old = start(&lab).await;
    let service = Service(Arc::new(Mutex::new(old.addr)));
    let (over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut applications = JoinSet::new();
    for number in 0..CALLERS {
        let is_stream = number % 3 != 0;
        applications.spawn(application(
            service.clone(),
            is_stream,
            over.clone(),
            served.clone(),
        ));
    }
    for _ in 0..rounds() {
        let before = served.load(Ordering::Relaxed);
        let new = start(&lab).await;
        // The old pod is told to stop and taken out of the Service at the same time, so clients hear of it late.
        old.signal("TERM").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.leads_to(new.addr);
        assert_eq!(old.ended().await.code(), Some(0));
        assert!(
            old.said("ending what is left").is_none(),
            "{:#?}",
            old.log()
        );
        let going_on = async {
            while served.load(Ordering::Relaxed) < before + CALLERS as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the applications go on", going_on).await;
        old = new;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("every application ends", applications.join_next()).await {
        ended.expect("no application saw an error");
    }
    eprintln!(
        "{} answers over {} replacements, none of them an error",
        served.load(Ordering::Relaxed),
        rounds()
    );
}
