//! The example configurations: each loads, and what they say about defaults is so.

use std::fs;
use std::path::PathBuf;

use super::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn example(name: &str) -> (Config, String) {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).unwrap();
    let config = Config::load(&path, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    (config, text)
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file()) // `lab/` has scenarios of the lab
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    for known in [
        "anthropic-only.yaml",
        "fallback.yaml",
        "limits.yaml",
        "local-models.yaml",
        "sidecar.yaml",
        "surgetank.yaml",
    ] {
        assert!(
            names.iter().any(|name| name == known),
            "{known} is not in {names:?}"
        );
    }
    for name in names {
        let (config, text) = example(&name);
        assert_eq!(config.warnings(), [], "{name}");
        assert!(
            text.starts_with("# "),
            "{name} begins by saying what it is for"
        );
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(
            longest <= Some(120),
            "{name} has a line of {longest:?} characters"
        );
    }
}

#[test]
fn the_full_example_shows_the_defaults() {
    let (config, _) = example("surgetank.yaml");
    assert_eq!(settings(&config), settings(&Config::built_in()));
}

#[test]
fn the_full_example_shows_every_setting() {
    let (_, text) = example("surgetank.yaml");
    let text = uncommented(&text);
    let schema = Config::json_schema();
    let mut blocks = vec![&schema["properties"]];
    blocks.extend(
        schema["$defs"]
            .as_object()
            .unwrap()
            .values()
            .map(|block| &block["properties"]),
    );
    for setting in blocks
        .into_iter()
        .filter_map(|block| block.as_object())
        .flat_map(|block| block.keys())
    {
        let is_shown = text.lines().any(|line| {
            let code = line.split(" # ").next().unwrap_or_default();
            let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            words.any(|word| word.strip_suffix(':') == Some(setting))
        });
        assert!(is_shown, "surgetank.yaml does not show `{setting}`");
    }
}

#[test]
fn what_the_full_example_comments_out_can_be_used() {
    let (_, text) = example("surgetank.yaml");
    let config = config(&uncommented(&text));
    let warnings: Vec<&str> = config.warnings().iter().map(Problem::message).collect();
    assert_eq!(warnings, ["`store.url` has no effect in this version",]);
    let shown = config.routes[1].limits.per_user.as_ref().unwrap();
    let defaults = PerUser::default();
    assert_eq!(
        (shown.when_exceeded, shown.max_wait),
        (defaults.when_exceeded, defaults.max_wait)
    );
    assert_eq!(config.upstreams[0].timeouts.first_byte, Some(secs(60)));
}

/// The full example says of each setting without effect that it has none, and of no other.
#[test]
fn the_full_example_marks_what_has_no_effect() {
    let (_, text) = example("surgetank.yaml");
    let marks = text.matches("not yet)").count() + text.matches("# not yet").count();
    assert_eq!(marks, crate::config::unbuilt::WITHOUT_EFFECT.len());
}

/// A setting is commented out by a `#` with no space after it; prose has the space.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let code = line.trim_start();
        match code.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_alphabetic()) => {
                format!("{}{setting}\n", &line[..line.len() - code.len()])
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn the_examples_do_what_their_comments_say() {
    let (config, _) = example("anthropic-only.yaml");
    assert_eq!(config.routes.len(), 1);
    assert!(config.listen.iter().all(Listen::is_local));
    assert_eq!(
        config.upstreams[0].credential,
        Some(Credential::Env("ANTHROPIC_API_KEY".into()))
    );

    let (config, _) = example("limits.yaml");
    let [embeddings, anthropic, openai] = config.routes.as_slice() else {
        panic!("{:?}", config.routes);
    };
    let per_user = embeddings.limits.per_user.as_ref().unwrap();
    assert_eq!(
        (per_user.concurrent, per_user.when_exceeded),
        (None, WhenExceeded::Reject)
    );
    for route in [anthropic, openai] {
        let per_user = route.limits.per_user.as_ref().unwrap();
        assert_eq!(
            (per_user.concurrent, per_user.when_exceeded),
            (Some(8), WhenExceeded::Wait)
        );
    }

    let (config, _) = example("fallback.yaml");
    assert_eq!(config.routes[0].fallback, []);
    assert_eq!(config.routes[1].fallback[0], upstream("openai-small"));

    let (config, _) = example("sidecar.yaml");
    assert!(config.listen.iter().all(Listen::is_local));
    assert_eq!(config.shutdown.drain, secs(55));
    let upstreams: Vec<&str> = config
        .routes
        .iter()
        .map(|route| route.upstream.as_str())
        .collect();
    assert_eq!(upstreams, ["anthropic", "openai"]);

    let (config, _) = example("local-models.yaml");
    assert_eq!(
        config.upstreams[0].base_url.to_string(),
        "http://127.0.0.1:11434"
    );
    assert_eq!(config.routes[1].upstream, "ollama");
}
