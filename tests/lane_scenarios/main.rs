//! The lane's control loops, tried on whole storms.
//!
//! A control loop is not right because its formulas are; it is right when the thing it controls does well.
//! So every file of `tests/scenarios/` describes a storm as data (a vendor, callers, instances, faults) and the ranges in
//! which the results must fall, told in its header in words. The simulator plays it for many seeds against real
//! [`surgetank::lane::LaneCore`]s on a virtual clock: minutes of storm take milliseconds, and nothing depends on the machine.
//!
//! * `scenario.rs` reads the files.
//! * `vendor.rs` is the vendor's side: a token bucket with its price for refusals, hints true and false, outages.
//! * `crowd.rs` makes the callers and counts what became of them.
//! * `ideal.rs` is the yardstick: a clairvoyant queue that never asks in vain and serves who must be served first.
//! * `storm.rs` plays callers, the retry layer and lanes against the vendor, and checks what must hold at every moment.
//! * `report.rs` adds the runs up and holds them to the ranges.
//!
//! To see the figures: `cargo test --test lane_scenarios -- --nocapture`. One file only: set `SCENARIO` to its name, or to
//! its beginning. A mean over twenty seeds varies by a point or two; to compare two constants set `SEEDS` to some hundreds.

mod crowd;
mod ideal;
mod report;
mod scenario;
mod storm;
mod vendor;

use std::path::Path;

use report::Report;
use scenario::Scenario;

#[test]
fn every_storm_ends_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let only = std::env::var("SCENARIO").ok();
    let seeds = std::env::var("SEEDS").map(|seeds| seeds.parse().expect("SEEDS is a number"));
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 10,
        "the scenarios are missing from {}",
        folder.display()
    );
    println!("{}", Report::heading());
    let mut complaints = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if only
            .as_ref()
            .is_some_and(|only| !name.starts_with(only.as_str()))
        {
            continue;
        }
        let scenario = Scenario::read(&file);
        let runs = (0..seeds.clone().unwrap_or(scenario.seeds))
            .map(|seed| storm::play(&scenario, seed))
            .collect::<Vec<_>>();
        let report = Report::new(&name, &runs);
        println!("{report}");
        complaints.extend(report.complaints(&scenario.expect));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
