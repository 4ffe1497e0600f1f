//! The log as JSON lines, written straight into one buffer.
//!
//! Every request leaves a line, so writing one is part of the cost of a request. The general formatter of
//! `tracing-subscriber` builds a map for each event and passes every value through several layers of formatting; that
//! was a sixth of all instructions of a plain request (counted with callgrind). This layer writes the same line, field
//! by field, into a buffer that its thread keeps, and hands it to the queue of the thread that writes.
//!
//! Waking that thread for each line would cost a system call and a change of threads a request, so a thread can
//! [`gather`] its lines: they leave together before it sleeps, when a few pages are full, or with a line that tells of
//! trouble. No line waits for another request.
//!
//! The line that every request leaves does not even pass through `tracing`, which carries thirty fields to their visitor
//! one by one, most of them absent: [`put_info`] writes it where it is. Whoever writes one so asks `tracing::enabled!`
//! before, so that the operator's filter holds for it as for all others.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::Context,
};

use super::log_queue::LogQueue;
use crate::dialect::json_plain;

/// A line longer than this gives its memory back.
const KEPT: usize = 16 * 1024;

/// The line of a request is about this long.
const USUAL: usize = 640;

/// Gathered lines leave when they are this many bytes.
const FULL: usize = 8 * 1024;

/// The lines of one thread that have not left.
struct Lines {
    text: String,
    clock: Clock,
    /// Known from the first line on.
    queue: Option<LogQueue>,
    /// Whether they may stay until the thread sleeps.
    are_gathered: bool,
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines::EMPTY) };
}

impl Lines {
    const EMPTY: Self = Self {
        text: String::new(),
        clock: Clock::UNREAD,
        queue: None,
        are_gathered: false,
    };

    /// Appends a line with these fields.
    fn line(&mut self, level: Level, target: &str, fields: impl FnOnce(&mut Fields<'_>)) {
        let Self { text, clock, .. } = self;
        text.reserve(USUAL);
        text.push_str("{\"timestamp\":\"");
        clock.push_now(text);
        text.push_str("\",\"level\":\"");
        text.push_str(level.as_str());
        text.push('"');
        fields(&mut Fields(text));
        text.push_str(",\"target\":");
        push_text(text, target);
        text.push_str("}\n");
    }

    /// After a line: hands on what has to leave now.
    fn may_leave(&mut self, is_trouble: bool) {
        if is_trouble || !self.are_gathered || self.text.len() >= FULL {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if !self.text.is_empty() {
            if let Some(queue) = &self.queue {
                queue.push(self.text.as_bytes());
            }
            self.text.clear();
            self.text.shrink_to(KEPT);
        }
    }
}

/// However its thread ends, what it had to say is said.
impl Drop for Lines {
    fn drop(&mut self) {
        self.leave();
    }
}

/// From now on the lines of this thread may leave together. It has to call [`flush`] whenever it is about to sleep.
pub(super) fn gather() {
    LINES.with_borrow_mut(|lines| lines.are_gathered = true);
}

/// Hands on what this thread has gathered.
pub(super) fn flush() {
    LINES.with_borrow_mut(Lines::leave);
}

/// Where lines go, once the log of the process is one of such lines.
static LOG: OnceLock<LogQueue> = OnceLock::new();

/// From now on [`put_info`] writes to `queue`.
pub(super) fn are_the_log(queue: &LogQueue) {
    // A process has one log; a second start fails before it comes here.
    let _ = LOG.set(queue.clone());
}

/// Takes the fields of a line, in their order.
pub(super) trait Put {
    /// A text.
    fn text(&mut self, name: &'static str, value: &str);

    /// A number.
    fn number(&mut self, name: &'static str, value: u64);

    /// A yes or no.
    fn flag(&mut self, name: &'static str, value: bool);

    /// A text that may be absent, and is left out then.
    fn some_text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A number that may be absent.
    fn some_number(&mut self, name: &'static str, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.number(name, value.into());
        }
    }
}

/// Writes a line at the level `info`, if the log is one of such lines; tells whether it is.
///
/// `fields` must write no line of its own.
pub(super) fn put_info(target: &str, message: &str, fields: impl FnOnce(&mut Fields<'_>)) -> bool {
    let Some(queue) = LOG.get() else {
        return false;
    };
    LINES.with_borrow_mut(|lines| {
        lines.queue.get_or_insert_with(|| queue.clone());
        lines.line(Level::INFO, target, |line| {
            line.text("message", message);
            fields(line);
        });
        lines.may_leave(false);
    });
    true
}

/// Writes events as lines: `timestamp`, `level`, the event's own fields, `target`.
#[derive(Clone, Debug)]
pub(super) struct JsonLines(pub(super) LogQueue);

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        LINES.with(|lines| {
            // A line about what happened while another one was written, as a panic in it would be: there is no place for
            // it, and a second panic in the hook of the first would end the process.
            let Ok(mut lines) = lines.try_borrow_mut() else {
                return;
            };
            lines.queue.get_or_insert_with(|| self.0.clone());
            let about = event.metadata();
            lines.line(*about.level(), about.target(), |line| event.record(line));
            lines.may_leave(*about.level() <= Level::WARN);
        });
    }
}

/// The time of day as text. Its date and second are made once a second.
struct Clock {
    /// Since 1970.
    second: u64,
    /// As far as the point before the fraction.
    text: String,
}

impl Clock {
    const UNREAD: Self = Self {
        second: u64::MAX,
        text: String::new(),
    };

    fn push_now(&mut self, line: &mut String) {
        let now = loop {
            let now = since_1970();
            if now.as_secs() == self.second {
                break now;
            }
            self.read();
        };
        line.push_str(&self.text);
        // With a digit in front that is cut off, the fraction keeps its zeros.
        let fraction = 1_000_000 + now.subsec_micros();
        line.push_str(&itoa::Buffer::new().format(fraction)[1..]);
        line.push('Z');
    }

    /// Reads until the second has not changed meanwhile.
    fn read(&mut self) {
        const TO_THE_POINT: usize = "2026-01-01T00:00:00.".len();
        loop {
            let second = since_1970().as_secs();
            self.text.clear();
            // Writing to a string cannot fail.
            let _ = SystemTime.format_time(&mut Writer::new(&mut self.text));
            self.text.truncate(TO_THE_POINT);
            if since_1970().as_secs() == second {
                self.second = second;
                return;
            }
        }
    }
}

/// A clock before 1970 stands still.
fn since_1970() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Appends each field that it is shown.
pub(super) struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    /// A field's name is a word of the source code: there is nothing in it to escape.
    fn word(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn name(&mut self, field: &Field) {
        self.word(field.name());
    }

    fn whole(&mut self, field: &Field, value: impl itoa::Integer) {
        self.name(field);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.0, "{value}");
    }
}

impl Put for Fields<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.word(name);
        push_text(self.0, value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.word(name);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.word(name);
        self.0.push_str(if value { "true" } else { "false" });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        push_text(self.0, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.whole(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.whole(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.name(field);
            self.0.push_str("null"); // JSON knows no other number for it
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.0.push('"');
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }
}

fn push_text(line: &mut String, text: &str) {
    line.push('"');
    let _ = Escaped(line).write_str(text);
    line.push('"');
}

/// Escapes what a JSON string must not hold as it is (RFC 8259 §7).
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        loop {
            // The byte that follows is never part of a longer character, so both sides stay text.
            let (plain, special) = rest.split_at(json_plain(rest.as_bytes()));
            self.0.push_str(plain);
            let Some(byte) = special.bytes().next() else {
                return Ok(());
            };
            match byte {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                other => write!(self.0, "\\u{other:04x}")?,
            }
            rest = &special[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::prelude::*;

    use super::*;

    /// The same lines, kept instead of written.
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (mut lines, about) = (Lines::EMPTY, event.metadata());
            lines.line(*about.level(), about.target(), |line| event.record(line));
            self.0.lock().unwrap().push(std::mem::take(&mut lines.text));
        }
    }

    fn lines(events: impl FnOnce()) -> Vec<Value> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Kept(kept.clone()));
        tracing::subscriber::with_default(subscriber, events);
        let lines = kept.lock().unwrap();
        let parsed = lines.iter().map(|line| {
            assert!(line.ends_with("}\n"), "{line}");
            serde_json::from_str(line).unwrap()
        });
        parsed.collect()
    }

    #[test]
    fn a_line_has_its_time_its_level_its_fields_and_where_it_comes_from() {
        let seen = lines(|| {
            tracing::info!(
                name = "a",
                count = 3_u64,
                part = 0.5,
                below = -1,
                yes = true,
                none = Option::<u64>::None,
                some = Some("x"),
                endless = f64::INFINITY,
                told = ?"q\"",
                shown = %"two words",
                "well {}",
                "done"
            );
        });
        let line = &seen[0];
        let time = line["timestamp"].as_str().unwrap();
        assert!(
            time.ends_with('Z') && time.contains('T') && time.len() >= 20,
            "{time}"
        );
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "well done");
        assert_eq!(line["target"], module_path!());
        let fields = json!({
            "name": "a", "count": 3, "part": 0.5, "below": -1, "yes": true, "some": "x", "endless": null,
            "told": "\"q\\\"\"", "shown": "two words",
        });
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(&line[name], value, "{name}");
        }
        assert!(line.get("none").is_none(), "what is not there has no field");
    }

    #[test]
    fn a_line_that_is_put_has_its_fields_in_their_order() {
        let mut lines = Lines::EMPTY;
        lines.line(Level::INFO, "a::b", |line| {
            line.text("message", "two \"words\"");
            line.some_text("absent", None);
            line.some_text("there", Some("x"));
            line.number("count", u64::MAX);
            line.some_number("none", None::<u16>);
            line.some_number("status", Some(200_u16));
            line.flag("yes", true);
        });
        let fields = r#","level":"INFO","message":"two \"words\"","there":"x","count":18446744073709551615,"status":200,"yes":true,"target":"a::b"}"#;
        let (time, rest) = lines
            .text
            .split_at(r#"{"timestamp":"2026-01-01T00:00:00.000000Z""#.len());
        assert!(time.ends_with("Z\""), "{time}");
        assert_eq!(rest.trim_end(), fields);
        lines.text.clear(); // there is nowhere to hand it to
    }

    #[test]
    fn the_time_of_a_line_is_that_of_the_clock_and_never_goes_back() {
        let mut clock = Clock::UNREAD;
        let mut before = String::new();
        let began = since_1970();
        while since_1970().saturating_sub(began) < Duration::from_millis(1_100) {
            let mut now = String::new();
            clock.push_now(&mut now);
            assert_eq!(now.len(), "2026-01-01T00:00:00.000000Z".len());
            assert!(before <= now, "{before} {now}");
            let mut plain = String::new();
            SystemTime
                .format_time(&mut Writer::new(&mut plain))
                .expect("a string");
            assert!(now <= plain, "{now} {plain}");
            before = now;
        }
    }

    proptest! {
        #[test]
        fn whatever_a_text_holds_the_line_stays_one_line_of_json(text in any::<String>()) {
            let seen = lines(|| tracing::warn!(text, shown = %text, "{text}"));
            prop_assert_eq!(&seen[0]["text"], &text);
            prop_assert_eq!(&seen[0]["shown"], &text);
            prop_assert_eq!(&seen[0]["message"], &text);
        }

        #[test]
        fn no_text_breaks_a_line(text in "[\\x00-\\x7f]{0,64}") {
            let mut line = String::new();
            push_text(&mut line, &text);
            prop_assert!(!line.bytes().any(|byte| byte < 0x20));
        }
    }
}
