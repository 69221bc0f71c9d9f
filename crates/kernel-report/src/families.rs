//! The kernels that real models run: one layer of each family, with its real shapes.

use anyhow::{Result, bail};
use pollster::block_on;
use serde_json::{Value, json};
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, KernelSource, LimitRequest, Profile};
use siskin_graph::{CacheTypes, Capacity, Weight, WeightKind};
use siskin_models::{Head, Model};

pub struct FamilyKernel {
    pub family: String,
    pub profile: Profile,
    pub source: KernelSource,
}

/// How a weight's parts are stored: types and rows.
type Types = fn(&Weight) -> Vec<(TensorType, usize)>;

/// Shapes of published models; the vocabulary, which only changes a dispatch's length, is reduced.
fn configs() -> Vec<(&'static str, Value, Types)> {
    let config = |arch, hidden, mlp, heads, kv, head_dim| {
        json!({
            "model_type": arch, "hidden_size": hidden, "intermediate_size": mlp,
            "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": kv,
            "head_dim": head_dim, "vocab_size": 8192, "max_position_embeddings": 4096,
            "sliding_window": 512, "tie_word_embeddings": true,
        })
    };
    let mut llama = config("llama", 2048, 8192, 32, 8, 64);
    llama["sliding_window"] = Value::Null;
    let [qwen2, qwen3, gemma3] = [
        config("qwen2", 896, 4864, 14, 2, 64),
        config("qwen3", 1024, 3072, 16, 8, 128),
        config("gemma3_text", 1152, 6912, 4, 1, 256),
    ];
    vec![
        ("llama 3.2 1B", llama.clone(), common),
        ("qwen2.5 0.5B", qwen2, common),
        ("qwen3 0.6B", qwen3, common),
        ("gemma3 1B", gemma3, common),
        ("llama 3.2 1B NF4", llama, nf4),
    ]
}

/// The types that a common quantisation produces: K types where rows are long enough for them.
fn common(weight: &Weight) -> Vec<(TensorType, usize)> {
    let large = weight.cols.is_multiple_of(256);
    let embedding = weight.name.contains("embed_tokens");
    let ty = match (large, embedding) {
        (true, true) => TensorType::Q6_K,
        (true, false) => TensorType::Q4_K,
        (false, true) => TensorType::Q8_0,
        (false, false) => TensorType::Q4_0,
    };
    vec![(ty, weight.rows())]
}

/// The types that bitsandbytes uses.
fn nf4(weight: &Weight) -> Vec<(TensorType, usize)> {
    let ty = match weight.name.contains("embed_tokens") {
        true => TensorType::F16,
        false => TensorType::NF4,
    };
    vec![(ty, weight.rows())]
}

pub fn kernels() -> Result<Vec<FamilyKernel>> {
    let gpus = block_on(siskin_gpu::gpus());
    let Some(index) = gpus.iter().position(|gpu| gpu.subgroups) else {
        bail!("no GPU driver with subgroups; install mesa-vulkan-drivers");
    };
    let mut out = vec![];
    for (family, config, types) in configs() {
        let graph = Model::from_config(config)?.graph(Head::Next)?;
        for profile in [Profile::BASE, Profile::SG, Profile::SG_DOT4] {
            let opened = GpuDevice::open_with(Some(index), Some(profile), LimitRequest::All);
            let mut gpu = block_on(opened)?;
            for weight in &graph.weights {
                match &weight.kind {
                    WeightKind::Constant(values) => gpu.add_vector(&weight.name, values)?,
                    WeightKind::Vector => {
                        gpu.add_vector(&weight.name, &vec![0.0; weight.rows()])?
                    }
                    WeightKind::Matrix => {
                        gpu.matrix(&weight.name, &types(weight), weight.cols)?
                            .zeroed()?;
                    }
                }
            }
            gpu.set_caches(&graph, Capacity::alone(1024), CacheTypes::default())?;
            gpu.prepare(graph.clone(), 128)?;
            let sources = gpu.kernel_sources()?;
            let named = |source| FamilyKernel {
                family: family.into(),
                profile,
                source,
            };
            out.extend(sources.into_iter().map(named));
        }
    }
    Ok(out)
}
