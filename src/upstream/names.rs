//! Addresses of host names: one lookup at a time for each name, whoever asks.
//!
//! The system's resolver blocks the thread that calls it, for half a minute where a name server is silent. Were every
//! connection to look up for itself, one such host would take all threads that there are for blocking work, and other
//! hosts with it. So all who ask for a name share one lookup, and lookups have a few threads of their own.
//! Nothing is remembered: who asks after an answer has come, good or bad, asks anew.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::{sync::watch, time::Instant};
use tower::Service;

/// Lookups that run at once. Others wait for their turn, each no longer than its connection may take.
const THREADS: usize = 16;

/// Names that may be looked up or wait for it at once. They come from the configuration, so this is never reached.
const MOST: usize = 4096;

/// A lookup that has run this long is given up for lost, and a new one for the same name may begin beside it. Longer than
/// the system's resolver asks three silent servers for every domain that it is told to search.
const LOST: Duration = Duration::from_secs(180);

/// What a lookup came to; an error as its kind and its text, so that it can be told to several.
type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of the process.
#[derive(Clone)]
pub struct Names(Arc<Lookups>);

struct Lookups {
    resolve: Box<Resolve>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Names that are being looked up, or about to be.
    under_way: HashMap<Box<str>, Lookup>,
    /// Those of them that wait for a thread.
    queue: VecDeque<Lookup>,
    threads: usize,
}

#[derive(Clone)]
struct Lookup {
    name: Box<str>,
    /// When its thread took it; nothing while it waits for one.
    began: Option<Instant>,
    answer: watch::Sender<Option<Answer>>,
}

impl Names {
    /// Asks the system's resolver.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    pub(super) fn with(
        resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Lookups {
            resolve: Box::new(resolve),
            state: Mutex::default(),
        }))
    }

    /// The addresses of `name`. May last as long as the resolver lets it; to be dropped by who has waited enough.
    async fn of(self, name: Box<str>) -> io::Result<Vec<SocketAddr>> {
        let mut answer = self.ask(&name, Instant::now())?;
        // Its sender lives until the lookup has answered.
        let answered = answer.wait_for(Option::is_some).await;
        let answer =
            answered.map_err(|_| io::Error::other("the lookup of a host name was lost"))?;
        match answer.as_ref() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err((kind, text))) => Err(io::Error::new(*kind, text.clone())),
            None => Err(io::Error::other("the lookup of a host name was lost")),
        }
    }

    /// Joins the lookup that is under way, or begins one.
    fn ask(&self, name: &str, now: Instant) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut state = self.0.lock();
        let running = state.under_way.get(name);
        let is_lost = |lookup: &Lookup| lookup.began.is_some_and(|began| now >= began + LOST);
        if let Some(lookup) = running.filter(|lookup| !is_lost(lookup)) {
            return Ok(lookup.answer.subscribe());
        }
        if state.under_way.len() >= MOST {
            return Err(io::Error::other("too many host names are being looked up"));
        }
        let (sender, receiver) = watch::channel(None);
        let lookup = Lookup {
            name: name.into(),
            began: None,
            answer: sender,
        };
        if state.threads < THREADS {
            let lookups = self.0.clone();
            let thread = std::thread::Builder::new().name("lookup".to_owned());
            match thread.spawn(move || lookups.run()) {
                Ok(_) => state.threads += 1,
                // One of those that run takes it.
                Err(_) if state.threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        state.queue.push_back(lookup.clone());
        state.under_way.insert(name.into(), lookup);
        Ok(receiver)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Lookups {
    /// Looks up what waits until nothing does.
    fn run(&self) {
        while let Some(lookup) = self.next() {
            // However a lookup goes, those who wait for it are told, and the thread goes on to the next.
            let answer = catch_unwind(AssertUnwindSafe(|| (self.resolve)(&lookup.name)))
                .unwrap_or_else(|_| Err(io::Error::other("the lookup of a host name failed")));
            let answer = answer.map_err(|error| (error.kind(), error.to_string()));
            self.forget(&lookup);
            lookup.answer.send_replace(Some(answer));
        }
    }

    fn next(&self) -> Option<Lookup> {
        let mut state = self.lock();
        while let Some(lookup) = state.queue.pop_front() {
            if lookup.answer.receiver_count() > 0 {
                if let Some(current) = current(&mut state, &lookup) {
                    current.began = Some(Instant::now());
                }
                return Some(lookup);
            }
            // All who had asked have given up.
            forget(&mut state, &lookup);
        }
        state.threads -= 1;
        None
    }

    /// From here on whoever asks asks anew.
    fn forget(&self, lookup: &Lookup) {
        forget(&mut self.lock(), lookup);
    }

    /// Nothing that can panic is done while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(state: &mut State, lookup: &Lookup) {
    if current(state, lookup).is_some() {
        state.under_way.remove(&lookup.name);
    }
}

/// This lookup among those under way, unless another has taken its place.
fn current<'a>(state: &'a mut State, lookup: &Lookup) -> Option<&'a mut Lookup> {
    let current = state.under_way.get_mut(&lookup.name)?;
    current
        .answer
        .same_channel(&lookup.answer)
        .then_some(current)
}

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let asked = self.clone().of(name.as_str().into());
        Box::pin(async move { Ok(asked.await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Condvar,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::{future::join_all, poll};

    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// A resolver that hangs until it is told to answer.
    #[derive(Default)]
    struct Resolver {
        asked: AtomicUsize,
        open: Mutex<bool>,
        opened: Condvar,
    }

    impl Resolver {
        fn answer(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }

        fn names(self: &Arc<Self>) -> Names {
            let resolver = self.clone();
            Names::with(move |name| {
                resolver.asked.fetch_add(1, Ordering::SeqCst);
                let open = resolver.open.lock().unwrap();
                drop(resolver.opened.wait_while(open, |open| !*open).unwrap());
                assert_ne!(name, "broken", "on purpose");
                if name.starts_with("bad") {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
                }
                Ok(vec![ADDRESS])
            })
        }
    }

    #[tokio::test]
    async fn all_who_ask_for_a_name_share_one_lookup_and_the_next_asks_anew() {
        let resolver = Arc::<Resolver>::default();
        let names = resolver.names();
        let mut waiting: Vec<_> = (0..100)
            .map(|_| Box::pin(names.clone().of("hung".into())))
            .collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(names.0.lock().threads, 1);
        // Who gives up takes nothing from the others.
        waiting.truncate(50);
        resolver.answer();
        for answer in join_all(waiting).await {
            assert_eq!(answer.expect("an address"), [ADDRESS]);
        }
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
        for asked in 2..4 {
            let error = names.clone().of("bad".into()).await.expect_err("no such");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert_eq!(resolver.asked.load(Ordering::SeqCst), asked);
        }
    }

    #[tokio::test]
    async fn hanging_lookups_are_bounded_and_later_ones_have_their_turn() {
        let resolver = Arc::<Resolver>::default();
        let names = resolver.names();
        let mut waiting: Vec<_> = (0..THREADS * 4)
            .map(|host| Box::pin(names.clone().of(format!("hung-{host}").into())))
            .collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(names.0.lock().threads, THREADS);
        // Nobody waits for these any more, so they are not looked up.
        waiting.truncate(THREADS * 2);
        resolver.answer();
        for answer in join_all(waiting).await {
            assert_eq!(answer.expect("an address"), [ADDRESS]);
        }
        assert!(names.0.lock().under_way.len() <= THREADS * 2);
        assert!(resolver.asked.load(Ordering::SeqCst) <= THREADS * 2);
    }

    #[tokio::test]
    async fn a_lookup_that_panics_is_told_and_its_thread_goes_on() {
        let resolver = Arc::<Resolver>::default();
        resolver.answer();
        let names = resolver.names();
        assert!(names.clone().of("broken".into()).await.is_err());
        assert!(names.clone().of("good".into()).await.is_ok());
        while names.0.lock().threads > 0 {
            tokio::task::yield_now().await;
        }
        assert!(names.0.lock().under_way.is_empty());
    }

    #[tokio::test]
    async fn a_lost_lookup_does_not_take_its_name_with_it() {
        let resolver = Arc::<Resolver>::default();
        let names = resolver.names();
        let asked = names.ask("hung", Instant::now()).expect("begins");
        while resolver.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let now = names.0.lock().under_way["hung"].began.expect("it runs");
        let again = names.ask("hung", now + LOST - Duration::from_secs(1));
        assert!(again.expect("joins").same_channel(&asked));
        let anew = names.ask("hung", now + LOST).expect("begins");
        assert!(!anew.same_channel(&asked));
        assert_eq!(names.0.lock().threads, 2);
        resolver.answer();
        for mut answer in [asked, anew] {
            let seen = answer.wait_for(Option::is_some).await.expect("answers");
            assert!(matches!(seen.as_ref(), Some(Ok(addresses)) if addresses == &[ADDRESS]));
        }
    }
}
