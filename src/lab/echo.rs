//! `/echo/…`: a report of the request, as the lab received it.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::body::Body;
use super::head::Head;
use super::record::latin1;

/// What `/echo` tells. Bytes that are not ASCII appear as the characters U+0080 to U+00FF.
#[derive(Debug, Serialize)]
struct Report {
    method: String,
    /// The request target, byte for byte.
    target: String,
    version: String,
    /// Names and values in the order of arrival.
    headers: Vec<(String, String)>,
    /// The lines of the head, request line first, without their line ends.
    lines: Vec<String>,
    body_length: usize,
    body_sha256: String,
    trailers: Vec<String>,
}

/// The report as JSON.
pub(super) fn report(head: &Head, body: &Body<'_>) -> String {
    let lines = latin1(&head.raw);
    let report = Report {
        method: head.method.clone(),
        target: head.target.clone(),
        version: format!("HTTP/1.{}", head.minor_version),
        headers: head
            .fields
            .iter()
            .map(|(name, value)| (latin1(name), latin1(value)))
            .collect(),
        lines: lines
            .split("\r\n")
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect(),
        body_length: body.bytes.len(),
        body_sha256: sha256(&body.bytes),
        trailers: body.trailers.iter().map(|line| latin1(line)).collect(),
    };
    to_json(&report)
}

/// The hexadecimal SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// JSON of one of the lab's own reports.
pub(super) fn to_json(report: &impl Serialize) -> String {
    serde_json::to_string(report).expect("reports have text keys and no fallible values")
}
