//! Finds the first route that takes a request, without looking at each: there may be one for every tenant.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{HeaderPattern, Match};

/// What routes match, in order of what is looked for; each with the place of the first route that has it.
///
/// A look costs a binary search for each slash in a path, and one for each value of a header that any route names.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteIndex {
    /// Of the first route that takes everything.
    everything: Option<usize>,
    /// By path, without a `/` at its end.
    paths: Box<[(Box<str>, usize)]>,
    headers: Box<[HeaderRoutes]>,
}

#[derive(Clone, Debug)]
struct HeaderRoutes {
    name: HeaderName,
    /// Of the first route that takes any value.
    any: Option<usize>,
    exact: Vec<(HeaderValue, usize)>,
}

impl RouteIndex {
    /// Of routes in their order.
    pub(super) fn new<'a>(routes: impl IntoIterator<Item = &'a Match>) -> Self {
        let (mut everything, mut paths) = (None, Vec::<(Box<str>, usize)>::new());
        let mut headers = Vec::<HeaderRoutes>::new();
        for (place, matched) in routes.into_iter().enumerate() {
            if matched.takes_everything() {
                everything = Some(place);
                break; // no request gets past it
            }
            let own = matched
                .paths
                .iter()
                .map(|path| (path.as_str().into(), place));
            paths.extend(own);
            for (name, pattern) in &matched.headers {
                let at = headers.iter().position(|routes| routes.name == *name);
                let at = at.unwrap_or_else(|| {
                    headers.push(HeaderRoutes::new(name));
                    headers.len() - 1
                });
                headers[at].add(pattern, place);
            }
        }
        first_of_each(&mut paths);
        for routes in &mut headers {
            first_of_each(&mut routes.exact);
        }
        Self {
            everything,
            paths: paths.into(),
            headers: headers.into(),
        }
    }

    /// The place of the first route that takes a request with this path (without its query) and these headers: the same
    /// as the first whose [`Match::takes`] says so.
    pub(super) fn find(&self, path: &str, headers: &HeaderMap) -> Option<usize> {
        if self.everything == Some(0) {
            return Some(0);
        }
        let by_path = self.of_path(path);
        let by_header = self.headers.iter().flat_map(|routes| routes.of(headers));
        by_path.chain(by_header).chain(self.everything).min()
    }

    /// Of the path itself and of all that it lies below.
    fn of_path(&self, path: &str) -> impl Iterator<Item = usize> {
        let ends = memchr::memchr_iter(b'/', path.as_bytes()).chain([path.len()]);
        let ends = ends.filter(|_| !self.paths.is_empty());
        ends.filter_map(|end| place_of(&self.paths, |own| own.as_ref().cmp(&path[..end])))
    }
}

impl HeaderRoutes {
    fn new(name: &HeaderName) -> Self {
        Self {
            name: name.clone(),
            any: None,
            exact: Vec::new(),
        }
    }

    fn add(&mut self, pattern: &HeaderPattern, place: usize) {
        match pattern {
            HeaderPattern::Any => self.any = self.any.or(Some(place)),
            HeaderPattern::Exact(value) => self.exact.push((value.clone(), place)),
        }
    }

    fn of(&self, headers: &HeaderMap) -> impl Iterator<Item = usize> {
        let values = headers.get_all(&self.name).iter();
        values.flat_map(|value| {
            let exact = place_of(&self.exact, |own| own.cmp(value));
            exact.into_iter().chain(self.any)
        })
    }
}

/// Sorts by what is looked for, and keeps of each the first place.
fn first_of_each<T: Ord>(entries: &mut Vec<(T, usize)>) {
    entries.sort();
    entries.dedup_by(|next, kept| next.0 == kept.0);
}

fn place_of<T>(entries: &[(T, usize)], order: impl Fn(&T) -> std::cmp::Ordering) -> Option<usize> {
    let at = entries.binary_search_by(|(own, _)| order(own)).ok()?;
    Some(entries[at].1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matching() -> impl Strategy<Value = Match> {
        let path = "(/[ab]{0,2}){1,3}".prop_map(|path| path.parse().unwrap());
        let name = prop_oneof![Just("x-one"), Just("x-two")];
        let pattern = prop_oneof![Just("*"), Just("a"), Just("b")];
        let header = (name, pattern)
            .prop_map(|(name, pattern)| (HeaderName::from_static(name), pattern.parse().unwrap()));
        let paths = proptest::collection::vec(path, 0..3);
        let headers = proptest::collection::vec(header, 0..3);
        let matching = (paths, headers).prop_map(|(paths, headers)| Match { paths, headers });
        // One that takes everything ends the search, so not too many of them.
        matching.prop_filter("most take something", |it| !it.takes_everything())
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_each_route_finds(
            mut routes in proptest::collection::vec(matching(), 0..12),
            everything in proptest::option::of(0_usize..12),
            path in "\\*|(/[abc]{0,2}){1,4}",
            values in proptest::collection::vec((0_usize..2, "[abc]"), 0..4),
        ) {
            if let Some(at) = everything.filter(|at| *at <= routes.len()) {
                routes.insert(at, Match::default());
            }
            let headers: HeaderMap = values
                .iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_static(["x-one", "x-two"][*name]);
                    (name, value.parse().unwrap())
                })
                .collect();
            let each = routes.iter().position(|route| route.takes(&path, &headers));
            prop_assert_eq!(RouteIndex::new(&routes).find(&path, &headers), each);
        }
    }
}
