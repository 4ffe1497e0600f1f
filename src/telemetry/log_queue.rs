//! Lines of the log on their way to where they are written, which may take its time or stand still.
//!
//! Whoever reads standard error can stop reading: a full disk, a stuck collector, a paused terminal. A thread that wrote
//! there would then stand still as well, and with it every request that it serves. So lines are put into memory, up to a
//! bound, and a thread of their own writes them. What finds the memory full is dropped and counted; callers never wait.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Memory for lines that are not written yet: a second of a busy instance.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// What the writing thread keeps of its memory when a rush is over.
const KEPT_BYTES: usize = 64 * 1024;

/// The way to the thread that writes. Clones lead to the same one.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung when there is something to write.
    filled: Condvar,
    /// Rung when everything is written.
    emptied: Condvar,
    most_bytes: usize,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Lines dropped since the last that was let in.
    dropped: u64,
    /// The thread has taken lines that it has not written yet.
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. Lines wait for it in `most_bytes` of memory; `dropped` counts those that
    /// find no room.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        most_bytes: usize,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            most_bytes,
            dropped,
        });
        let writing = shared.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writing.write_to(out))?;
        Ok(Self { shared })
    }

    /// Takes whole lines, with their ends: all of them, or none. Never waits for the writer.
    pub(super) fn push(&self, lines: &[u8]) {
        let shared = &self.shared;
        let mut state = shared.state();
        if state.lines.len() + lines.len() > shared.most_bytes {
            let dropped = memchr::memchr_iter(b'\n', lines).count() as u64;
            state.dropped += dropped;
            drop(state);
            shared.dropped.inc_by(dropped);
            return;
        }
        let was_empty = state.lines.is_empty();
        state.tell_gap();
        state.lines.extend_from_slice(lines);
        drop(state);
        if was_empty {
            shared.filled.notify_one();
        }
    }

    /// Waits until everything is written, in at most `patience`. Returns whether it is.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let shared = &self.shared;
        let is_left = |state: &mut State| !state.lines.is_empty() || state.is_writing;
        let waited = shared
            .emptied
            .wait_timeout_while(shared.state(), patience, is_left);
        let waited = waited.unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

impl State {
    /// Says that lines are missing here, if any are.
    fn tell_gap(&mut self) {
        if self.dropped > 0 {
            let gap = Gap(std::mem::take(&mut self.dropped));
            // Writing to memory cannot fail.
            let _ = writeln!(self.lines, "{gap}");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does for as long as the process lives.
    fn write_to(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.state();
            state.is_writing = false;
            if state.lines.is_empty() {
                self.emptied.notify_all();
            }
            while state.lines.is_empty() {
                let filled = self.filled.wait(state);
                state = filled.unwrap_or_else(PoisonError::into_inner);
            }
            // Behind the lines that had room, also if no other ever comes.
            state.tell_gap();
            std::mem::swap(&mut state.lines, &mut taken);
            state.is_writing = true;
            drop(state);
            // There is nobody to tell that the log cannot be written.
            let _ = out.write_all(&taken);
            taken.clear();
            taken.shrink_to(KEPT_BYTES);
        }
    }
}

/// Stands in the log where lines are missing. A line of JSON, like those around it in production.
struct Gap(u64);

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            r#"{{"level":"WARN","message":"lines of the log are missing here: nobody took them in time","lines":{}}}"#,
            self.0
        )
    }
}

/// For the form that is meant for eyes: the subscriber hands over one whole line a call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "of this test").unwrap()
    }

    /// A reader that takes what is written only when it is told to.
    struct Reluctant {
        asked: mpsc::Sender<()>,
        told: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(()).map_err(io::Error::other)?;
            self.told.recv().map_err(io::Error::other)?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_their_order() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (asked, _asks) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let out = Reluctant {
            asked,
            told,
            written: written.clone(),
        };
        let queue = LogQueue::start(out, 1 << 20, counter()).unwrap();
        let mut expected = String::new();
        for number in 0..1000 {
            let line = format!("line {number}\n");
            queue.push(line.as_bytes());
            expected.push_str(&line);
            tell.send(()).unwrap();
        }
        assert!(queue.flush(PATIENCE));
        assert_eq!(String::from_utf8_lossy(&written.lock().unwrap()), expected);
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_is_told_what_it_missed() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (asked, asks) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let out = Reluctant {
            asked,
            told,
            written: written.clone(),
        };
        let dropped = counter();
        let queue = LogQueue::start(out, 100, dropped.clone()).unwrap();
        queue.push(b"the first\n");
        asks.recv_timeout(PATIENCE).unwrap();
        // From here on the thread stands in its write. Each line is 10 bytes, and 10 of them fit.
        for _ in 0..25 {
            queue.push(b"123456789\n");
        }
        assert_eq!(dropped.get(), 15);
        assert!(
            !queue.flush(Duration::from_millis(20)),
            "nothing is written"
        );
        tell.send(()).unwrap();
        asks.recv_timeout(PATIENCE).unwrap();
        tell.send(()).unwrap();
        assert!(queue.flush(PATIENCE));
        let so_far = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(
            so_far.lines().count(),
            12,
            "the gap is told also if nothing follows"
        );
        queue.push(b"again\n");
        tell.send(()).unwrap();
        assert!(queue.flush(PATIENCE));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(
            (lines.len(), lines[0], lines[10]),
            (13, "the first", "123456789")
        );
        let gap: serde_json::Value = serde_json::from_str(lines[11]).unwrap();
        assert_eq!(gap["lines"], 15);
        assert_eq!(lines[12], "again");
    }

    #[test]
    fn a_reader_that_is_gone_holds_nobody_up() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LogQueue::start(Gone, 100, counter()).unwrap();
        for _ in 0..100 {
            queue.push(b"123456789\n");
            assert!(queue.flush(PATIENCE));
        }
    }
}
