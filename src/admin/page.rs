//! The status page's files, as they stand in `page/`: no build step, no template, nothing from elsewhere.
//!
//! The page may do little: its policy lets it load scripts and styles from here and nowhere else, and
//! speak to nobody but us. So even a name that slipped through unescaped could not become a script.

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/assets/page.css", CSS, include_str!("page/page.css")),
    ("/assets/page.js", SCRIPT, include_str!("page/page.js")),
    ("/assets/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/assets/words.js", SCRIPT, include_str!("page/words.js")),
    ("/assets/icon.svg", SVG, include_str!("page/icon.svg")),
    (
        "/assets/uplot.js",
        SCRIPT,
        include_str!("page/vendor/uPlot.iife.min.js"),
    ),
    (
        "/assets/uplot.css",
        CSS,
        include_str!("page/vendor/uPlot.min.css"),
    ),
    (
        "/assets/uplot.LICENSE",
        "text/plain; charset=utf-8",
        include_str!("page/vendor/LICENSE"),
    ),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

pub(super) fn router() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            router.route(path, get(async || file(kind, text)))
        })
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        // The next version has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
