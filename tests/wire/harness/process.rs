//! The program itself, as an operator runs it.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::{Answer, Caller, Folder, Request, soon, until};

/// A running `surgetank run`. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: Folder,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    is_read: watch::Sender<bool>,
}

impl Process {
    /// Starts with this configuration file; its `listen` and `admin` have port 0.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_in(Folder::new(), yaml, &[]).await
    }

    /// Starts in a folder, with variables.
    pub(crate) async fn start_in(folder: Folder, yaml: &str, variables: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_surgetank"));
        Self::begin(program, folder, yaml, variables).await
    }

    /// As [`Process::start_in`], behind commands of a shell.
    pub(crate) async fn start_under(
        shell: &str,
        folder: Folder,
        yaml: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut program = Command::new("sh");
        program
            .arg("-c")
            .arg(format!("{shell}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_surgetank"));
        Self::begin(program, folder, yaml, variables).await
    }

    /// As [`Process::start_in`], as a user whom the system refuses what a file's permissions refuse. `places` in the folder
    /// become that user's.
    pub(crate) async fn start_unprivileged(
        folder: Folder,
        places: &[&str],
        yaml: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        const NOBODY: u32 = 65_534;
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_surgetank"));
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Self::begin(Command::new(program), folder, yaml, variables).await;
        }
        // Wherever it was built, that user may not be able to look.
        let copy = folder.path("program");
        if !copy.exists() {
            std::fs::copy(program, &copy).expect("room for a copy");
        }
        for place in places {
            let path = folder.path(place);
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let mut program = Command::new(copy);
        program.uid(NOBODY).gid(NOBODY);
        Self::begin(program, folder, yaml, variables).await
    }

    async fn begin(
        mut program: Command,
        folder: Folder,
        yaml: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let config = folder.write("surgetank.yaml", yaml);
        let mut child = program
            .arg("run")
            .arg("--config")
            .arg(config)
            .current_dir(folder.path(""))
            .env_remove("SURGETANK_LOG")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program is built with its tests");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("piped");
        let (is_read, mut may_read) = watch::channel(true);
        tokio::spawn({
            let log = log.clone();
            async move {
                let mut lines = BufReader::new(stderr).lines();
                while may_read.wait_for(|may| *may).await.is_ok()
                    && let Ok(Some(line)) = lines.next_line().await
                {
                    log.lock()
                        .expect("no test panics while it reads")
                        .push(line);
                }
            }
        });
        let mut process = Self {
            child,
            folder,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            is_read,
        };
        let mut ready = None;
        until("it says that it is ready", || {
            ready = process.said("is ready");
            ready.is_some()
        })
        .await;
        let ready = ready.expect("it has just been there");
        let addr = |key: &str| {
            let text = ready[key].as_str().unwrap_or_default();
            text.parse()
                .unwrap_or_else(|_| panic!("`{key}` of {ready}"))
        };
        (process.addr, process.admin) = (addr("listen"), addr("admin"));
        process
    }

    /// Whether anybody takes what it writes to its log.
    pub(crate) fn reads_its_log(&self, reads: bool) {
        self.is_read.send_replace(reads);
    }

    /// Its number, while it runs.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .expect("no test panics while it reads")
            .clone()
    }

    /// The first line of the log whose message holds these words.
    pub(crate) fn said(&self, words: &str) -> Option<Value> {
        let log = self.log();
        let mut lines = log
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains(words))
        })
    }

    /// Sends a signal by its name, as `kill` knows it.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.pid();
        let kill = format!("kill -{name} {pid}");
        let status = Command::new("sh").arg("-c").arg(kill).status().await;
        assert!(status.expect("a shell").success(), "{name}");
    }

    /// Kills it, and gives what it leaves behind.
    pub(crate) async fn killed(mut self) -> Folder {
        soon("its death", self.child.kill()).await.expect("it ran");
        self.folder
    }

    /// What one that has ended leaves behind.
    pub(crate) fn left(self) -> Folder {
        self.folder
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("it ends", self.child.wait()).await.expect("a status")
    }

    /// Asks the operator's port.
    pub(crate) async fn ask(&self, path: &str) -> Answer {
        Caller::connect(self.admin)
            .await
            .call(&Request::get(path))
            .await
    }

    /// The value of one series.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.ask("/metrics").await.text();
        let mut samples = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        let value = samples.find_map(|(name, value)| (name == series).then_some(value))?;
        value.parse().ok()
    }
}
