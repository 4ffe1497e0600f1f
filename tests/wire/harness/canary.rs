//! A word that nobody else uses, and where it must not turn up.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use base64::Engine as _;

use super::{Answer, Caller, Head, Process, Request, find};

/// A word that stands in secrets of a test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canary(pub(crate) &'static str);

impl Canary {
    /// The word itself, and the ways in which it is written in transit.
    fn spellings(self) -> Vec<String> {
        let Self(word) = self;
        // Base64 has three ways to begin a word; the middle of each is its own.
        let coded = ["", "-", "--"].map(|before| {
            let coded = base64::engine::general_purpose::STANDARD.encode(format!("{before}{word}"));
            coded[4..16].to_owned()
        });
        let mut all = vec![word.to_owned(), word.replace('-', "%2D")];
        all.extend([word.to_uppercase(), word.replace('-', "\\u002d")]);
        all.extend([word.bytes().map(|byte| format!("{byte:02x}")).collect()]);
        all.extend(coded);
        all
    }

    /// Where a spelling of the word stands in these bytes, and which.
    pub(crate) fn betrayed(self, bytes: &[u8]) -> Option<(usize, String)> {
        let spellings = self.spellings().into_iter();
        let mut found =
            spellings.filter_map(|spelling| Some((find(bytes, spelling.as_bytes())?, spelling)));
        found.next()
    }

    #[track_caller]
    pub(crate) fn is_not_in(self, what: &str, bytes: &[u8]) {
        if let Some((at, spelling)) = self.betrayed(bytes) {
            let around = &bytes[at.saturating_sub(300)..(at + 100).min(bytes.len())];
            panic!("{spelling} in {what}: {}", String::from_utf8_lossy(around));
        }
    }

    /// Nor in any file below `folder` but those of these names, into which the test has put it.
    pub(crate) fn is_in_no_file(self, folder: &Path, but: &[&str]) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path.is_dir() {
                self.is_in_no_file(&path, but);
            } else if name.is_some_and(|name| !but.contains(&name)) {
                let content = std::fs::read(&path).expect("a file");
                self.is_not_in(&path.display().to_string(), &content);
            }
        }
    }

    /// Nor in what a running process shows of itself without being asked.
    pub(crate) fn is_not_shown_by(self, pid: u32) {
        for file in ["cmdline", "environ", "comm", "status"] {
            let shown = std::fs::read(format!("/proc/{pid}/{file}")).expect("it runs");
            self.is_not_in(file, &shown);
        }
    }

    /// Nor in anything that its operator's port says.
    pub(crate) async fn is_not_told_by(self, process: &Process) {
        for path in [
            "/",
            "/metrics",
            "/api/state",
            "/healthz",
            "/readyz",
            "/nowhere",
        ] {
            self.is_not_in_answer(path, &process.ask(path).await);
        }
        let mut watcher = Caller::connect(process.admin).await;
        watcher.send(Request::get("/api/events").bytes()).await;
        watcher.head().await;
        watcher.wire.through(b"event: state\ndata: ").await;
        let event = watcher.wire.through(b"\n\n").await;
        self.is_not_in("/api/events", &event);
    }

    #[track_caller]
    pub(crate) fn is_not_in_answer(self, what: &str, answer: &Answer) {
        self.is_not_in_head(what, &answer.head);
        self.is_not_in(what, &answer.body);
    }

    #[track_caller]
    pub(crate) fn is_not_in_head(self, what: &str, head: &Head) {
        // Values are bytes, which `Debug` would show as numbers.
        let lines = [vec![head.start.clone()], head.lines_without(&[])].concat();
        self.is_not_in(what, lines.join("\n").as_bytes());
    }
}

/// A crash would write no memory to a file.
pub(crate) fn leaves_no_core(pid: u32) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let mut lines = limits.lines();
    let core = lines.find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{words:?}");
}

/// Who may read and write a file, as `ls` and `chmod` have it.
pub(crate) fn mode_of(path: &Path) -> u32 {
    let about = std::fs::metadata(path).expect("a file");
    about.permissions().mode() & 0o777
}
