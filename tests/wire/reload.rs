//! Another configuration while requests run: new ones meet it, running ones do not, and nothing learned is lost.

use std::{path::PathBuf, sync::Arc, time::Duration};

use surgetank::{
    config::Config,
    reload::{self, Loaded, Prints, Source},
};
use tokio::{task::JoinSet, time::Instant};

use super::harness::{
    Answer, Caller, End, Folder, Origin, Recipe, Request, Rig, Tank, Tongue, env, soon, until,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const LAST: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn a_running_stream_ends_under_the_rules_it_began_with() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let tank = Recipe::over(&old.url()).start();
    let mut caller = tank.caller().await;
    caller.send(Tongue::Chat.stream().bytes()).await;
    let mut upstream = old.accept().await;
    upstream.request().await;
    upstream.begin_stream().await;
    upstream.send_chunk(EVENT).await;
    caller.wire.through(EVENT.as_bytes()).await;

    let unchangeable = tank.reload(&Recipe::over(&new.url()).yaml(""));
    assert_eq!(unchangeable, Vec::<&str>::new());
    let second = tokio::spawn({
        let addr = tank.addr;
        async move {
            Caller::connect(addr)
                .await
                .call(&Tongue::Chat.plain())
                .await
        }
    });
    let mut other = new.accept().await;
    other.request().await;
    other.send_json("{}").await;
    assert_eq!(second.await.expect("it ends").status, 200);

    upstream.send_chunk(EVENT.to_owned() + LAST).await;
    upstream.end_chunks().await;
    caller.wire.through(LAST.as_bytes()).await;
    tank.at_rest().await;
    assert_eq!(tank.outcomes("served"), 2);
}

#[tokio::test]
async fn a_request_that_waits_for_its_retry_tries_where_it_began() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let recipe = Recipe::over(&old.url()).retry("max_retries: 1");
    let tank = recipe.start();
    let mut caller = tank.caller().await;
    caller.send(Tongue::Chat.plain().bytes()).await;
    let mut upstream = old.accept().await;
    upstream.request().await;
    tank.reload(&Recipe::over(&new.url()).retry("max_retries: 0").yaml(""));
    upstream
        .send("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n")
        .await;
    upstream.request().await;
    upstream.send_json("{}").await;
    let answer = caller.answer().await;
    assert_eq!(
        (answer.status, answer.number("x-surgetank-attempts")),
        (200, 2)
    );
}

#[tokio::test]
async fn connections_to_an_upstream_outlive_the_rules() {
    let origin = Origin::start().await;
    let tank = Recipe::over(&origin.url()).start();
    let mut caller = tank.caller().await;
    let mut upstream = None;
    for round in 0..4 {
        caller.send(Tongue::Chat.plain().bytes()).await;
        // Accepted once: every later request must come over the same connection.
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            none => none.insert(origin.accept().await),
        };
        upstream.request().await;
        upstream.send_json("{}").await;
        assert_eq!(caller.answer().await.status, 200);
        let reply = format!("[ {{ reply: 'in round {round}' }} ]");
        tank.reload(&Recipe::over(&origin.url()).fallback(&reply).yaml(""));
    }
}

#[tokio::test]
async fn a_closed_gate_stays_closed_and_an_upstream_of_another_name_finds_its_own_open() {
    let rig = Rig::with(|recipe| recipe.retry("max_retries: 0, patience: 1s"));
    let recipe = |url: &str| Recipe::over(url).retry("max_retries: 0, patience: 1s");
    let request = || Tongue::Chat.plain();
    rig.lab.script("429;retry-after=30").expect("a script");
    let first = rig.tank.call(&request()).await;
    assert_eq!((first.status, rig.lab.stats().requests), (429, 1));
    let url = rig.lab.url();
    for yaml in [
        recipe(&url).fallback("[ { reply: 'later' } ]").yaml(""),
        recipe(&url).upstream("quota_share: 0.5").yaml(""),
        recipe(&url).retry("hint_cap: 50s").yaml(""),
        recipe(&url).timeouts("connect: 1s").yaml(""),
    ] {
        rig.tank.reload(&yaml);
        let held = rig.tank.call(&request()).await;
        let waiting = rig.tank.metric("surgetank_lane_refused_total", &[]);
        assert!(
            held.status != 200 || held.head.has("x-surgetank-fallback"),
            "{held:?}"
        );
        assert!(waiting > 0.0, "the lane refused it");
        assert_eq!(
            rig.lab.stats().requests,
            1,
            "nothing reached the upstream: {yaml}"
        );
    }
    let renamed = recipe(&url).yaml("").replace("lab:", "other:");
    rig.tank
        .reload(&renamed.replace("upstream: lab", "upstream: other"));
    assert_eq!(rig.tank.call(&request()).await.status, 200);
}

#[tokio::test]
async fn what_users_have_used_counts_as_long_as_their_limit_is_the_same() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let limits = |count: u32| {
        format!("limits: {{ per_user: {{ requests: {count}/h, when_exceeded: reject }} }}")
    };
    let tank = Recipe::over(&lab.url()).start_with(&limits(2));
    let statuses = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(tank.call(&Tongue::Chat.plain()).await.status);
        }
        statuses
    };
    assert_eq!(statuses(2).await, [200, 200]);
    let other_reply = Recipe::over(&lab.url()).fallback("[ { reply: 'later' } ]");
    tank.reload(&other_reply.yaml(&limits(2)));
    assert_eq!(statuses(1).await, [429], "nothing was forgotten");
    tank.reload(&other_reply.yaml(&limits(3)));
    assert_eq!(
        statuses(4).await,
        [200, 200, 200, 429],
        "another limit begins anew"
    );
    tank.reload(&other_reply.yaml(""));
    assert_eq!(statuses(1).await, [200]);
}

#[tokio::test]
async fn what_cannot_change_is_named() {
    let rig = Rig::start();
    let yaml = Recipe::over(&rig.lab.url())
        .workers(3)
        .yaml("telemetry: { log: json }")
        .replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:1");
    assert_eq!(
        rig.tank.reload(&yaml),
        ["listen", "server.workers", "telemetry.log"]
    );
}

/// A configuration file on disk, as `surgetank run` follows it.
struct OnDisk {
    path: PathBuf,
}

impl Source for OnDisk {
    fn load(&self) -> Loaded {
        let mut prints = Prints::default();
        prints.take(&self.path);
        let config = Config::load(&self.path, &env);
        for file in config.iter().flat_map(Config::files) {
            prints.take(file);
        }
        let config = config.map_err(|problems| problems.to_string());
        Loaded { prints, config }
    }

    fn variable(&self, name: &str) -> Option<String> {
        env(name)
    }
}

/// A proxy that follows a file.
struct Following {
    tank: Tank,
    watching: tokio::task::JoinHandle<()>,
}

impl Following {
    fn start(path: PathBuf) -> Self {
        let source = OnDisk { path };
        let Loaded { prints, config } = source.load();
        config.expect("a good configuration at first");
        let yaml = std::fs::read_to_string(&source.path).expect("the file");
        let tank = Tank::from_yaml(&yaml);
        let following = reload::follow(tank.proxy.clone(), Arc::new(source), prints);
        let watching = tokio::spawn(following);
        Self { tank, watching }
    }

    fn reloads(&self, result: &str) -> u64 {
        self.tank
            .count("surgetank_config_reloads_total", &[("result", result)])
    }

    async fn after(&self, successes: u64, failures: u64) {
        until("the change is seen", || {
            (self.reloads("success"), self.reloads("failure")) == (successes, failures)
        })
        .await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn replying(text: &str) -> String {
    Recipe::over("http://127.0.0.1:9")
        .retry("max_retries: 0")
        .fallback(&format!("[ {{ reply: '{text}' }} ]"))
        .yaml("")
}

async fn reply_of(tank: &Tank) -> String {
    let answer = tank.call(&Tongue::Chat.plain()).await;
    Tongue::Chat.text_of_answer(&answer.json())
}

#[tokio::test]
async fn a_file_that_is_written_replaced_or_swapped_by_its_link_is_followed() {
    let folder = Folder::new();
    // The shape of a mounted ConfigMap: name -> ..data/name, ..data -> the folder of one version.
    for version in ["v1", "v2", "v3"] {
        std::fs::create_dir(folder.path(format!("..{version}"))).expect("a folder");
        folder.write(&format!("..{version}/surgetank.yaml"), &replying(version));
    }
    folder.swap_link("..data", "..v1");
    folder.swap_link("surgetank.yaml", "..data/surgetank.yaml");
    let following = Following::start(folder.path("surgetank.yaml"));
    assert_eq!(reply_of(&following.tank).await, "v1");
    for (count, version) in [(1, "v2"), (2, "v3")] {
        folder.swap_link("..data", &format!("..{version}"));
        following.after(count, 0).await;
        assert_eq!(reply_of(&following.tank).await, version);
    }

    let plain = Folder::new();
    let path = plain.write("surgetank.yaml", &replying("written"));
    let following = Following::start(path.clone());
    plain.write("surgetank.yaml", &replying("moved here"));
    following.after(1, 0).await;
    assert_eq!(reply_of(&following.tank).await, "moved here");
    // The same content again is no change, and neither is our own reading of it.
    plain.write("surgetank.yaml", &replying("moved here"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(
        (following.reloads("success"), following.reloads("failure")),
        (1, 0)
    );
    following.tank.proxy.reload_bell().ring();
    following.after(2, 0).await;
    // In place, as a shell writes: half of it may be read, which must mend itself.
    std::fs::write(path, replying("written here")).expect("a write");
    until("the change is seen", || following.reloads("success") == 3).await;
    assert_eq!(reply_of(&following.tank).await, "written here");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_file_the_old_rules_go_on() {
    let folder = Folder::new();
    let path = folder.write("surgetank.yaml", &replying("good"));
    let following = Following::start(path.clone());
    let good_since = following.tank.metric(
        "surgetank_config_last_reload_success_timestamp_seconds",
        &[],
    );
    assert!(good_since > 1.7e9);
    let missing_key = replying("x").replace(
        "base_url: 'http://127.0.0.1:9'",
        &format!(
            "base_url: 'http://127.0.0.1:9', credential: {{ file: '{}' }}",
            folder.path("key").display()
        ),
    );
    let half = &replying("x")[..120];
    let broken = [
        "",
        "{",
        "retri: {}",
        "listen: nowhere",
        "listen: [",
        "a: b: c",
        half,
        "fallback: []\nfallback: []",
        "limits: { per_user: { requests: 60/fortnight } }",
        "upstreams: { a: { base_url: 'http://a', credential: { env: NOT_SET } } }",
        "upstreams: {}",
        "routes: [ { upstream: nobody } ]",
        &missing_key,
    ];
    let is_good = || {
        following
            .tank
            .metric("surgetank_config_last_reload_successful", &[])
    };
    assert!(is_good() > 0.0);
    for (count, content) in (1..).zip(broken) {
        folder.write("surgetank.yaml", content);
        following.after(0, count).await;
        assert_eq!(reply_of(&following.tank).await, "good", "{content}");
        assert!(is_good() < 1.0);
    }
    let failed = broken.len() as u64;
    // What the last one named appears: no change of the configuration itself is needed.
    folder.write("key", "sk-new");
    following.after(1, failed).await;
    assert_eq!(reply_of(&following.tank).await, "x");
    assert!(is_good() > 0.0);
    std::fs::remove_file(&path).expect("it is there");
    following.after(1, failed + 1).await;
    assert_eq!(reply_of(&following.tank).await, "x");
}

#[tokio::test]
async fn a_rotated_key_is_sent_from_the_next_request_on() {
    let origin = Origin::start().await;
    let folder = Folder::new();
    let key = folder.write("key", "sk-one\n");
    let credential = format!("credential: {{ file: '{}' }}", key.display());
    let yaml = Recipe::over(&origin.url()).upstream(&credential).yaml("");
    let following = Following::start(folder.write("surgetank.yaml", &yaml));
    let serving =
        origin.serve(|_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()));
    assert_eq!(following.tank.call(&Tongue::Chat.plain()).await.status, 200);
    folder.write("key", "sk-two\n");
    following.after(1, 0).await;
    assert_eq!(following.tank.call(&Tongue::Chat.plain()).await.status, 200);
    let keys: Vec<_> = serving
        .seen()
        .iter()
        .map(|seen| {
            seen.head
                .one("authorization")
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(keys, ["Bearer sk-one", "Bearer sk-two"]);
}

/// How long the load below lasts; set it to 60 s for the figure in docs/operations.md.
fn load_time() -> Duration {
    let seconds = std::env::var("SURGETANK_TEST_RELOAD_SECONDS");
    let seconds = seconds.ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

fn check(answer: &Answer, is_stream: bool) {
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Whole),
        "{}",
        answer.text()
    );
    assert_eq!(answer.number("x-surgetank-attempts"), 1);
    if is_stream {
        assert!(
            answer.text().contains(Tongue::Chat.terminator()),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn reloading_ten_times_a_second_under_load_harms_nobody() {
    let lab =
        surgetank::lab::Lab::start(surgetank::lab::LabConfig::default()).expect("a free port");
    let folder = Folder::new();
    let yaml = |round: usize| {
        Recipe::over(&lab.url())
            .workers(2)
            .timeouts(&format!("connect: {}ms", 4_000 + round % 2))
            .fallback(&format!("[ {{ reply: 'version {round}' }} ]"))
            .yaml("limits: { per_user: { requests: 1000000/s, concurrent: 10000 } }")
    };
    let following = Following::start(folder.write("surgetank.yaml", &yaml(0)));
    let addr = following.tank.addr;
    let end = Instant::now() + load_time();
    let mut callers = JoinSet::new();
    for number in 0..40 {
        callers.spawn(async move {
            let (is_stream, mut served) = (number % 4 != 0, 0_u64);
            let mut caller = Caller::connect(addr).await;
            while Instant::now() < end {
                let request = if is_stream {
                    // Each lives through several reloads.
                    Tongue::Chat
                        .stream()
                        .header("x-lab-fault", "ok;interval=20ms;words=30")
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Request::get("/v1/models")
                };
                check(&caller.call(&request).await, is_stream);
                served += 1;
            }
            served
        });
    }
    let (mut ticks, mut round) = (tokio::time::interval(Duration::from_millis(100)), 0);
    while Instant::now() < end {
        ticks.tick().await;
        round += 1;
        folder.write("surgetank.yaml", &yaml(round));
        following.tank.proxy.reload_bell().ring();
    }
    let mut served = 0;
    while let Some(count) = soon("every caller ends", callers.join_next()).await {
        served += count.expect("no caller failed");
    }
    let (good, bad) = (following.reloads("success"), following.reloads("failure"));
    eprintln!("{served} answers over {good} reloads ({bad} of half-written files)");
    assert!(good >= round as u64 / 2, "{good} reloads in {round} rounds");
    assert_eq!(following.tank.outcomes("served"), served);
    following.tank.at_rest().await;
}
