//! Loading a site, opening it, and planning it, for sites of 10, 100 and 1,000 guests.
//!
//! The engines answer at once and belong to no swarm, so that what is measured is Phoenix.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use phoenix_benches::{engines, site};
use phoenix_core::site::Site;
use phoenix_core::sync::{Inputs, Record, Session, SyncOptions};

fn plan(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("site");
    group.sample_size(10);
    for guests in [10, 100, 1000] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("phoenix.yaml");
        let text = site(guests, directory.path());
        runtime
            .block_on(async { engines(guests, directory.path()) })
            .expect("engines");
        group.bench_with_input(BenchmarkId::new("load", guests), &text, |bencher, text| {
            bencher.iter(|| Site::parse(&path, text).expect("a site"));
        });
        let loaded = Site::parse(&path, &text).expect("a site");
        let session = Session::open(loaded.site, Inputs::new(|_: &str| None)).expect("a session");
        group.bench_function(BenchmarkId::new("graph", guests), |bencher| {
            bencher.iter(|| session.graph(&SyncOptions::default()).expect("no cycle"));
        });
        group.bench_function(BenchmarkId::new("plan", guests), |bencher| {
            bencher.iter(|| {
                let plan = runtime
                    .block_on(session.plan(&SyncOptions::default(), Arc::new(|_: &Record| {})));
                assert!(plan.failures().next().is_none(), "the plan has failures");
                plan
            });
        });
    }
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
