//! Streams of random shape, cut at a random byte: none hangs, none ends cleanly before its end, no byte is lost or made up.
//!
//! `SURGETANK_CUTS=10000` runs the full number; otherwise as many as a change can wait for.

use std::sync::Arc;

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::task::JoinSet;

use super::harness::{End, Origin, Play, Recipe, Tank, Tongue, chunked, soon, text};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Streams that are cut at the same time.
const AT_ONCE: usize = 24;

const WORDS: [&str; 8] = [
    "a",
    "surge ",
    "Größe",
    "🌊",
    "\\\"quoted\\\"",
    "\\n\\n",
    "data: x",
    "{}[]",
];

/// A whole stream, and what is known of its places.
struct Shape {
    bytes: Vec<u8>,
    /// Where its blocks end.
    ends: Vec<usize>,
    /// Where its first content ends.
    content: usize,
    /// From where on it may end cleanly.
    finish: usize,
}

fn content(tongue: Tongue, rng: &mut impl Rng) -> String {
    let word: String = (0..rng.random_range(1..6))
        .map(|_| WORDS[rng.random_range(0..WORDS.len())])
        .collect();
    match tongue {
        Tongue::Messages => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
        ),
        Tongue::Chat => format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
        Tongue::Responses => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"delta\":\"{word}\"}}\n\n"
        ),
    }
}

impl Shape {
    fn random(tongue: Tongue, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let line = ["\n", "\r\n", "\r"][rng.random_range(0..3)];
        let events = tongue.events();
        let (before, after) = events.split_at(tongue.preamble());
        let mut blocks: Vec<String> = before.iter().map(|event| (*event).to_owned()).collect();
        for _ in 0..rng.random_range(1..20) {
            blocks.push(content(tongue, &mut rng));
            if rng.random_range(0..4) == 0 {
                blocks.push(": a comment\n\n".to_owned());
            }
        }
        blocks.extend(after.iter().map(|event| (*event).to_owned()));
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for block in &blocks {
            bytes.extend_from_slice(block.replace('\n', line).as_bytes());
            ends.push(bytes.len());
        }
        // A chat may end behind its finish reason, with or without `[DONE]`.
        let last = if tongue == Tongue::Chat { 2 } else { 1 };
        Self {
            content: ends[tongue.preamble()],
            finish: ends[ends.len() - last],
            bytes,
            ends,
        }
    }

    /// A random place; never between the CR and the LF that end a block, where both readings are right.
    fn cut(&self, rng: &mut impl Rng) -> usize {
        let at = rng.random_range(0..=self.bytes.len());
        let is_split = self.ends.contains(&(at + 1)) && self.bytes.get(at) == Some(&b'\n');
        at + usize::from(is_split)
    }
}

struct Cut {
    tongue: Tongue,
    seed: u64,
    at: usize,
    by: &'static str,
}

impl Cut {
    fn numbered(number: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(number ^ 0xc07);
        let tongue = Tongue::ALL[rng.random_range(0..3)];
        Self {
            tongue,
            seed: number,
            at: Shape::random(tongue, number).cut(&mut rng),
            by: ["fin", "reset", "clean"][rng.random_range(0..3)],
        }
    }

    /// What was wrong with what the caller saw.
    async fn wrong(&self, tank: &Tank) -> Option<String> {
        let Self {
            tongue,
            seed,
            at,
            by,
        } = self;
        let shape = Shape::random(*tongue, *seed);
        let request = tongue
            .stream()
            .header("x-cut", &at.to_string())
            .header("x-seed", &seed.to_string())
            .header("x-by", by)
            // A lane of its own: one that has failed often is asked less, and the cuts are not about that.
            .header("api-key", &seed.to_string());
        let answer = soon("an end", tank.call(&request)).await;
        let told = |what: &str| {
            let (status, end, body) = (answer.status, answer.end, text(&answer.body));
            Some(format!(
                "{tongue:?} {seed} cut by {by} at {at}: {what}: {status} {end:?} {body}"
            ))
        };
        if answer.status != 200 {
            let may_be = *at < shape.content || *by == "reset";
            return if may_be {
                None
            } else {
                told("an error after the first content")
            };
        }
        if *at < shape.content {
            return told("an answer without content");
        }
        let mark = tongue.error_mark().as_bytes();
        let ours = super::harness::find(&answer.body, mark).unwrap_or(answer.body.len());
        let (theirs, frame) = answer.body.split_at(ours);
        let sent = &shape.bytes[..*at];
        if !sent.starts_with(theirs) || (*by == "fin" && theirs != sent) {
            return told("bytes were lost or changed");
        }
        let is_clean = answer.end == End::Whole;
        if is_clean != (theirs.len() >= shape.finish) {
            return told("a wrong end");
        }
        let is_between = shape.ends.contains(&theirs.len());
        // A reset may take bytes with it, and then the place is anywhere.
        if !is_clean && is_between == frame.is_empty() && *by != "reset" {
            return told("the error event is missing, or stands inside another");
        }
        let whole = text(frame);
        if whole.matches("\n\n").count() > 1 || (!whole.is_empty() && !whole.ends_with("\n\n")) {
            return told("not one whole error event");
        }
        None
    }
}

async fn upstream() -> super::harness::Serving {
    Origin::start().await.play(|seen| {
        let number = |name: &str| -> u64 {
            let value = seen.head.one(name).and_then(|value| value.parse().ok());
            value.expect("a number")
        };
        let tongue = Tongue::ALL
            .into_iter()
            .find(|tongue| seen.head.start.contains(tongue.path()))
            .expect("a known path");
        let at = usize::try_from(number("x-cut")).expect("a place");
        let stream = Shape::random(tongue, number("x-seed")).bytes;
        let mut rng = SmallRng::seed_from_u64(at as u64);
        let (mut reply, mut rest) = (HEAD.as_bytes().to_vec(), &stream[..at]);
        while !rest.is_empty() {
            let longest = rest.len().min(rng.random_range(1..=400));
            let (piece, behind) = rest.split_at(rng.random_range(1..=longest));
            reply.extend_from_slice(&chunked(piece));
            rest = behind;
        }
        match seen.head.one("x-by") {
            Some("reset") => Play::Reset(reply),
            Some("clean") => Play::Answer([reply, b"0\r\n\r\n".to_vec()].concat()),
            _ => Play::Last(reply),
        }
    })
}

#[tokio::test]
async fn streams_of_any_shape_that_are_cut_anywhere_never_look_whole() {
    let cuts = std::env::var("SURGETANK_CUTS").map_or(500, |cuts| cuts.parse().expect("a number"));
    let origin = upstream().await;
    let recipe = Recipe::over(&origin.url()).retry("max_retries: 0");
    let tank = Arc::new(recipe.workers(2).start());
    let (mut running, mut wrong) = (JoinSet::new(), Vec::new());
    for number in 0..cuts {
        if running.len() >= AT_ONCE {
            wrong.extend(
                running
                    .join_next()
                    .await
                    .expect("one runs")
                    .expect("it ends"),
            );
        }
        let tank = tank.clone();
        running.spawn(async move { Cut::numbered(number).wrong(&tank).await });
    }
    while let Some(ended) = running.join_next().await {
        wrong.extend(ended.expect("it ends"));
    }
    let shown: Vec<_> = wrong.iter().take(5).map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "{} of {cuts}:\n{}",
        wrong.len(),
        shown.join("\n")
    );
    tank.at_rest().await;
}
