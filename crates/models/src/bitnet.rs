//! BitNet b1.58, with weights that were unpacked: norms before the last linear of attention and of the MLP, squared ReLU.
//! Source: `transformers/models/bitnet`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::Result;
use crate::blocks::Biases;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static BITNET: Architecture = Architecture {
    names: &["bitnet"],
    // llama.cpp's architecture of this name has another activation.
    gguf: None,
    model_type: "bitnet",
    class: "BitNetForCausalLM",
    defaults: Defaults {
        vocab_size: 128_256,
        hidden_size: 2560,
        intermediate_size: 6912,
        n_layers: 30,
        n_heads: 20,
        n_kv_heads: Some(5),
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: false,
    },
    read: bitnet,
    ..DECODER
};

const MLP: Mlp = Mlp {
    activation: Activation::Relu2,
    ..GATED
};

fn bitnet(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let biases = Biases::of_attention(source)?;
    let dense = Dense::read(source, &BITNET, (500_000.0, None))?.with_mlp(source, MLP, false)?;
    Ok(Arc::new(Dense {
        biases,
        inner_norms: Some(["attn_sub_norm", "ffn_sub_norm"]),
        ..dense
    }))
}
