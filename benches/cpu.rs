//! The CPU's linear, by type and number of tokens, and attention of one token, by type of the cache, with the shapes of
//! real layers.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use siskin_cpu::ops::{attention::attention, gemm::Mat, linear::linear};
use siskin_cpu::{CpuPart, KvCache, Precision};
use siskin_formats::TensorType;
use siskin_graph::{AttentionSpec, Cache, CacheType, StepInput};

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

fn attentions(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention of 9 heads of 64, 3 of keys");
    let spec = AttentionSpec {
        n_heads: 9,
        n_kv_heads: 3,
        head_dim: 64,
        scale: 0.125,
        window: None,
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let shape = Cache {
        n_kv_heads: 3,
        head_dim: 64,
    };
    for ty in CacheType::ALL {
        for depth in [512, 2048] {
            let step = StepInput::alone(&[0], depth - 1, None);
            let blocks = &step.sequences[0].blocks;
            let mut cache = KvCache::new(shape, blocks.len(), ty.into());
            for position in 0..depth {
                let kv = [0.5; 192];
                cache.write(blocks, position, &kv, &kv);
            }
            let (q, mut out, mut scratch) = ([0.5; 576], [0.0; 576], vec![]);
            group.throughput(Throughput::Elements(depth as u64));
            group.bench_function(BenchmarkId::new(ty.name(), depth), |b| {
                let q = Mat::dense(&q, 576);
                let rows = &step.sequences;
                b.iter(|| attention(&spec, None, q, &cache, rows, &mut scratch, &mut out));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = linears, attentions
}
criterion_main!(benches);
