//! The friendly reply as a response.
//!
//! What it says depends on who reads it (`Accept-Language`) and on what went wrong; the language comes first, since a
//! general sentence that is understood tells more than an exact one that is not. All texts are read and understood at
//! start, so that the moment of need holds no surprise.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Method, Response, header};

use super::language;
use crate::{
    body::{self, Body},
    call::Call,
    config::{self, FailureKind, Source, Template, TemplateError, Values},
    dialect::reply,
    stream::head,
};

/// A text that a user reads is no longer than this.
const LARGEST_TEXT: u64 = 64 * 1024;

/// What a link of the chain says, ready to be said.
#[derive(Debug)]
pub struct Reply {
    texts: Vec<Text>,
    /// The text for whom nothing else fits.
    general: Template,
    json: Option<Template>,
}

/// A text and whom it is for.
#[derive(Debug)]
struct Text {
    language: String,
    /// After these failures; any, if there is none.
    failure: Vec<FailureKind>,
    template: Template,
}

/// A text that is kept in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The file cannot be read.
    #[error("the reply in the file `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no text.
    #[error("the file `{}` is no text for a reply: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What is known when a reply is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion {
    /// What went wrong.
    pub(super) failure: FailureKind,
    /// When another try is likely to be served.
    pub(super) wait: Duration,
}

impl Reply {
    /// Reads the texts that are kept in files.
    ///
    /// # Errors
    /// When one of them cannot be read or used.
    pub fn load(reply: &config::Reply) -> Result<Self, ReplyError> {
        let text = |language: &config::Language, failure: &[FailureKind], source: &Source| {
            Ok(Text {
                language: language.as_str().to_owned(),
                failure: failure.to_vec(),
                template: template(source)?,
            })
        };
        let general = text(&reply.language, &[], &reply.text)?;
        let variants = reply.variants.iter().map(|variant| {
            let language = variant.language.as_ref().unwrap_or(&reply.language);
            text(language, &variant.failure, &variant.text)
        });
        let mut texts = variants.collect::<Result<Vec<_>, _>>()?;
        // Those for one failure before those for any: the first that fits is taken.
        texts.sort_by_key(|text| text.failure.is_empty());
        let fallback = general.template.clone();
        texts.push(general);
        Ok(Self {
            texts,
            general: fallback,
            json: reply.json.clone(),
        })
    }

    /// The reply in the shape that this request's SDK takes for an answer. `None` where no shape would
    /// be honest: an endpoint without a sensible reply, or a request that refers to an earlier answer.
    pub(super) fn render(&self, call: &Call, occasion: Occasion) -> Option<Response<Body>> {
        let values = Values {
            wait: occasion.wait,
            request_id: call.id.as_str(),
            ..Values::default()
        };
        let head = call.head();
        let headers = head.as_ref().map(|head| &head.headers);
        let text = self.choose(headers, occasion.failure).render(&values);
        let json = self.json.as_ref().map(|json| json.render(&values));
        response(call, &text, json.as_deref())
    }

    fn choose(&self, headers: Option<&HeaderMap>, failure: FailureKind) -> &Template {
        let accepted: Vec<&str> = headers
            .into_iter()
            .flat_map(|headers| headers.get_all(header::ACCEPT_LANGUAGE))
            .filter_map(|value| value.to_str().ok())
            .collect();
        let wanted = language::wanted(&accepted.join(","));
        let fits = |text: &&Text| text.failure.is_empty() || text.failure.contains(&failure);
        let in_language = |language: &str| {
            let mut texts = self.texts.iter().filter(fits);
            texts.find(|text| text.language == language)
        };
        // The general text is the last: its language is the one for all who did not ask for another.
        let own = self.texts.last().map_or("", |text| &text.language);
        language::look_up(&wanted, in_language)
            .or_else(|| in_language(own))
            .map_or(&self.general, |text| &text.template)
    }
}

fn template(source: &Source) -> Result<Template, ReplyError> {
    match source {
        Source::Inline(template) => Ok(template.clone()),
        Source::File(path) => {
            let text = read(path)?;
            let why = |error: TemplateError| ReplyError::Unusable {
                path: path.clone(),
                why: error.to_string(),
            };
            config::Template::of_reply(text.trim_end()).map_err(why)
        }
    }
}

fn read(path: &Path) -> Result<String, ReplyError> {
    use std::io::Read as _;

    let (mut bytes, path) = (Vec::new(), path.to_owned());
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(LARGEST_TEXT + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(ReplyError::Unreadable { path, source });
    }
    let why = if bytes.len() as u64 > LARGEST_TEXT {
        "it is larger than 64 KiB"
    } else {
        "it is not UTF-8"
    };
    String::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() as u64 <= LARGEST_TEXT)
        .ok_or_else(|| ReplyError::Unusable {
            path,
            why: why.to_owned(),
        })
}

/// An answer of our own to `call`, or nothing where none would be honest.
pub(crate) fn response(call: &Call, text: &str, json: Option<&str>) -> Option<Response<Body>> {
    if call.method != Method::POST {
        return None;
    }
    let unix_time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let said = reply::ReplyText {
        text,
        json,
        id: call.id.as_str(),
        unix_time,
    };
    let rendered = reply::render(call.dialect, &call.ask, &said)?;
    let mut response = Response::new(body::full(rendered.body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(rendered.content_type),
    );
    if rendered.streamed {
        head::events(headers);
    }
    call.id.name_in(headers, call.dialect);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind as F;

    fn config(yaml: &str) -> config::Reply {
        let yaml = format!("fallback:\n  - reply:\n{yaml}");
        let config = config::Config::parse("test", &yaml, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
        match &config.routes[0].fallback[0].to {
            config::Target::Reply(reply) => reply.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn said(reply: &Reply, accept: &str, failure: F) -> String {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
        }
        reply.choose(Some(&headers), failure).to_string()
    }

    #[test]
    fn the_language_comes_before_the_failure() {
        let reply = Reply::load(&config(
            "      text: general\n      variants:\n\
            \x20       - { language: de, text: allgemein }\n\
            \x20       - { failure: throttled, text: busy }\n\
            \x20       - { language: de, failure: [throttled, overloaded], text: viel los }\n\
            \x20       - { language: pt-BR, failure: faulty, text: quebrado }\n",
        ))
        .unwrap();
        for (accept, failure, expected) in [
            ("", F::Faulty, "general"),
            ("", F::Throttled, "busy"),
            ("en", F::Throttled, "busy"),
            ("de", F::Throttled, "viel los"),
            ("de-AT, en;q=0.5", F::Overloaded, "viel los"),
            ("de", F::Faulty, "allgemein"),
            ("en, de;q=0.9", F::Faulty, "general"),
            ("fr, de;q=0.9", F::Faulty, "allgemein"),
            ("fr", F::Faulty, "general"),
            ("*", F::Throttled, "busy"),
            ("pt-BR", F::Faulty, "quebrado"),
            // There is Portuguese, but not for this failure.
            ("pt-BR", F::Throttled, "busy"),
        ] {
            assert_eq!(
                said(&reply, accept, failure),
                expected,
                "{accept} {failure:?}"
            );
        }
    }

    #[test]
    fn the_general_text_has_a_language_too() {
        let reply = Reply::load(&config(
            "      text: allgemein\n      language: de\n      variants: [{ language: en, text: general }]\n",
        ))
        .unwrap();
        assert_eq!(said(&reply, "de, en", F::Faulty), "allgemein");
        assert_eq!(said(&reply, "en, de", F::Faulty), "general");
        assert_eq!(said(&reply, "fr", F::Faulty), "allgemein");
    }

    #[test]
    fn texts_in_files_are_read_at_start() {
        let path = std::env::temp_dir().join(format!("surgetank-reply-{}", std::process::id()));
        let of_file = config(&format!("      file: {}\n", path.display()));
        let error = |of: &config::Reply| Reply::load(of).unwrap_err().to_string();
        assert!(
            error(&of_file).contains("cannot be read"),
            "{}",
            error(&of_file)
        );
        for (content, expected) in [
            (&b"  \n"[..], "must say something"),
            (b"in {wiat}", "there is no placeholder `{wiat}`"),
            (b"at {location}", "only a queued request"),
            (b"\xff", "not UTF-8"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(error(&of_file).contains(expected), "{}", error(&of_file));
        }
        std::fs::write(&path, "Back in {wait}.\n").unwrap();
        let reply = Reply::load(&of_file).unwrap();
        assert_eq!(said(&reply, "", F::Faulty), "Back in {wait}.");
        std::fs::remove_file(&path).unwrap();
    }
}
