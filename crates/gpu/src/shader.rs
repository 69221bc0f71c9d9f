//! Composition of shaders: a kernel names the library files it uses (`// @use lib/step`), and slots
//! (`values`, `block`, `product`, `reduce`, `kv`) that a variant fills. Each
//! file is included once, where it is first used.

use crate::{Error, GpuType, Product, Reduce, Result};

macro_rules! sources {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),*]
    };
}

const LIBRARY: &[(&str, &str)] = sources!(
    "lib/activation" "lib/adamw" "lib/attend" "lib/batch" "lib/block" "lib/block_q4_0" "lib/block_q4_1"
    "lib/block_q4_k" "lib/block_q6_k" "lib/block_q8_0" "lib/block_q8_1" "lib/dot_bytes" "lib/dot_q16"
    "lib/head_dim" "lib/heads" "lib/kv_f16" "lib/kv_f32" "lib/linear_out" "lib/lora_span" "lib/matvec_in" "lib/pcg"
    "lib/product_f32" "lib/product_int" "lib/q16" "lib/qkv" "lib/qkv_grad" "lib/reduce_sg" "lib/reduce_wg" "lib/rope" "lib/rotate"
    "lib/step" "lib/values" "lib/values_bf16" "lib/values_f16" "lib/values_f32" "lib/values_halves" "lib/values_nf4"
    "lib/values_quantised" "lib/weights"
);

const KERNELS: &[(&str, &str)] = sources!(
    "adamw" "adamw_8bit" "add" "attention" "attention_reduce" "attention_step" "choose" "concat" "cross_entropy"
    "cross_entropy_grad" "dora" "dora_factors" "dora_grad" "dora_grad_m" "dropout" "embed" "gated" "gated_grad" "last_row" "linear_grad" "lora_down_grad"
    "lora_grad" "lora_up" "lora_up_grad" "matmul" "matmul_rows" "matvec" "matvec_rows" "quantise_q16"
    "rms_norm" "rms_norm_grad" "rope" "rope_append" "self_attention" "self_attention_grad_kv"
    "self_attention_grad_q" "self_attention_stats" "square_sum"
);

/// What fills a kernel's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    pub weights: GpuType,
    /// For quantised weights.
    pub product: Product,
    pub reduce: Reduce,
    pub kv_f32: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            weights: GpuType::F32,
            product: Product::Float,
            reduce: Reduce::Workgroup,
            kv_f32: false,
        }
    }
}

impl Variant {
    fn fill(&self, slot: &str) -> Option<Vec<&'static str>> {
        let (library, is_integer) = (self.weights.library(), self.weights.is_integer());
        Some(match slot {
            "values" if is_integer => vec![library, "lib/values_quantised"],
            "values" => vec![library],
            "block" if is_integer => vec![library],
            "block" => return None,
            "product" => vec![match self.product {
                Product::Float => "lib/product_f32",
                Product::Dot4 => "lib/product_int",
            }],
            "reduce" => vec![match self.reduce {
                Reduce::Workgroup => "lib/reduce_wg",
                Reduce::Subgroup => "lib/reduce_sg",
            }],
            "kv" => vec![if self.kv_f32 {
                "lib/kv_f32"
            } else {
                "lib/kv_f16"
            }],
            _ => return None,
        })
    }
}

/// The names of all kernels.
pub fn kernels() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().map(|k| k.0)
}

/// The WGSL of a kernel's variant.
///
/// # Errors
/// If a file or slot is not known, or the variant cannot fill a slot (a kernel over integer blocks,
/// and weights in f32).
pub fn link(kernel: &str, variant: &Variant) -> Result<String> {
    if cfg!(target_arch = "wasm32") {
        return link_for_browser(kernel, variant);
    }
    Ok(gather(kernel, variant)?.text)
}

/// The form that browsers need: with the extensions it uses enabled, a directive that naga rejects.
pub fn link_for_browser(kernel: &str, variant: &Variant) -> Result<String> {
    let linked = gather(kernel, variant)?;
    let uses_subgroups = linked.done.contains(&"lib/reduce_sg");
    let extensions = if uses_subgroups {
        "enable subgroups;\n"
    } else {
        ""
    };
    Ok(format!("{extensions}{}", linked.text))
}

fn gather<'a>(kernel: &str, variant: &'a Variant) -> Result<Linked<'a>> {
    let mut linked = Linked {
        variant,
        done: vec![],
        text: String::new(),
    };
    linked.add(kernel, KERNELS)?;
    Ok(linked)
}

struct Linked<'a> {
    variant: &'a Variant,
    done: Vec<&'static str>,
    text: String,
}

impl Linked<'_> {
    fn add(&mut self, name: &str, sources: &[(&'static str, &'static str)]) -> Result<()> {
        let error = |what: &str| Error::Shader {
            name: name.into(),
            what: what.into(),
        };
        let (name, source) = *sources
            .iter()
            .find(|s| s.0 == name)
            .ok_or_else(|| error("no such file or slot"))?;
        if self.done.contains(&name) {
            return Ok(());
        }
        self.done.push(name);
        for line in source.lines() {
            match line.strip_prefix("// @use ") {
                Some(used) => match self.variant.fill(used) {
                    Some(files) => files.iter().try_for_each(|f| self.add(f, LIBRARY))?,
                    None => self.add(used, LIBRARY)?,
                },
                None => {
                    self.text.push_str(line);
                    self.text.push('\n');
                }
            }
        }
        Ok(())
    }
}
