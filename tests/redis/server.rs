//! A Redis server of one's own: started, frozen, killed, back again.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use surgetank::config::Store;
use tokio::time::Instant;

/// The longest wait for anything that should come at once. Long, because a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; its process and its files end with it.
pub(crate) struct Server {
    port: u16,
    directory: PathBuf,
    extra: Vec<String>,
    process: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further arguments; `DIR` in them stands for its directory.
    pub(crate) async fn with(extra: &[&str]) -> Self {
        Self::prepared(extra, |_| ()).await
    }

    /// As [`Server::with`], after `prepare` has put files into its directory.
    pub(crate) async fn prepared(extra: &[&str], mut prepare: impl FnMut(&Path)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("surgetank-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory of this test's own");
        prepare(&directory);
        let home = directory.display().to_string();
        let extra: Vec<_> = extra.iter().map(|arg| arg.replace("DIR", &home)).collect();
        // A port that was free a moment ago may be taken now: then another.
        for _ in 0..10 {
            let port = free_port();
            let mut server = Self {
                port,
                process: spawn(port, &directory, &extra),
                directory: directory.clone(),
                extra: extra.clone(),
            };
            if server.answers().await {
                return server;
            }
            drop(server);
            // It took its directory with it.
            fs::create_dir(&directory).expect("a directory of this test's own");
            prepare(&directory);
        }
        panic!("redis-server did not start; its directory is {home}")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn store(&self) -> Store {
        Store::at(self.url())
    }

    /// Takes the process away at once, as an out-of-memory killer does.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port; it has forgotten everything.
    pub(crate) async fn back(&mut self) {
        self.process = spawn(self.port, &self.directory, &self.extra);
        assert!(self.answers().await, "redis-server is back");
    }

    /// Stops the process where it is: connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status();
        assert!(done.expect("kill is everywhere").success());
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli comes with redis-server");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What its files hold.
    pub(crate) fn files(&self) -> Vec<u8> {
        fn below(folder: &Path, all: &mut Vec<u8>) {
            for entry in fs::read_dir(folder).expect("its directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    below(&path, all);
                } else {
                    all.extend(fs::read(&path).expect("a file"));
                }
            }
        }
        let mut all = Vec::new();
        below(&self.directory, &mut all);
        all
    }

    /// Whether it takes connections within a few seconds; not if the process has ended.
    async fn answers(&mut self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if TcpStream::connect(self.address()).is_ok() {
                return true;
            }
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &Path, extra: &[String]) -> Child {
    let port = port.to_string();
    // A server with certificates listens with them alone.
    let listen = if extra.iter().any(|arg| arg == "--tls-cert-file") {
        ["--port", "0", "--tls-port", &port]
    } else {
        ["--bind", "127.0.0.1", "--port", &port]
    };
    Command::new("redis-server")
        .args(listen)
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(extra)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed; tests/run redis does it")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
