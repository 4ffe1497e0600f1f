//! `surgetank demo`: the spike, first without surgetank, then with it, in under a minute.
//!
//! Time is compressed: a second of the demo stands for half a minute of the story. Both acts have the
//! same fake API with the same quota and the same crowd; the figures are what the crowd measured.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::Failed;
use crate::{
    config::{Config, Listen},
    lab::{
        AnswerConfig, Hints, Lab, LabConfig, LabHandle, Per, QuotaConfig,
        spike::{self, Count, Tally, Wave},
    },
    proxy::Proxy,
    server::{Listener, Stage},
};

/// The story: a quiet day, the marketing mail, and the article, which brings three times the mail.
const WAVES: [Wave; 3] = [
    Wave {
        name: "a quiet day",
        lasts: Duration::from_secs(3),
        callers: 12,
    },
    Wave {
        name: "the marketing mail",
        lasts: Duration::from_secs(4),
        callers: 80,
    },
    Wave {
        name: "the article",
        lasts: Duration::from_secs(4),
        callers: 240,
    },
];

/// Requests a second that the fake vendor allows, and how many at once.
const QUOTA: f64 = 16.0;
const BURST: f64 = 16.0;

/// The policy of `surgetank run`, in the demo's time.
const CONFIG: &str = "
upstreams:
  vendor:
    base_url: ${VENDOR}
routes:
  - upstream: vendor
limits:
  identify: [header:x-surgetank-user]
retry: { base: 200ms, cap: 3s, jitter: 200ms, patience: 40s }
";

/// How often the live view is drawn, and how often a line is printed where there is no terminal.
const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(2);

/// What one act came to.
struct Act {
    tally: Arc<Tally>,
    upstream_calls: u64,
}

pub(super) async fn run() -> Result<(), Failed> {
    // The crowd's HTTP client wants a TLS library even for clear text.
    let _ = rustls::crypto::ring::default_provider().install_default();
    println!(
        "The spike: {} callers in three waves; the API allows {QUOTA} requests a second.\n",
        callers()
    );
    println!("1. Callers that show whatever comes back");
    let naive = without().await?;
    println!("2. The same callers through surgetank");
    let calm = with().await?;
    print_table(&naive, &calm);
    Ok(())
}

fn callers() -> usize {
    WAVES.iter().map(|wave| wave.callers).sum()
}

fn vendor() -> Result<LabHandle, Failed> {
    let config = LabConfig {
        answer: AnswerConfig {
            first_token: Duration::from_millis(120),
            interval: Duration::from_millis(10),
            ..AnswerConfig::default()
        },
        quota: Some(QuotaConfig {
            rate: QUOTA,
            burst: BURST,
            rejects_cost: 0.5,
            per: Per::default(),
            concurrent: None,
            hints: Hints::default(),
        }),
        ..LabConfig::default()
    };
    Lab::start(config)
        .map_err(|error| Failed::unavailable(format!("the fake API could not be started: {error}")))
}

async fn without() -> Result<Act, Failed> {
    let vendor = vendor()?;
    let tally = play(&vendor.url()).await?;
    Ok(Act {
        tally,
        upstream_calls: vendor.stats().requests,
    })
}

async fn with() -> Result<Act, Failed> {
    let vendor = vendor()?;
    let url = vendor.url();
    let env = move |name: &str| (name == "VENDOR").then(|| url.clone());
    let config = Config::parse("the demo", CONFIG, &env)
        .map_err(|problems| Failed::internal(format!("the demo's configuration: {problems}")))?;
    let proxy = Proxy::start(&config, &env).map_err(Failed::internal)?;
    let listener =
        Listener::bind(&Listen::Tcp(([127, 0, 0, 1], 0).into())).map_err(Failed::unavailable)?;
    let base_url = listener
        .tcp_addr()
        .map(|addr| format!("http://{addr}"))
        .unwrap_or_default();
    let tally = tokio::select! {
        played = play(&base_url) => played?,
        served = proxy.serve(vec![listener]) => {
            return Err(Failed::unavailable(served.err().map_or("the proxy stopped".into(), |error| error.to_string())));
        }
    };
    proxy.lifecycle().advance(Stage::Ending);
    Ok(Act {
        tally,
        upstream_calls: vendor.stats().requests,
    })
}

/// Sends the crowd and shows it.
async fn play(base_url: &str) -> Result<Arc<Tally>, Failed> {
    let tally = Arc::new(Tally::default());
    let sending = spike::send(base_url, &WAVES, &tally);
    tokio::select! {
        sent = sending => sent.map_err(|error| Failed::internal(error.without_url()))?,
        () = show(&tally) => {}
    }
    Ok(tally)
}

/// Draws until it is dropped.
async fn show(tally: &Tally) {
    let is_terminal = std::io::stdout().is_terminal();
    let bar = if is_terminal {
        ProgressBar::new(callers() as u64)
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("   {bar:30.cyan/dim} {msg}") {
        bar.set_style(style);
    }
    let mut frames = tokio::time::interval(if is_terminal { FRAME } else { LINE });
    loop {
        frames.tick().await;
        let count = tally.count();
        bar.set_position((count.arrived - count.waiting()) as u64);
        bar.set_message(line(&count));
        if !is_terminal && count.arrived > 0 {
            println!("   {}", line(&count));
        }
    }
}

fn line(count: &Count) -> String {
    let mut before = 0;
    let wave = WAVES.iter().find(|wave| {
        before += wave.callers;
        count.arrived < before
    });
    format!(
        "{:<18} {:>3} answered  {:>3} waiting  {:>3} friendly replies  {:>3} errors",
        wave.map_or("the tail", |wave| wave.name),
        count.answered,
        count.waiting(),
        count.replied,
        count.errors
    )
}

fn print_table(naive: &Act, calm: &Act) {
    let seconds = |wait: Option<Duration>| {
        wait.map_or("-".into(), |wait| format!("{:.1} s", wait.as_secs_f64()))
    };
    let row = |name: &str, of: &dyn Fn(&Act) -> String| {
        println!("  {name:<42}{:>12}{:>18}", of(naive), of(calm));
    };
    println!();
    row("", &|act| {
        if std::ptr::eq(act, naive) {
            "without".into()
        } else {
            "with surgetank".into()
        }
    });
    row("callers", &|act| act.tally.count().arrived.to_string());
    row("answered by the model", &|act| {
        act.tally.count().answered.to_string()
    });
    row("given a friendly reply", &|act| {
        act.tally.count().replied.to_string()
    });
    row("errors seen by users", &|act| {
        act.tally.count().errors.to_string()
    });
    row("upstream calls per answer", &|act| per_answer(act));
    row("wait, median", &|act| seconds(act.tally.wait(0.5)));
    row("wait, 99th percentile", &|act| {
        seconds(act.tally.wait(0.99))
    });
    row("share of the ideal", &|act| {
        share_of_ideal(act, calm.tally.lasted())
    });
    println!("\nThe ideal is what a queue that knew the quota would have served in the same time.");
}

fn per_answer(act: &Act) -> String {
    match act.tally.count().answered {
        0 => "-".into(),
        answered => format!("{:.2}", act.upstream_calls as f64 / answered as f64),
    }
}

/// Answers as a part of what the quota gave until the last answer of the calmer act.
fn share_of_ideal(act: &Act, lasted: Duration) -> String {
    let ideal = (BURST + QUOTA * lasted.as_secs_f64()).min(callers() as f64);
    format!("{:.0} %", 100.0 * act.tally.count().answered as f64 / ideal)
}
