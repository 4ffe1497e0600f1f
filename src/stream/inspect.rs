//! Reading an error's body without losing it.
//!
//! The status alone cannot triage: 429 means "slow down" or "your money is gone", and only the body
//! says which. What was read is put back in front of the rest, compressed as it came.

use std::{collections::VecDeque, io::Read as _, time::Duration};

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http_body_util::BodyExt as _;

use super::coding::Coding;
use crate::{
    dialect::errors::{self, ErrorSignal},
    upstream::AnswerBody,
};

/// Errors are small; what lies beyond is passed on unread.
const MAX_ERROR: usize = 64 * 1024;

/// A vendor that cannot finish its error in this time is judged by its status.
const ERROR_TIME: Duration = Duration::from_secs(5);

/// The beginning of an error's body, and what it says.
pub(super) struct Inspected {
    pub(super) read: VecDeque<Bytes>,
    pub(super) signal: Option<ErrorSignal>,
    /// It broke: hyper tells that once, so it must be kept, or the rest would look like a clean end.
    pub(super) is_cut: bool,
}

/// Reads up to `MAX_ERROR` bytes of `body` and looks for a vendor's error in them.
pub(super) async fn read_error(headers: &HeaderMap, body: &mut AnswerBody) -> Inspected {
    let mut read = VecDeque::new();
    let (mut len, mut is_cut) = (0, false);
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                is_cut = true;
                break;
            };
            let Ok(data) = frame.into_data() else { break };
            len += data.len();
            read.push_back(data);
            if len >= MAX_ERROR {
                break;
            }
        }
    };
    // On a timeout the judgement is made from what has come so far.
    let _ = tokio::time::timeout(ERROR_TIME, reading).await;
    let joined: Vec<u8> = read.iter().flatten().copied().take(MAX_ERROR).collect();
    Inspected {
        signal: plain(headers, joined).as_deref().and_then(errors::read),
        read,
        is_cut,
    }
}

/// The body in clear text. SDKs ask for gzip and deflate, so vendors send their errors in them.
pub(super) fn plain(headers: &HeaderMap, body: Vec<u8>) -> Option<Vec<u8>> {
    let mut clear = Vec::new();
    // A truncated or damaged stream still gives what was decoded before the damage.
    let limit = MAX_ERROR as u64;
    match Coding::of(headers)? {
        Coding::Identity => return Some(body),
        Coding::Gzip => drop(
            GzDecoder::new(body.as_slice())
                .take(limit)
                .read_to_end(&mut clear),
        ),
        Coding::Deflate => drop(
            ZlibDecoder::new(body.as_slice())
                .take(limit)
                .read_to_end(&mut clear),
        ),
    }
    Some(clear)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::header;

    use super::*;

    const ERROR: &[u8] = br#"{"error":{"code":"insufficient_quota"}}"#;

    fn coded(coding: &'static str, body: Vec<u8>) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_ENCODING,
            http::HeaderValue::from_static(coding),
        );
        plain(&headers, body)
    }

    #[test]
    fn errors_are_read_in_the_codings_that_sdks_ask_for() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(ERROR).unwrap();
        assert_eq!(coded("GZIP", gzip.finish().unwrap()).unwrap(), ERROR);
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(ERROR).unwrap();
        assert_eq!(coded("deflate", deflate.finish().unwrap()).unwrap(), ERROR);
        assert_eq!(plain(&HeaderMap::new(), ERROR.to_vec()).unwrap(), ERROR);
        assert_eq!(
            coded("br", ERROR.to_vec()),
            None,
            "an unknown coding is not guessed at"
        );
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 50 * MAX_ERROR]).unwrap();
        assert_eq!(
            coded("gzip", bomb.finish().unwrap()).unwrap().len(),
            MAX_ERROR
        );
    }
}
