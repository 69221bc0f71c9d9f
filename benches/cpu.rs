//! The CPU's linear, by type and number of tokens, with the shape of a real layer.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use siskin_cpu::ops::linear::linear;
use siskin_cpu::{CpuPart, Precision};
use siskin_formats::TensorType;

const N: usize = 2048;
const K: usize = 2048;

fn linears(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear 2048 × 2048");
    for ty in TensorType::ALL {
        let name = ty.name();
        // Zeros: the time does not depend on the values.
        let bytes = vec![0; ty.bytes_of(N * K).expect("whole blocks")];
        let part = [CpuPart { ty, rows: N, bytes }];
        for tokens in [1, 8, 64] {
            let x = vec![0.5; tokens * K];
            let mut out = vec![0.0; tokens * N];
            group.throughput(Throughput::Elements((tokens * N * K) as u64));
            group.bench_function(BenchmarkId::new(name, tokens), |b| {
                b.iter(|| linear(&part, None, &x, K, Precision::Fast, &mut out));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = linears
}
criterion_main!(benches);
