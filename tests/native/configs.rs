//! What a `config.json` for transformers says of a model, without a device.

use serde_json::{Value as Json, json};
use siskin_formats::{Checkpoint, SideFiles};
use siskin_models::Model;

/// The `rope_scaling` that is written for a model of this one, whose heads have 64 dimensions.
fn rope_scaling(scaling: &Json) -> siskin_models::Result<Json> {
    let model = Model::from_config(json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 64,
        "num_hidden_layers": 1, "vocab_size": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0, "rope_scaling": scaling,
    }))?;
    let checkpoint = Checkpoint::from_safetensors(vec![], SideFiles::new("a folder"))?;
    Ok(model.to_config(&checkpoint, true)?["rope_scaling"].clone())
}

#[test]
fn scalings_are_found_again_from_their_factors() {
    for scaling in [
        Json::Null,
        json!({"rope_type": "linear", "factor": 4.0}),
        json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 6.0,
            "original_max_position_embeddings": 4096}),
    ] {
        assert_eq!(rope_scaling(&scaling).unwrap(), scaling);
    }
    let other = json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.0,
        "original_max_position_embeddings": 8192});
    let error = rope_scaling(&other).unwrap_err().to_string();
    assert!(
        error.contains("neither linearly nor as Llama 3's"),
        "{error}"
    );
}
