//! The list of all faults with their parameters, for the parser and for `--list-faults`.

use super::Fault;

/// One line of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The fault that the name stands for.
    pub fault: Fault,
    /// The name in scenario files and headers.
    pub name: &'static str,
    /// The parameters that it takes beside those of [`Entry::shapes`].
    pub takes: &'static [&'static str],
    /// Whether it is built on a healthy answer, so that the parameters which shape one apply.
    pub shapes: bool,
    /// One sentence for the list.
    pub about: &'static str,
}

/// Parameters that shape the healthy answer under a fault.
pub(super) const SHAPE: &[&str] = &[
    "words",
    "text",
    "headers-after",
    "first-token",
    "interval",
    "chunked",
];

const HINTS: &[&str] = &[
    "headers-after",
    "retry-after",
    "retry-after-ms",
    "should-retry",
    "code",
    "type",
    "message",
    "body",
    "early",
];
const PART: &[&str] = &["after", "split"];
const ERROR: &[&str] = &["status", "form", "code", "type", "message", "after", "done"];

const fn answer(
    fault: Fault,
    name: &'static str,
    takes: &'static [&'static str],
    about: &'static str,
) -> Entry {
    Entry {
        fault,
        name,
        takes,
        shapes: true,
        about,
    }
}

const fn bare(
    fault: Fault,
    name: &'static str,
    takes: &'static [&'static str],
    about: &'static str,
) -> Entry {
    Entry {
        fault,
        name,
        takes,
        shapes: false,
        about,
    }
}

const fn status(code: u16, name: &'static str, about: &'static str) -> Entry {
    bare(Fault::Status(code), name, HINTS, about)
}

/// Every fault by name. Statuses that are not listed (any of 400 to 599) work as well.
pub const CATALOGUE: &[Entry] = &[
    answer(Fault::Ok, "ok", &[], "A healthy answer."),
    status(400, "400", "Invalid request."),
    status(401, "401", "Invalid credential."),
    status(402, "402", "Billing problem: permanent."),
    status(403, "403", "Not permitted."),
    status(404, "404", "Unknown model."),
    status(408, "408", "Request timeout."),
    status(409, "409", "Conflict."),
    status(413, "413", "Request too large."),
    status(422, "422", "Unprocessable request."),
    status(
        429,
        "429",
        "Rate limited, retry-after: 1 unless told otherwise.",
    ),
    status(500, "500", "Internal error."),
    status(502, "502", "Bad gateway, as an HTML page from the edge."),
    status(503, "503", "Overloaded, without retry-after unless given."),
    status(504, "504", "Gateway timeout."),
    status(529, "529", "Anthropic's overloaded_error."),
    bare(
        Fault::Status(204),
        "204",
        &["headers-after", "body"],
        "No content; body=text adds an illegal body.",
    ),
    bare(
        Fault::Status(304),
        "304",
        &["headers-after", "body"],
        "Not modified; body=text adds an illegal body.",
    ),
    bare(
        Fault::Status(301),
        "301",
        &["headers-after", "to"],
        "Redirect, to /_lab/trap unless `to` is given.",
    ),
    bare(
        Fault::Status(302),
        "302",
        &["headers-after", "to"],
        "Redirect, see 301.",
    ),
    bare(
        Fault::Status(303),
        "303",
        &["headers-after", "to"],
        "Redirect, see 301.",
    ),
    bare(
        Fault::Status(307),
        "307",
        &["headers-after", "to"],
        "Redirect that repeats the method, see 301.",
    ),
    bare(
        Fault::Status(308),
        "308",
        &["headers-after", "to"],
        "Redirect that repeats the method, see 301.",
    ),
    bare(
        Fault::InsufficientQuota,
        "insufficient-quota",
        HINTS,
        "429 without end: no money left.",
    ),
    bare(
        Fault::CreditBalanceExhausted,
        "credit-balance-exhausted",
        HINTS,
        "429 without end: prepaid credit used up.",
    ),
    bare(
        Fault::SpendLimit,
        "spend-limit",
        HINTS,
        "429 without end: the spend limit is reached.",
    ),
    bare(
        Fault::UsageLimit,
        "usage-limit",
        HINTS,
        "The organization's own limit: 400 (Anthropic) or 429, permanent.",
    ),
    bare(
        Fault::RequestTooLarge,
        "request-too-large",
        HINTS,
        "429 for one request above the limit of a minute.",
    ),
    bare(
        Fault::SlowDown,
        "slow-down",
        HINTS,
        "429 slow_down: the rate rose too fast.",
    ),
    bare(
        Fault::Refuse,
        "refuse",
        &["for"],
        "Reset at once; with `for`, new connections are reset too.",
    ),
    bare(
        Fault::Closed,
        "closed",
        &["for"],
        "Reset, and the listening socket is closed for `for` (1s).",
    ),
    bare(
        Fault::Hang,
        "hang",
        &["for"],
        "Nothing is answered; FIN after `for` (10m).",
    ),
    bare(
        Fault::Reset,
        "reset",
        &["headers-after"],
        "RST before the response head.",
    ),
    bare(
        Fault::Fin,
        "fin",
        &["headers-after"],
        "FIN before the response head.",
    ),
    answer(
        Fault::FinHead,
        "fin-head",
        &[],
        "Half of the response head, then FIN.",
    ),
    answer(
        Fault::HangBody,
        "hang-body",
        &["after", "split", "for"],
        "Part of the body, then silence; FIN after `for` (10m).",
    ),
    answer(
        Fault::ResetBody,
        "reset-body",
        PART,
        "Part of the body, then RST.",
    ),
    answer(
        Fault::Cut,
        "cut",
        PART,
        "Part of the body, then FIN: no last chunk.",
    ),
    answer(
        Fault::CutClean,
        "cut-clean",
        PART,
        "Part of the body, cleanly framed; the terminator event is missing.",
    ),
    answer(
        Fault::Drip,
        "drip",
        &["every", "part"],
        "One byte per `every` (5ms); part=head|body|all (body).",
    ),
    answer(
        Fault::ShortLength,
        "short-length",
        &[],
        "content-length is half of the body.",
    ),
    answer(
        Fault::LongLength,
        "long-length",
        &[],
        "content-length is twice the body, then FIN.",
    ),
    answer(
        Fault::ErrorFirst,
        "error-first",
        ERROR,
        "200 whose first event is an error; form=native|chat|flat|nested|hybrid|failed.",
    ),
    answer(
        Fault::ErrorPreamble,
        "error-preamble",
        ERROR,
        "200, lifecycle events, then an error event.",
    ),
    answer(
        Fault::ErrorMid,
        "error-mid",
        ERROR,
        "200, some content (`after` events), then an error event.",
    ),
    answer(
        Fault::GiantEvent,
        "giant-event",
        &["size", "after"],
        "One content event of `size` (4MiB).",
    ),
    answer(
        Fault::GiantHeaders,
        "giant-headers",
        &["size", "count"],
        "`count` (100) headers of together `size` (256KiB).",
    ),
    answer(
        Fault::InvalidUtf8,
        "invalid-utf8",
        &["after"],
        "Bytes in the text that are not UTF-8.",
    ),
    answer(
        Fault::Interim,
        "interim",
        &["status", "count"],
        "`count` (1) answers 103 or 102 before the final one.",
    ),
    answer(
        Fault::Gzip,
        "gzip",
        &[],
        "content-encoding: gzip, asked for or not.",
    ),
    answer(
        Fault::LengthAndChunked,
        "length-and-chunked",
        &[],
        "content-length and chunked together.",
    ),
    answer(
        Fault::Trailers,
        "trailers",
        &[],
        "Chunked, with trailer fields.",
    ),
    answer(
        Fault::BadHead,
        "bad-head",
        &["kind"],
        "kind=status-line|two-lengths|bad-length|negative-length|unknown-coding|nul|space-before-colon|folded|garbage.",
    ),
    answer(
        Fault::CloseIdle,
        "close-idle",
        &["for"],
        "A healthy answer, then FIN on the idle connection after `for` (0).",
    ),
    answer(Fault::Empty, "empty", &[], "200 without a byte of body."),
    answer(
        Fault::Json,
        "json",
        &[],
        "JSON although a stream was asked for.",
    ),
    bare(
        Fault::Raw,
        "raw",
        &["headers-after", "bytes"],
        "The given bytes (percent-encoded), then FIN.",
    ),
];
