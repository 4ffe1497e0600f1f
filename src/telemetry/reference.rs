//! `docs/metrics.md` is made of the registry and the labels' values, so that it cannot be out of date.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use super::{
    Family, Metrics,
    labels::{Size, Values, most_series, values},
};

const BEGIN: &str = "<!-- generated: `UPDATE_DOCS=1 cargo test --lib reference` -->";
const END: &str = "<!-- end of what is generated -->";

/// The sizes whose budget the page tells: one route to one vendor, a usual one, and as large as it gets.
const SIZES: [Size; 3] = [
    Size {
        routes: 1,
        upstreams: 1,
        models: 2,
    },
    Size {
        routes: 3,
        upstreams: 3,
        models: 6,
    },
    Size {
        routes: 10,
        upstreams: 10,
        models: 32,
    },
];

/// Series of the process itself, which the client library adds.
const PROCESS: usize = 9;

fn families() -> Vec<Family> {
    let metrics = Metrics::new().expect("no name twice");
    metrics.families().to_vec()
}

fn budget(families: &[Family], size: Size) -> usize {
    let series = families.iter().map(|family| {
        most_series(family, size)
            .unwrap_or_else(|| panic!("{}: a label without a bound, see labels.rs", family.name))
    });
    series.sum::<usize>() + PROCESS
}

fn code(names: &[impl AsRef<str>]) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(" ")
}

fn in_words(values: &Values) -> String {
    match values {
        Values::Routes => {
            "the names of the configured routes; `none` where none was found".to_owned()
        }
        Values::Upstreams => "the names of the configured upstreams".to_owned(),
        Values::Models => {
            "names of models that an upstream has answered to, at most 32 of them; `other`, `none`"
                .to_owned()
        }
        Values::Version => "the version that runs".to_owned(),
        Values::OneOf(values) => code(values),
    }
}

fn generated(families: &[Family]) -> String {
    let mut page = format!(
        "{BEGIN}\n\n## Families\n\n| family | type | labels | tells |\n|---|---|---|---|\n"
    );
    for Family {
        name,
        kind,
        labels,
        help,
        ..
    } in families
    {
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", code(labels));
    }
    page += "\n## Labels\n\n| label | of | values |\n|---|---|---|\n";
    let mut told: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for family in families {
        for label in &family.labels {
            let values =
                values(&family.name, label).unwrap_or_else(|| panic!("{label} of {}", family.name));
            told.entry((label, in_words(&values)))
                .or_default()
                .push(&family.name);
        }
    }
    for ((label, values), of) in &told {
        let is_everywhere = told.keys().filter(|(other, _)| other == label).count() == 1;
        let of = if is_everywhere {
            "all that have it".to_owned()
        } else {
            code(of)
        };
        let _ = writeln!(page, "| `{label}` | {of} | {values} |");
    }
    page += "\n## Budget\n\n| routes | upstreams | models | series at most |\n|---|---|---|---|\n";
    for size in SIZES {
        let Size {
            routes,
            upstreams,
            models,
        } = size;
        let most = budget(families, size);
        let _ = writeln!(page, "| {routes} | {upstreams} | {models} | {most} |");
    }
    page + "\n" + END
}

#[test]
fn the_reference_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).expect("docs/metrics.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let current = format!("{before}{}{after}", generated(&families()));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("it can be written");
    } else if page != current {
        panic!("docs/metrics.md is not up to date: UPDATE_DOCS=1 cargo test --lib reference");
    }
}

#[test]
fn names_and_units_are_those_of_prometheus() {
    for Family {
        name,
        kind,
        labels,
        help,
        ..
    } in families()
    {
        assert!(name.starts_with("surgetank_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(help.ends_with('.'), "{name}: {help}");
        for label in &labels {
            assert!(
                label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{label}"
            );
            assert!(
                !["user", "key", "path", "prompt"].contains(&label.as_str()),
                "{name}: {label}"
            );
        }
    }
}
