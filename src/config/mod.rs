//! The configuration: what an operator may say, read so that nothing said wrong goes unnoticed.
//!
//! A proxy that runs on a configuration other than the one its operator believes in is worse than one that does not start.
//! So unknown keys are errors, every fault is told at once with its line and the way to mend it, what has no effect is said,
//! and a secret can neither be written in the file nor appear in a message.
//!
//! The way of a file, one module a step:
//!
//! 1. `yaml` reads the text into a `tree` whose values know where they stand; `expand` replaces `${NAME}`.
//! 2. `inherit` fills in the built-in upstreams and routes and lays each route's blocks over those at the top level.
//! 3. `decode` reads the plain structs of `schema` from the tree. What concerns one value is refused by its type.
//! 4. `check` tells what does not fit together, `unbuilt` what has no effect yet.
//! 5. What remains is a [`Config`], in which nothing is left to be looked up, merged or defaulted.

mod answers;
mod auth;
mod base_url;
mod check;
mod classes;
mod credential;
mod decode;
mod expand;
mod fallback;
mod here;
mod identity;
mod inherit;
mod jwt;
mod limits;
mod listen;
mod matching;
mod problem;
mod process;
mod queue;
mod retry;
mod schema;
mod suggest;
mod tls;
mod tree;
mod unbuilt;
pub mod units;
mod upstream;
mod yaml;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

pub use self::answers::{
    Answers, ContinueBy, NoticeAfter, NoticeAfterError, OnBroken, OnTruncated, Stream,
};
pub use self::auth::{Auth, TOKEN_HEADER, TokenError, read_tokens};
pub use self::base_url::{BaseUrl, BaseUrlError};
pub use self::classes::{Class, ClassMatch, Classes, UserPattern, UserPatternError};
pub use self::credential::{Credential, CredentialError};
pub use self::fallback::{
    FailureKind, Language, Link, Placeholder, Reply, Source, Target, Template, TemplateError,
    Values, Variant, When,
};
pub use self::identity::{BodyField, IdentitySource, IdentitySourceError};
pub use self::jwt::{Algorithm, Jwt};
pub use self::limits::{Limits, PerUser, Rates, Total, WhenExceeded};
pub use self::listen::{Listen, ListenError};
pub use self::matching::{HeaderPattern, HeaderPatternError, Match, PathPrefix, PathPrefixError};
pub use self::problem::{Place, Problem, Problems, Severity};
pub use self::process::{Fail, LogFormat, Replay, Server, Shutdown, Store, Telemetry};
pub use self::queue::{OnCrash, OnRead, Queue, QueueText, Webhook, WebhookUrl};
pub use self::retry::{PostRetry, Retry};
pub use self::tls::Tls;
pub use self::tree::Environment;
pub use self::units::Rate;
pub use self::upstream::{Timeouts, Upstream};

use self::check::{chain_of, check};
use self::decode::{At, decode};
use self::problem::Collector;
use self::schema::{File, RouteEntry};
use self::tree::{Ids, Node};

/// A configuration file is a few KiB; beyond this it is another file.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The configuration of a process, complete: every route carries its own policies, every setting a value.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callers connect; at least one.
    pub listen: Vec<Listen>,
    /// Whether listening beyond this machine without `auth` is intended.
    pub listen_without_auth: bool,
    /// The certificate of the TCP listeners, if they speak TLS.
    pub tls: Option<Tls>,
    /// The tokens that callers must show, if any.
    pub auth: Option<Auth>,
    /// Where metrics, health and the status page are served, if anywhere.
    pub admin: Option<Listen>,
    /// Where the tokens are that whoever changes something through the operator's port must show one of.
    pub admin_token: Option<Credential>,
    /// The APIs that requests are sent on to, in the order of the file, each name once; at least one.
    pub upstreams: Vec<Upstream>,
    /// Which requests go where, in the order in which they are tried; at least one.
    pub routes: Vec<Route>,
    /// Bounds on what callers may ask of the listener.
    pub server: Server,
    /// What surgetank reports of itself.
    pub telemetry: Telemetry,
    /// How the process ends when it is told to.
    pub shutdown: Shutdown,
    /// Where limits and queued requests are kept beyond the life of the process, if anywhere.
    pub store: Option<Store>,
    /// How requests are kept that are carried out later.
    pub queue: Queue,
    /// Memory for request bodies that are kept for a retry.
    pub replay: Replay,
    /// The name of the file, as it was given.
    source: String,
    warnings: Vec<Problem>,
    /// Where the settings stand in the file that are looked at once more where they are used, by their keys.
    places: HashMap<String, Place>,
}

/// Where some requests go, and how they are treated on the way.
#[derive(Clone, Debug)]
pub struct Route {
    /// For logs and metrics; each name once.
    pub name: String,
    /// Which requests it takes.
    pub match_: Match,
    /// The name of the upstream that they are sent to; it is one of [`Config::upstreams`].
    pub upstream: String,
    /// How failed requests are tried again.
    pub retry: Retry,
    /// Who is a user, and what one user may use.
    pub limits: Limits,
    /// What a caller gets when the retries are spent, tried in order. Upstreams in it are in [`Config::upstreams`].
    pub fallback: Vec<Link>,
    /// What a caller who waits on a stream is told.
    pub stream: Stream,
    /// What happens to answers that are not what they should be.
    pub answers: Answers,
}

impl Config {
    /// The configuration without a file: Anthropic and OpenAI with the callers' own keys, on `127.0.0.1:4290`.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "it depends on nothing but this source, and a test builds it"
    )]
    pub fn built_in() -> Self {
        let mut ids = Ids::default();
        let root = Node::nothing(&mut ids);
        let problems = Collector::new("built-in configuration");
        Self::from_tree(root, ids, problems)
            .expect("the built-in configuration has no fault: a test builds it")
    }

    /// Reads the file at `path`. The error holds everything that is wrong with it, warnings included.
    pub fn load(path: &Path, env: Environment<'_>) -> Result<Self, Problems> {
        let name = path.display().to_string();
        match read_file(path) {
            Ok(text) => Self::parse(&name, &text, env),
            Err(why) => Err(Problems::of(&name, why)),
        }
    }

    /// Reads a configuration from its text; `source_name` stands before each problem.
    pub fn parse(source_name: &str, text: &str, env: Environment<'_>) -> Result<Self, Problems> {
        let mut problems = Collector::new(source_name);
        let mut ids = Ids::default();
        let Some(root) = yaml::read(text, env, &mut ids, &mut problems) else {
            return Err(problems.into_problems());
        };
        if root.is_empty() {
            let why =
                "the file holds no setting; to run with the built-in configuration, name no file";
            return Err(Problems::of(source_name, why.to_owned()));
        }
        Self::from_tree(root, ids, problems)
    }

    /// The JSON Schema (2020-12) of the file, for editors and for checks before a deployment.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schema::json_schema()
    }

    /// What can be used but does not do what it seems to.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The upstream of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }

    /// The files that are read besides the configuration itself. What they hold may change while it does not.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let of_upstreams = self.upstreams.iter();
        let of_upstreams = of_upstreams.filter_map(|upstream| upstream.credential.as_ref());
        let tokens = self.auth.iter().flat_map(|auth| &auth.tokens);
        let secrets = of_upstreams.chain(tokens).chain(&self.admin_token);
        let secrets = secrets.chain(self.queue.secrets());
        let tls = self.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        let tls = tls.map(std::path::PathBuf::as_path);
        let links = self.routes.iter().flat_map(|route| &route.fallback);
        let texts = links.flat_map(Link::files);
        let secrets = secrets.filter_map(Credential::file);
        secrets.chain(tls).chain(texts).collect()
    }

    fn from_tree(root: Node, mut ids: Ids, mut problems: Collector) -> Result<Self, Problems> {
        let root = inherit::fill(root, &mut ids, &mut problems);
        let (file, faulty) = decode::<File>(&root, &mut problems);
        let Some(file) = file else {
            return Err(problems.into_problems());
        };
        check(&file, &root, &faulty, &mut problems);
        unbuilt::warn(&root, &mut problems);
        let source = problems.source().to_owned();
        let warnings = problems.finish()?;
        Ok(Self {
            routes: routes(&file, &root),
            places: places(&root),
            listen: file
                .listen
                .0
                .into_iter()
                .map(|listen| listen.value)
                .collect(),
            listen_without_auth: file.listen_without_auth,
            tls: file.tls,
            auth: file.auth,
            admin: file.admin.map(|admin| admin.value),
            admin_token: file.admin_token,
            upstreams: file.upstreams.0,
            server: file.server,
            telemetry: file.telemetry,
            shutdown: file.shutdown,
            store: file.store,
            queue: file.queue,
            replay: file.replay,
            source,
            warnings,
        })
    }
}

fn routes(file: &File, root: &Node) -> Vec<Route> {
    let route = |(index, entry): (usize, &At<RouteEntry>)| {
        let route = &entry.value;
        Route {
            name: route.name_at(index),
            match_: route.criteria(),
            upstream: route.upstream.value.clone(),
            retry: route.retry.clone(),
            limits: route.limits.clone(),
            fallback: chain_of(entry, file, root),
            stream: route.stream.clone(),
            answers: route.answers.clone(),
        }
    };
    file.routes.iter().enumerate().map(route).collect()
}

/// The places of what [`here`] looks at.
fn places(root: &Node) -> HashMap<String, Place> {
    let upstreams = root.get("upstreams").map_or(&[][..], Node::entries);
    let credentials = upstreams
        .iter()
        .filter_map(|(_, upstream)| upstream.get("credential"));
    let single: [&[&str]; 5] = [
        &["listen"],
        &["auth", "tokens"],
        &["admin_token"],
        &["tls"],
        &["telemetry", "otlp"],
    ];
    let single = single.iter().filter_map(|keys| root.at(keys));
    let place = |node: &Node| Some((node.path.clone(), node.key_or_value_place()?));
    credentials.chain(single).filter_map(place).collect()
}

/// The text of a file, or a sentence why not.
fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err("the file is larger than 1 MiB, which no configuration is".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = memchr::memchr_iter(b'\n', valid).count() + 1;
        format!("the file is not UTF-8; the first byte that is not stands on line {line}")
    })
}

#[cfg(test)]
mod tests;
