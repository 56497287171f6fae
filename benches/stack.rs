//! Reading a compose file of 500 services, rendering it, and comparing each service with what
//! runs.

use std::fmt::Write as _;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use phoenix_core::stack::{ComposeFile, LoadOptions, RenderContext, difference};

/// A compose file of this many services, each with what services usually have.
fn compose(services: usize) -> String {
    let mut text = String::from("services:\n");
    for number in 0..services {
        let _ = write!(
            text,
            r#"  service-{number}:
    image: registry.example.com/team/service-{number}:1.{number}
    command: serve --port 8080 "--name=service {number}"
    environment:
      PORT: 8080
      RATIO: 0.5
      HOST: ${{HOST:-service-{number}.example.com}}
      LEVEL: info
    ports:
      - "{published}:8080"
      - {{target: 9090, mode: host}}
    volumes:
      - data:/var/lib/service
      - /etc/service/{number}:/etc/service:ro
    networks: [front, back]
    healthcheck:
      test: [CMD, curl, -f, "http://localhost:8080/health"]
      interval: 10s
      retries: 3
    logging:
      driver: json-file
      options: {{max-size: 10m, max-file: "3"}}
    deploy:
      replicas: 3
      labels:
        - traefik.enable=true
        - "traefik.http.routers.service-{number}.rule=Host(`service-{number}.example.com`)"
      update_config: {{parallelism: 1, order: start-first, failure_action: rollback}}
      resources:
        limits: {{cpus: "0.50", memory: 256M}}
      placement:
        constraints: [node.role == worker, node.labels.zone != z{number}]
"#,
            published = 10_000 + number,
        );
    }
    text.push_str("networks: {front: , back: {internal: true}}\nvolumes: {data: {}}\n");
    text
}

fn stack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stack");
    group.sample_size(20);
    for services in [10, 500] {
        group.throughput(Throughput::Elements(services as u64));
        let text = compose(services);
        let options = LoadOptions::default();
        let read = || {
            ComposeFile::parse(Path::new("/stack.yaml"), &text, "large", &options)
                .expect("a compose file")
        };
        group.bench_function(BenchmarkId::new("load", services), |bencher| {
            bencher.iter(read);
        });
        let file = read();
        let context = RenderContext::default();
        group.bench_function(BenchmarkId::new("render", services), |bencher| {
            bencher.iter(|| file.render(&context));
        });
        group.bench_function(BenchmarkId::new("load and render", services), |bencher| {
            bencher.iter(|| read().render(&context));
        });
        let rendered = file.render(&context);
        group.bench_function(BenchmarkId::new("compare", services), |bencher| {
            bencher.iter(|| {
                let same = rendered
                    .services
                    .iter()
                    .all(|service| difference(&service.json, &service.json).is_empty());
                assert!(same, "a service differs from itself");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stack);
criterion_main!(benches);
