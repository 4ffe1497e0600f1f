use proptest::prelude::*;

use super::*;

fn path(text: &str) -> PathPrefix {
    text.parse().unwrap()
}

fn headers(name: &'static str, value: &'static str) -> HeaderMap {
    [(
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    )]
    .into_iter()
    .collect()
}

#[test]
fn a_path_stands_for_itself_and_everything_below() {
    for (prefix, taken, covers) in [
        ("/v1/messages", "/v1/messages", true),
        ("/v1/messages", "/v1/messages/", true),
        ("/v1/messages", "/v1/messages/batches/1", true),
        ("/v1/messages", "/v1/messagesx", false),
        ("/v1/messages", "/v1/message", false),
        ("/v1/messages", "/V1/messages", false),
        ("/v1/messages", "/x/v1/messages", false),
        ("/v1/messages/", "/v1/messages", true),
        ("/", "/", true),
        ("/", "/anything", true),
        ("/", "*", true),
        ("/a%2Fb", "/a%2Fb/c", true),
        ("/a%2Fb", "/a/b", false),
    ] {
        assert_eq!(path(prefix).covers(taken), covers, "{prefix} {taken}");
    }
}

#[test]
fn what_is_no_path_says_why() {
    for (text, expected) in [
        ("", PathPrefixError::Relative),
        ("v1", PathPrefixError::Relative),
        ("https://h/v1", PathPrefixError::Relative),
        ("/v1/*", PathPrefixError::Wildcard),
        ("/v1?x=1", PathPrefixError::Form),
        ("/v1#x", PathPrefixError::Form),
        ("/a b", PathPrefixError::Form),
        ("/é", PathPrefixError::Form),
    ] {
        assert_eq!(text.parse::<PathPrefix>(), Err(expected), "{text}");
    }
}

#[test]
fn any_criterion_is_enough() {
    let both = Match {
        paths: vec![path("/a")],
        headers: vec![(
            HeaderName::from_static("x"),
            HeaderPattern::Exact(HeaderValue::from_static("1")),
        )],
    };
    for (taken, with, expected) in [
        ("/a", HeaderMap::new(), true),
        ("/b", headers("x", "1"), true),
        ("/a", headers("x", "1"), true),
        ("/b", headers("x", "2"), false),
        ("/b", headers("y", "1"), false),
        ("/b", HeaderMap::new(), false),
    ] {
        assert_eq!(both.takes(taken, &with), expected, "{taken} {with:?}");
    }
    assert!(Match::default().takes("/b", &HeaderMap::new()));
}

#[test]
fn any_of_several_values_of_a_header_counts() {
    let mut with = headers("x", "1");
    with.append("x", HeaderValue::from_static("2"));
    let second = Match {
        headers: vec![(
            HeaderName::from_static("x"),
            HeaderPattern::Exact(HeaderValue::from_static("2")),
        )],
        ..Match::default()
    };
    assert!(second.takes("/", &with));
}

#[test]
fn patterns_are_exact_or_anything() {
    let exact = |text: &str| {
        text.parse::<HeaderPattern>() == Ok(HeaderPattern::Exact(text.parse().unwrap()))
    };
    assert_eq!("*".parse(), Ok(HeaderPattern::Any));
    assert!(exact("2023-06-01") && exact("*/*") && exact(""));
    for text in ["2023*", "**", "a\nb"] {
        assert_eq!(
            text.parse::<HeaderPattern>(),
            Err(HeaderPatternError),
            "{text}"
        );
    }
    assert!(!format!("{:?}", "sk-1".parse::<HeaderPattern>()).contains("sk-1"));
}

fn criteria() -> impl Strategy<Value = Match> {
    let paths = prop::collection::vec("(/[ab]){0,3}/?", 0..3);
    let headers = prop::collection::vec(("[xy]", prop_oneof!["\\*", "[12]"]), 0..3);
    (paths, headers).prop_map(|(paths, headers)| Match {
        paths: paths
            .iter()
            .map(|text| path(&format!("/{}", text.trim_start_matches('/'))))
            .collect(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect(),
    })
}

proptest! {
    /// A route that is told to be never reached is indeed never reached.
    #[test]
    fn what_is_covered_is_taken(
        one in criteria(),
        other in criteria(),
        taken in "(/[abc]){1,4}",
        name in "[xyz]",
        value in "[123]",
    ) {
        let with: HeaderMap = [(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())].into_iter().collect();
        if one.covers(&other) && other.takes(&taken, &with) {
            prop_assert!(one.takes(&taken, &with));
        }
    }
}
