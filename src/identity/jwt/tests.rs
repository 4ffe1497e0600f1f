use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::Credential;

// The keys were made for these tests and are used nowhere else; their private halves are gone.

/// Signed with [`SECRET`].
const BY_HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiw\
    iYXVkIjpbImFwaSIsIndlYiJdLCJuYmYiOjE3OTAwMDAwMDAsImV4cCI6MTgwMDAwMDAwMCwidWlkIjo0Mn0.PyyhPJs2kE0\
    RvtcUrz6urxzbPHOwCvzUPBxN1FqgL_c";

/// Signed with the private half of [`RSA`].
const BY_RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiw\
    iYXVkIjpbImFwaSIsIndlYiJdLCJuYmYiOjE3OTAwMDAwMDAsImV4cCI6MTgwMDAwMDAwMCwidWlkIjo0Mn0.TBvfV1UqmKp\
    aYws0M-KVI0dqyelvIPYUx_ab73XEGX0VJvCnpiMAgTW5XWtSE76kNRgS_7VIe4DfcjD1TPt8CXM0PWMkTNwwNuVsLNFt50o\
    kJjx4K8W9MTFbvfHn_UuvCV8v-bWzcExT72TVbX9Braq2C5Tk8LWv3nE-egRpAHvEwJN-XFYuyeil3d_Uu_l7T4VUDdueVuy\
    DtMhHjXlpdfLit54xCtiWGn-q6KlM-2tD3qopm0pMoM8wf2QbJ0nwaRqPtiMRDwsNb_1QxYN4esbdsnee0hvTZFZLhZpwnZm\
    NDX4jJ--hHC91L5lm1b5HE_-r8ZDD9r7GbznYD9Ycvg";

/// Signed with the private half of [`EC`].
const BY_ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiw\
    iYXVkIjpbImFwaSIsIndlYiJdLCJuYmYiOjE3OTAwMDAwMDAsImV4cCI6MTgwMDAwMDAwMCwidWlkIjo0Mn0.N0-U5XDg8Ps\
    68ycOOYyRLLceUwxAryZ9DPDQRrs3lsVdF2nwCaO_l5_lCYkhQP61oc4GQ6jhDdGV8UMb53bsPg";

/// Signed with the private half of [`ED`].
const BY_EDDSA: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiw\
    iYXVkIjpbImFwaSIsIndlYiJdLCJuYmYiOjE3OTAwMDAwMDAsImV4cCI6MTgwMDAwMDAwMCwidWlkIjo0Mn0.RbFdO5iyRSr\
    4evkCUkq2fmo87GBUXSMj2GetKwZXDfWeCFUepqYiIo_Zrb6q8OYHBBqJvhROP0PEbDdvtUTyDA";

const RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwxNhMSxF21suAWf7GumH\n\
    YcA5BvplL7nDRlj4hScLcbCQZWTsdrPbHCPawLYBdp/SqgCSg7ZoeXkF00SXBGJX\n\
    u/z7N1tIzGDwSxS3flYeA0rdgZLsrpuYvp44z6OYjNae3xi8d/ktkoXbm4QUCvpe\n\
    PrwOTq6kcHcv2ltNXKQ7z9FgQXJE5LVahfFz24rctugo9TgggiPmFP3ZaTnPFZ8j\n\
    YvimCRD9F2uEnnmR9hjgd9Q7+MiElb+bLztbYG8yxH82R93fiAaxvL3sERmV/w7+\n\
    d9bVoi6rPTugNclJPXJDWMVeMpmgzhP9mJTIq5tkRI4zIxp32ypJJuvHZvW29+XN\n\
    awIDAQAB\n\
    -----END PUBLIC KEY-----";

const EC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcpe0id6uV4cMzwG9YzOVmetbSAWn\n\
    DE/Stmk+M8ulC5mnCWDIxTaJaQx/zuHr9SUecPnjhm4zvLJSWy/kToneKA==\n\
    -----END PUBLIC KEY-----";

const ED: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEADBkJyeEl/OjbGrNLQzWHhqb3X5CFD/FtLBoq/RJdoC4=\n\
    -----END PUBLIC KEY-----";

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Within the time for which the tokens are good: from 1790000000 to 1800000000.
const NOW: u64 = 1_795_000_000;

fn config(algorithm: Algorithm) -> Jwt {
    Jwt {
        key: Credential::Env("KEY".into()),
        algorithm,
        issuer: None,
        audience: None,
    }
}

fn verifier(algorithm: Algorithm, key: &str) -> Verifier {
    Verifier::new(&config(algorithm), key).expect("a sound key")
}

fn read(token: &str, verifier: Option<&Verifier>, now: u64) -> Option<String> {
    let now = UNIX_EPOCH + Duration::from_secs(now);
    claim(token.as_bytes(), "sub", verifier, now)
}

/// A token with these claims, signed with [`SECRET`].
fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn tokens_of_every_kind_are_believed_when_their_key_has_signed_them() {
    for (algorithm, key, token) in [
        (Algorithm::Hs256, SECRET, BY_HS256),
        (Algorithm::Rs256, RSA, BY_RS256),
        (Algorithm::Es256, EC, BY_ES256),
        (Algorithm::EdDsa, ED, BY_EDDSA),
    ] {
        let verifier = verifier(algorithm, key);
        let name = read(token, Some(&verifier), NOW);
        assert_eq!(name.as_deref(), Some("ann"), "{algorithm:?}");
        for other in [BY_HS256, BY_RS256, BY_ES256, BY_EDDSA] {
            let is_own = other == token;
            assert_eq!(read(other, Some(&verifier), NOW).is_some(), is_own);
        }
        let (message, _) = token.rsplit_once('.').expect("three parts");
        for forged in [
            format!("{message}."),
            format!("{message}.AAAA"),
            token.replacen("eyJ", "eyK", 2),
            token[..token.len() - 2].to_owned(),
        ] {
            assert_eq!(read(&forged, Some(&verifier), NOW), None, "{forged}");
        }
        let shown = format!("{verifier:?}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn the_algorithm_is_the_configurations_word() {
    let verifier = verifier(Algorithm::Hs256, SECRET);
    let claims = json!({ "sub": "ann" });
    let by = |header: Value| read(&signed(&header, &claims), Some(&verifier), NOW);
    assert_eq!(by(json!({ "alg": "HS256" })).as_deref(), Some("ann"));
    assert_eq!(by(json!({ "alg": "none" })), None);
    assert_eq!(by(json!({ "alg": "RS256" })), None);
    assert_eq!(by(json!({})), None);
    assert_eq!(
        by(json!({ "alg": "HS256", "crit": ["b64"], "b64": false })),
        None
    );
    // The classic: a public key, which everybody has, as the secret of an HMAC.
    assert_eq!(
        Verifier::new(&config(Algorithm::Rs256), SECRET).err(),
        Some(KeyError::Pem)
    );
}

#[test]
fn a_token_counts_in_its_time_and_for_whom_it_is_meant() {
    let verifier = verifier(Algorithm::Rs256, RSA);
    let at = |now| read(BY_RS256, Some(&verifier), now).is_some();
    assert!(at(1_790_000_000) && at(1_799_999_999));
    assert!(at(1_789_999_941) && at(1_800_000_059), "clocks differ");
    assert!(!at(1_789_999_939) && !at(1_800_000_060));

    let with = |issuer: Option<&str>, audience: Option<&str>| {
        let config = Jwt {
            issuer: issuer.map(Into::into),
            audience: audience.map(Into::into),
            ..config(Algorithm::Rs256)
        };
        let verifier = Verifier::new(&config, RSA).expect("a sound key");
        read(BY_RS256, Some(&verifier), NOW).is_some()
    };
    assert!(with(Some("https://id.example.com"), Some("web")));
    assert!(!with(Some("https://id.example.org"), None));
    assert!(!with(None, Some("admin")));

    let secret = self::verifier(Algorithm::Hs256, SECRET);
    for odd in [json!("tomorrow"), json!(null), json!({})] {
        let token = signed(
            &json!({ "alg": "HS256" }),
            &json!({ "sub": "ann", "exp": odd }),
        );
        assert_eq!(read(&token, Some(&secret), NOW), None, "{odd}");
    }
}

#[test]
fn without_a_key_a_claim_is_read_as_it_stands() {
    let forged = signed(
        &json!({ "alg": "none" }),
        &json!({ "sub": "eve", "uid": 42, "admin": true }),
    );
    let of = |name: &str| claim(forged.as_bytes(), name, None, UNIX_EPOCH);
    assert_eq!(of("sub").as_deref(), Some("eve"));
    assert_eq!(of("uid").as_deref(), Some("42"));
    assert_eq!((of("admin"), of("nobody")), (None, None));
    assert_eq!(
        read(BY_RS256, None, 0).as_deref(),
        Some("ann"),
        "nor is its time looked at"
    );
}

#[test]
fn what_is_no_token_names_nobody() {
    let long = "a".repeat(LONGEST);
    for token in [
        "",
        "sk-key",
        "a.b",
        "a.b.c",
        "..",
        "e30.e30.",
        &long,
        "e30.WzFd.AAAA",
    ] {
        assert_eq!(read(token, None, NOW), None);
    }
    assert_eq!(claim(b"\xff.\xfe.\xfd", "sub", None, UNIX_EPOCH), None);
    let empty = signed(&json!({}), &json!({ "sub": "" }));
    assert_eq!(read(&empty, None, NOW), None);
}

#[test]
fn keys_that_fit_nothing_are_refused() {
    let refused = |algorithm, key: &str| Verifier::new(&config(algorithm), key).err();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        assert_eq!(refused(algorithm, "secret"), Some(KeyError::Pem));
        let others = [
            (Algorithm::Rs256, RSA),
            (Algorithm::Es256, EC),
            (Algorithm::EdDsa, ED),
        ];
        for (_, key) in others.iter().filter(|(own, _)| *own != algorithm) {
            assert_eq!(
                refused(algorithm, key),
                Some(KeyError::Kind),
                "{algorithm:?}"
            );
        }
    }
    assert_eq!(
        refused(Algorithm::Hs256, "too short\n"),
        Some(KeyError::Short)
    );
}
