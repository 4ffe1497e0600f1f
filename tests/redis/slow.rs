//! A wire that delays every piece in both directions, as far as it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

/// Stands before a server; ends when dropped.
pub(crate) struct Slow {
    address: SocketAddr,
    delay: Arc<AtomicU64>,
    is_cut: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Slow {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let delay = Arc::new(AtomicU64::new(0));
        let is_cut = Arc::new(watch::Sender::new(false));
        let task = tokio::spawn(accept(listener, server, delay.clone(), is_cut.clone()));
        Self {
            address,
            delay,
            is_cut,
            task,
        }
    }

    /// From now on, answers take this much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a short delay");
        self.delay.store(millis, Ordering::Relaxed);
    }

    /// Ends all connections and lets none be made, or lets them be made again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    delay: Arc<AtomicU64>,
    is_cut: Arc<watch::Sender<bool>>,
) {
    while let Ok((caller, _)) = listener.accept().await {
        if *is_cut.borrow() {
            continue;
        }
        let Ok(server) = TcpStream::connect(server).await else {
            continue;
        };
        let _ = (caller.set_nodelay(true), server.set_nodelay(true));
        let ((from_caller, to_caller), (from_server, to_server)) =
            (caller.into_split(), server.into_split());
        let (delay, mut is_cut) = (delay.clone(), is_cut.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = pass(from_caller, to_server, Arc::default()) => {}
                () = pass(from_server, to_caller, delay) => {}
                _ = is_cut.wait_for(|is_cut| *is_cut) => {}
            }
        });
    }
}

/// Every piece leaves `delay` after it came: a long way, not a narrow one.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Arc<AtomicU64>) {
    let (queue, mut pieces) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
            if queue.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
