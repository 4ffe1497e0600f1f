use std::future::poll_fn;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};

use super::*;
use crate::upstream::Names;

const PATIENCE: Duration = Duration::from_secs(10);

fn tls() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

/// Of connections to `listener`, whose name is looked up by `names`.
fn pool(listener: &TcpListener, names: Names) -> Arc<Pool> {
    let connector = Connector::new(&tls(), names, false, PATIENCE);
    let port = listener.local_addr().unwrap().port();
    let target = format!("http://upstream.test:{port}/").parse().unwrap();
    Pool::new(connector, target)
}

fn on_loopback() -> Names {
    Names::with(|_| Ok(vec![([127, 0, 0, 1], 0).into()]))
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

#[tokio::test]
async fn the_one_that_was_used_last_is_used_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(&listener, on_loopback());
    let first = soon(pool.take()).await.unwrap();
    let second = soon(pool.take()).await.unwrap();
    let place = |link: &Link| std::ptr::from_ref(link) as usize;
    let (one, two) = (place(&first), place(&second));
    pool.take_back(first);
    pool.take_back(second);
    let again = soon(pool.take()).await.unwrap();
    let other = soon(pool.take()).await.unwrap();
    assert_eq!((place(&again), place(&other)), (two, one));
}

#[tokio::test]
async fn one_that_its_peer_has_closed_is_not_given_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(&listener, on_loopback());
    let link = soon(pool.take()).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    pool.take_back(link);
    assert_eq!(pool.state().idle.len(), 1);
    drop(peer);
    soon(async {
        while pool.sweep() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(pool.take_idle().is_none());
}

/// tokio lets a task do only so much at once: beyond that nothing is ready for it, also no end of a connection.
#[tokio::test]
async fn however_many_have_been_closed_none_of_them_is_given_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(&listener, on_loopback());
    let (mut links, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        links.push(soon(pool.take()).await.unwrap());
        peers.push(soon(listener.accept()).await.unwrap());
    }
    for link in links {
        pool.take_back(link);
    }
    let last = pool.state().idle.len();
    assert_eq!(last, 300);
    drop(peers);
    // All of their ends are there when the latest is.
    let mut newest = pool.take_idle().unwrap();
    soon(poll_fn(|cx| newest.poll(cx))).await;
    assert!(pool.take_idle().is_none());
}

#[tokio::test]
async fn no_more_are_kept_than_may_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut pool = pool(&listener, on_loopback());
    Arc::get_mut(&mut pool).unwrap().most = 3;
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(soon(pool.take()).await.unwrap());
    }
    let mut first = soon(listener.accept()).await.unwrap().0;
    for link in links {
        pool.take_back(link);
    }
    assert_eq!(pool.state().idle.len(), 3);
    let mut byte = [0];
    assert_eq!(
        soon(first.read(&mut byte)).await.unwrap(),
        0,
        "the oldest has gone"
    );
}

#[tokio::test]
async fn whoever_opens_one_takes_one_that_comes_free_before_and_the_new_one_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (go, going) = mpsc::channel::<()>();
    let (going, lookups) = (Mutex::new(going), AtomicUsize::new(0));
    let names = Names::with(move |_| {
        if lookups.fetch_add(1, Ordering::Relaxed) > 0 {
            let _ = going.lock().unwrap().recv_timeout(PATIENCE);
        }
        Ok(vec![([127, 0, 0, 1], 0).into()])
    });
    let pool = pool(&listener, names);
    let link = soon(pool.take()).await.unwrap();
    let place = std::ptr::from_ref::<Link>(&link) as usize;

    let mut waiting = Box::pin(pool.take());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    pool.take_back(link);
    let freed = soon(waiting).await.unwrap();
    assert_eq!(std::ptr::from_ref::<Link>(&freed) as usize, place);

    go.send(()).unwrap();
    soon(async {
        while pool.state().idle.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn none_is_lost_with_one_who_leaves_or_has_one_already() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peers = Vec::new();
    for leaves in [true, false] {
        let pool = pool(&listener, on_loopback());
        let link = soon(pool.open()).await.unwrap();
        peers.push(soon(listener.accept()).await.unwrap());
        let mut waiting = Box::pin(pool.open());
        // The new connection and the free one are there in the same moment.
        let peer = soon(async {
            tokio::select! {
                biased;
                peer = listener.accept() => peer,
                _ = &mut waiting => panic!("the new connection comes when its peer has taken it"),
            }
        });
        peers.push(peer.await.unwrap());
        pool.take_back(link);
        let kept = if leaves {
            drop(waiting);
            1
        } else {
            pool.take_back(soon(waiting).await.unwrap());
            2
        };
        soon(async {
            while pool.state().idle.len() < kept {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = pool(&listener, on_loopback());
    drop(listener);
    assert!(soon(pool.take()).await.is_err());
    assert!(pool.take_idle().is_none());
}
