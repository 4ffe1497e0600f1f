//! A Deployment is rolled as Kubernetes does it, and no application sees an error.
//!
//! Nearer to a cluster than [`super::rolling`]: several pods behind one Service, a kubelet that asks for readiness now and
//! then, endpoints that change when it has noticed, and nodes that hear of it later, each at its own time. A connection that
//! is refused counts as an error here: who settles for long enough, or sleeps in `preStop`, must never cause one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use surgetank::lab::{Lab, LabConfig, LabHandle};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    harness::{Caller, Process, Recipe, Request, Tongue, Wire, soon, until},
    rolling::is_well,
};

const PODS: usize = 2;
const NODES: usize = 3;
const APPLICATIONS: usize = 18;

/// `periodSeconds` and `failureThreshold` of the readiness probe.
const PERIOD: Duration = Duration::from_millis(100);
const FAILURES: u32 = 2;

/// The longest that a node takes to hear of changed endpoints.
const PROPAGATION: Duration = Duration::from_millis(300);

/// What covers [`PERIOD`] times [`FAILURES`] and [`PROPAGATION`], also on a busy machine.
const AMPLE: Duration = Duration::from_secs(3);

/// Rollouts of the whole Deployment; set it to 10 for the figure in docs/operations.md.
fn rollouts() -> usize {
    let rollouts = std::env::var("SURGETANK_TEST_ROLLOUTS");
    let rollouts = rollouts.ok().and_then(|rollouts| rollouts.parse().ok());
    rollouts.unwrap_or(1)
}

/// How a pod is taken out of its Service.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    /// SIGTERM at once; the endpoint goes when the kubelet has found it unready: `shutdown.settle` has to cover that.
    Settles,
    /// The endpoint goes when the pod is deleted; SIGTERM comes after a `preStop` that sleeps.
    SleepsBefore,
}

impl Leaving {
    async fn start(self, lab: &LabHandle) -> Process {
        let settle = match self {
            Self::Settles => AMPLE,
            Self::SleepsBefore => Duration::ZERO,
        };
        let shutdown = format!(
            "shutdown: {{ settle: {}ms, drain: 60s }}",
            settle.as_millis()
        );
        let yaml = Recipe::over(&lab.url())
            .workers(2)
            .yaml(&format!("telemetry: {{ log: json }}\n{shutdown}"))
            .replace("admin: none", "admin: 127.0.0.1:0");
        Process::start(&yaml).await
    }
}

/// Where the Service leads, as the control plane has it.
type Endpoints = Vec<SocketAddr>;

/// One node's rules, which follow the endpoints late.
fn node(mut endpoints: watch::Receiver<Endpoints>, seed: u64) -> watch::Receiver<Endpoints> {
    let first = endpoints.borrow_and_update().clone();
    let (rules, view) = watch::channel(first);
    tokio::spawn(async move {
        let mut random = SmallRng::seed_from_u64(seed);
        while endpoints.changed().await.is_ok() {
            tokio::time::sleep(PROPAGATION.mul_f64(random.random())).await;
            rules.send_replace(endpoints.borrow_and_update().clone());
        }
    });
    view
}

/// Asks a pod's `/readyz` as long as it lives, and tells whether it is ready.
fn kubelet(admin: SocketAddr) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (tell, is_ready) = watch::channel(false);
    let probing = tokio::spawn(async move {
        let mut failures = 0;
        loop {
            let is_well = ready(admin).await;
            failures = if is_well { 0 } else { failures + 1 };
            if is_well || failures >= FAILURES {
                tell.send_if_modified(|told| std::mem::replace(told, is_well) != is_well);
            }
            tokio::time::sleep(PERIOD).await;
        }
    });
    (is_ready, probing)
}

async fn ready(admin: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(admin).await else {
        return false;
    };
    let mut caller = Caller {
        wire: Wire::new(stream),
    };
    let answer = caller.try_call(&Request::get("/readyz")).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A pod that is in the Service.
struct Pod {
    process: Process,
    is_ready: watch::Receiver<bool>,
    probing: JoinHandle<()>,
}

struct Deployment {
    lab: LabHandle,
    leaving: Leaving,
    endpoints: watch::Sender<Endpoints>,
    pods: Vec<Pod>,
}

impl Deployment {
    async fn start(leaving: Leaving) -> Self {
        let mut deployment = Self {
            lab: Lab::start(LabConfig::default()).expect("a free port"),
            leaving,
            endpoints: watch::channel(Vec::new()).0,
            pods: Vec::new(),
        };
        for _ in 0..PODS {
            deployment.one_more().await;
        }
        deployment
    }

    /// Starts a pod, and adds it to the Service once it is ready.
    async fn one_more(&mut self) {
        let process = self.leaving.start(&self.lab).await;
        let (mut is_ready, probing) = kubelet(process.admin);
        let waiting = is_ready.wait_for(|is_ready| *is_ready);
        soon("the new pod is ready", waiting)
            .await
            .expect("the kubelet goes on");
        self.endpoints.send_modify(|all| all.push(process.addr));
        self.pods.push(Pod {
            process,
            is_ready,
            probing,
        });
    }

    /// Takes the oldest pod away, as a Deployment with `maxUnavailable: 0` does when a new one is ready.
    async fn one_less(&mut self) {
        let Pod {
            mut process,
            mut is_ready,
            probing,
        } = self.pods.remove(0);
        let gone = process.addr;
        if self.leaving == Leaving::SleepsBefore {
            self.endpoints
                .send_modify(|all| all.retain(|addr| *addr != gone));
            tokio::time::sleep(AMPLE).await;
        }
        process.signal("TERM").await;
        let unready = is_ready.wait_for(|is_ready| !is_ready);
        soon("the kubelet notices", unready)
            .await
            .expect("the kubelet goes on");
        self.endpoints
            .send_modify(|all| all.retain(|addr| *addr != gone));
        assert_eq!(process.ended().await.code(), Some(0));
        let cut = process.said("ending what is left");
        assert!(cut.is_none(), "{:#?}", process.log());
        probing.abort();
    }
}

/// Connects to any pod that its node knows of.
async fn connect(view: &watch::Receiver<Endpoints>, random: &mut SmallRng) -> Caller {
    let all = view.borrow().clone();
    let addr = all[random.random_range(0..all.len())];
    let stream = soon("connecting", TcpStream::connect(addr)).await;
    Caller {
        wire: Wire::new(stream.expect("no connection is refused")),
    }
}

/// Asks without pause, over one connection for as long as the answers leave it open.
async fn application(
    view: watch::Receiver<Endpoints>,
    number: usize,
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) {
    let mut random = SmallRng::seed_from_u64(number as u64);
    let mut caller = connect(&view, &mut random).await;
    while !over.load(Ordering::Relaxed) {
        let request = match number % 3 {
            0 => Request::get("/v1/models"),
            1 => Tongue::Chat.plain(),
            _ => Tongue::Chat
                .stream()
                .header("x-lab-fault", "ok;interval=20ms;words=40"),
        };
        let answer = caller.try_call(&request).await;
        let answer = answer.unwrap_or_else(|end| panic!("{end:?} instead of an answer"));
        is_well(&answer, number % 3 == 2);
        served.fetch_add(1, Ordering::Relaxed);
        if answer.head.one("connection") == Some("close") {
            caller = connect(&view, &mut random).await;
        } else if number % 3 != 2 {
            // Some connections rest between two requests.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        }
    }
}

async fn is_rolled_without_an_error(leaving: Leaving) {
    let mut deployment = Deployment::start(leaving).await;
    let nodes: Vec<_> = (0..NODES)
        .map(|number| node(deployment.endpoints.subscribe(), number as u64))
        .collect();
    let (over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut applications = JoinSet::new();
    for number in 0..APPLICATIONS {
        let view = nodes[number % NODES].clone();
        applications.spawn(application(view, number, over.clone(), served.clone()));
    }
    for _ in 0..rollouts() * PODS {
        let before = served.load(Ordering::Relaxed);
        deployment.one_more().await;
        deployment.one_less().await;
        until("the applications go on", || {
            served.load(Ordering::Relaxed) > before + APPLICATIONS as u64
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("every application ends", applications.join_next()).await {
        ended.expect("no application saw an error");
    }
    eprintln!(
        "{} answers while {} pods were replaced, none of them an error",
        served.load(Ordering::Relaxed),
        rollouts() * PODS
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_settles_is_rolled_without_an_error() {
    is_rolled_without_an_error(Leaving::Settles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_with_a_pre_stop_is_rolled_without_an_error() {
    is_rolled_without_an_error(Leaving::SleepsBefore).await;
}
