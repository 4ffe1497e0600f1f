//! The file as a whole, and its JSON Schema for editors.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Answers, Stream};
use super::auth::Auth;
use super::credential::Credential;
use super::decode::{At, OneOrMany};
use super::fallback::{Link, default_chain};
use super::limits::Limits;
use super::listen::Listen;
use super::matching::Match;
use super::process::{Replay, Server, Shutdown, Store, Telemetry};
use super::queue::Queue;
use super::retry::Retry;
use super::tls::Tls;
use super::upstream::{Upstream, Upstreams};

const PORT: u16 = 4290;
const ADMIN_PORT: u16 = 4291;

/// The configuration of surgetank. Everything has a default; an empty key counts as left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "surgetank configuration")]
pub(super) struct File {
    /// Where callers connect: `IP:PORT` or `unix:/path`, or a list of them. `127.0.0.1:4290` if left out.
    pub(super) listen: OneOrMany<At<Listen>>,
    /// Whether listening beyond this machine is wanted without `auth`, because something else asks who is calling.
    /// Without it, surgetank does not start then.
    pub(super) listen_without_auth: bool,
    /// TLS on the TCP listeners; `none` for clear text.
    pub(super) tls: Option<Tls>,
    /// The tokens that callers must show one of; `none` to ask nobody.
    pub(super) auth: Option<Auth>,
    /// Where metrics, health and the status page are served; `none` for nowhere. `127.0.0.1:4291` if left out.
    pub(super) admin: Option<At<Listen>>,
    /// The file or variable with the tokens, one a line, that open what changes something through the `admin` port.
    /// Without it, nothing can be changed there.
    pub(super) admin_token: Option<Credential>,
    /// The APIs that requests are sent on to, by name. Anthropic and OpenAI if left out.
    #[schemars(with = "std::collections::BTreeMap<String, Upstream>")]
    pub(super) upstreams: Upstreams,
    /// Which requests go where; the first route that takes a request has it.
    pub(super) routes: Vec<At<RouteEntry>>,
    /// How failed requests are tried again.
    pub(super) retry: Retry,
    /// Who is a user, and what one user may use.
    pub(super) limits: Limits,
    /// What a caller gets when the retries are spent, tried in order; `[]` for the upstream's own answer.
    pub(super) fallback: Vec<At<Link>>,
    /// What a caller who waits on a stream is told.
    pub(super) stream: Stream,
    /// What happens to answers that are not what they should be.
    pub(super) answers: Answers,
    /// Where limits and queued requests are kept beyond the life of the process; `none` for nowhere.
    pub(super) store: Option<Store>,
    /// How requests are kept that are carried out later. It needs a `store`.
    pub(super) queue: Queue,
    /// What surgetank reports of itself.
    pub(super) telemetry: Telemetry,
    /// How the process ends when it is told to.
    pub(super) shutdown: Shutdown,
    /// Bounds on what callers may ask of the listener.
    pub(super) server: Server,
    /// Memory for request bodies that are kept for a retry.
    pub(super) replay: Replay,
}

impl Default for File {
    fn default() -> Self {
        let listen = |port| At::nowhere(Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        Self {
            listen: OneOrMany(vec![listen(PORT)]),
            listen_without_auth: false,
            tls: None,
            auth: None,
            admin: Some(listen(ADMIN_PORT)),
            admin_token: None,
            upstreams: Upstreams::default(),
            routes: Vec::new(),
            retry: Retry::default(),
            limits: Limits::default(),
            fallback: default_links(),
            stream: Stream::default(),
            answers: Answers::default(),
            store: None,
            queue: Queue::default(),
            telemetry: Telemetry::default(),
            shutdown: Shutdown::default(),
            server: Server::default(),
            replay: Replay::default(),
        }
    }
}

/// Where some requests go, and what is different for them.
///
/// `retry`, `limits`, `stream` and `answers` hold what differs from the blocks of the same name at the top level;
/// `fallback` replaces the one there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    /// A name for logs and metrics; `route-1`, `route-2` and so on if left out.
    #[serde(default)]
    pub(super) name: Option<At<String>>,
    /// Which requests it takes: those that meet any of these criteria. Left out, it takes the rest.
    #[serde(default, rename = "match")]
    pub(super) criteria: Option<At<Match>>,
    /// The upstream that they are sent to, by its name.
    pub(super) upstream: At<String>,
    /// How failed requests are tried again.
    #[serde(default)]
    pub(super) retry: Retry,
    /// Who is a user, and what one user may use.
    #[serde(default)]
    pub(super) limits: Limits,
    /// What a caller gets when the retries are spent, tried in order.
    #[serde(default = "default_links")]
    pub(super) fallback: Vec<At<Link>>,
    /// What a caller who waits on a stream is told.
    #[serde(default)]
    pub(super) stream: Stream,
    /// What happens to answers that are not what they should be.
    #[serde(default)]
    pub(super) answers: Answers,
}

impl RouteEntry {
    /// Its name, at this index among the routes.
    pub(super) fn name_at(&self, index: usize) -> String {
        match &self.name {
            Some(name) => name.value.clone(),
            None => format!("route-{}", index + 1),
        }
    }

    /// What it takes; everything, when it does not say.
    pub(super) fn criteria(&self) -> Match {
        self.criteria
            .as_ref()
            .map_or_else(Match::default, |criteria| criteria.value.clone())
    }
}

fn default_links() -> Vec<At<Link>> {
    let links = default_chain().into_iter();
    links.map(At::nowhere).collect()
}

/// The JSON Schema (2020-12) of the file.
pub(super) fn json_schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<File>();
    RecursiveTransform(none_for_null).transform(&mut schema);
    schema.to_value()
}

/// What may be absent is switched off by the word `none`, where serde would have `null`.
fn none_for_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        let before = types.len();
        types.retain(|name| name != "null");
        if types.len() == before {
            return;
        }
        let mut some = serde_json::Map::new();
        for keyword in [
            "type",
            "pattern",
            "format",
            "minimum",
            "maximum",
            "minLength",
        ] {
            if let Some(value) = object.remove(keyword) {
                some.insert(keyword.to_owned(), value);
            }
        }
        object.insert("anyOf".into(), json!([some, { "const": "none" }]));
    } else if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        for choice in choices {
            if *choice == json!({ "type": "null" }) {
                *choice = json!({ "const": "none" });
            }
        }
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
}

/// The block at the top level that has a key of this name, for who put it one level off.
pub(super) fn block_with(key: &str) -> Option<String> {
    let schema = json_schema();
    let blocks = schema.get("properties")?.as_object()?;
    let home = blocks.iter().find(|(_, block)| {
        let name = block.get("$ref").and_then(Value::as_str);
        let definition = name.and_then(|name| schema.pointer(name.trim_start_matches('#')));
        definition.is_some_and(|block| block["properties"].get(key).is_some())
    });
    home.map(|(name, _)| name.clone())
}
