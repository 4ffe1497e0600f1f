//! Which class a user is in: the first of the configuration that takes it.

use std::{collections::HashSet, fs, io, path::Path};

use http::{HeaderMap, HeaderName};

use super::IdentityError;
use crate::{
    config::{self, HeaderPattern, UserPattern},
    limit::identity::UserKey,
};

/// Some hundred thousand users; a larger file is another file.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// All classes, in their order. The class of users without one is 0, the first of these is 1.
#[derive(Debug, Default)]
pub(super) struct Classes(Vec<Class>);

#[derive(Debug)]
struct Class {
    headers: Vec<(HeaderName, HeaderPattern)>,
    /// Names without a star: there may be many, and they are looked up. Kept as fingerprints.
    names: HashSet<UserKey>,
    patterns: Vec<UserPattern>,
}

impl Classes {
    /// Reads the files of users that the configuration names.
    pub(super) fn new(classes: &config::Classes) -> Result<Self, IdentityError> {
        let classes = classes.0.iter().map(Class::new);
        Ok(Self(classes.collect::<Result<_, _>>()?))
    }

    /// The class of a user. `name` is `None` where it is a secret.
    pub(super) fn of(&self, user: UserKey, name: Option<&[u8]>, headers: &HeaderMap) -> u16 {
        if self.0.is_empty() {
            return 0;
        }
        let fingerprint = user.hex();
        let mut classes = self.0.iter();
        let taken = classes.position(|class| class.takes(name, &fingerprint, headers));
        taken.map_or(0, |index| u16::try_from(index + 1).unwrap_or(0))
    }
}

impl Class {
    fn new(class: &config::Class) -> Result<Self, IdentityError> {
        let mut users = class.match_.users.clone();
        if let Some(file) = &class.match_.file {
            users.extend(read(&class.name, file)?);
        }
        let (exact, patterns): (Vec<_>, _) =
            users.into_iter().partition(|user| user.exact().is_some());
        Ok(Self {
            headers: class.match_.headers.clone(),
            names: exact
                .iter()
                .filter_map(UserPattern::exact)
                .map(key)
                .collect(),
            patterns,
        })
    }

    fn takes(&self, name: Option<&[u8]>, fingerprint: &str, headers: &HeaderMap) -> bool {
        let has_header = |(name, pattern): &(HeaderName, HeaderPattern)| {
            let mut values = headers.get_all(name).iter();
            values.any(|value| pattern.takes(value))
        };
        self.headers.iter().any(has_header)
            || (!self.names.is_empty() && name.is_some_and(|name| self.names.contains(&key(name))))
            || self.patterns.iter().any(|pattern| match pattern {
                UserPattern::Hash(_) => pattern.takes(b"", fingerprint),
                UserPattern::Name(_) => name.is_some_and(|name| pattern.takes(name, fingerprint)),
            })
    }
}

/// A name for looking up; the source does not matter here.
fn key(name: &[u8]) -> UserKey {
    UserKey::from_source("class", name)
}

fn read(class: &str, path: &Path) -> Result<Vec<UserPattern>, IdentityError> {
    let unusable = |why: String| IdentityError::File {
        class: class.to_owned(),
        path: path.to_owned(),
        why,
    };
    let text = text_of(path).map_err(|error| unusable(error.to_string()))?;
    let is_user = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let parse = |(number, line): (usize, &str)| {
        let parsed = line.parse();
        parsed.map_err(|error| unusable(format!("line {}: {error}", number + 1)))
    };
    let lines = text.lines().map(str::trim).enumerate();
    lines.filter(|(_, line)| is_user(line)).map(parse).collect()
}

fn text_of(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn classes(yaml: &str) -> Classes {
        let config = config::Config::parse("test", yaml, &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        Classes::new(&config.routes[0].limits.classes).expect("the files are there")
    }

    fn class_of(classes: &Classes, name: &str, plan: Option<&'static str>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(plan) = plan {
            headers.insert("x-plan", HeaderValue::from_static(plan));
        }
        let user = UserKey::from_source("header", name.as_bytes());
        classes.of(user, Some(name.as_bytes()), &headers)
    }

    #[test]
    fn the_first_class_that_takes_a_user_has_it() {
        let classes = classes(
            "limits: { classes: {
                staff: { match: { users: ['*@example.com', root] } },
                gold: { match: { headers: { x-plan: gold } } },
                rest: { match: { users: 'a*' } } } }",
        );
        for (name, plan, expected) in [
            ("ann@example.com", None, 1),
            ("ann@example.com", Some("gold"), 1),
            ("root", None, 1),
            ("bob", Some("gold"), 2),
            ("bob", Some("silver"), 0),
            ("ann", Some("gold"), 2),
            ("ann", None, 3),
            ("Root", None, 0),
        ] {
            assert_eq!(class_of(&classes, name, plan), expected, "{name} {plan:?}");
        }
    }

    #[test]
    fn users_stand_in_a_file_or_are_known_by_their_fingerprint() {
        let path = std::env::temp_dir().join(format!("surgetank-users-{}", std::process::id()));
        fs::write(&path, "# ours\n\nann\n  team-*  \nhash:2633de7b\n").expect("a file");
        let yaml = format!(
            "limits: {{ classes: {{ known: {{ match: {{ file: {} }} }} }} }}",
            path.display()
        );
        let classes = classes(&yaml);
        let by_hash = UserKey::from_source("header:x-user", b"alice");
        assert_eq!(by_hash.hash_hex(), "2633de7b");
        assert_eq!(classes.of(by_hash, None, &HeaderMap::new()), 1);
        for (name, expected) in [
            ("ann", 1),
            ("team-a", 1),
            ("# ours", 0),
            ("", 0),
            ("bob", 0),
        ] {
            assert_eq!(class_of(&classes, name, None), expected, "{name}");
        }
        fs::write(&path, "ann\nhash:nobody\n").expect("a file");
        let error = read("known", &path)
            .expect_err("no fingerprint")
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("known"),
            "{error}"
        );
        fs::remove_file(&path).expect("it is ours");
        let error = read("known", &path).expect_err("no file").to_string();
        assert!(error.contains("known"), "{error}");
    }

    #[test]
    fn a_secret_is_matched_by_its_fingerprint_alone() {
        let classes = classes("limits: { classes: { all: { match: { users: '*' } } } }");
        let user = UserKey::from_source("credential", b"sk-1");
        assert_eq!(classes.of(user, None, &HeaderMap::new()), 0);
    }
}
