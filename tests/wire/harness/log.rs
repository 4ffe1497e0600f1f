//! What the proxy writes in its log: the one line that each request has, by the request's id.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, prelude::*};

use super::{Answer, until};

type Fields = BTreeMap<String, String>;

/// The log of all proxies of this process.
#[derive(Clone, Default)]
pub(crate) struct Log {
    requests: Arc<Mutex<HashMap<String, Fields>>>,
    all: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Listens from now on, for as long as the process lives.
    pub(crate) fn listen() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let listen = || {
            let log = Self::default();
            let ours = Targets::new().with_target("surgetank", tracing::Level::INFO);
            let subscriber = tracing_subscriber::registry().with(log.clone().with_filter(ours));
            tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
            log
        };
        LOG.get_or_init(listen).clone()
    }

    /// The line about the request that this answers.
    pub(crate) async fn line_of(&self, answer: &Answer) -> Fields {
        let id = answer.head.one("x-surgetank-request-id").expect("an id");
        until("a line in the log", || self.lines().contains_key(id)).await;
        self.lines()[id].clone()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Fields>> {
        self.requests.lock().expect("no test fails in here")
    }

    /// Every line so far, of all tests of this process.
    pub(crate) fn everything(&self) -> Vec<String> {
        self.all.lock().expect("no test fails in here").clone()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Line::default();
        event.record(&mut fields);
        let Line(fields) = fields;
        let mut all = self.all.lock().expect("no test fails in here");
        all.push(format!("{fields:?}"));
        drop(all);
        // This line is one text, as it is shown to eyes.
        if let Some(line) = fields
            .get("message")
            .and_then(|message| message.strip_prefix("request "))
        {
            let mut fields = read(line);
            let id = fields.remove("request_id").expect("every line has one");
            self.lines().insert(id, fields);
        }
    }
}

/// `name="text" other=1`; no value in these tests has a blank.
fn read(line: &str) -> Fields {
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    fields
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[derive(Default)]
struct Line(Fields);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
