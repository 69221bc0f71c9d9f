//! Composition of shaders: a kernel names the library files it uses (`// @use lib/step`), and slots
//! (`values`, `block`, `product`, `reduce`, `position`, `cache_k`, `cache_v`, `adapted`) that a variant fills. Each
//! file is included once, where it is first used.

use siskin_graph::{CacheType, CacheTypes};
use siskin_shaders::{KERNELS, LIBRARY};
#[cfg(feature = "training")]
use siskin_shaders::{TRAINING_KERNELS, TRAINING_LIBRARY};

use crate::{Error, GpuType, Product, Reduce, Result};

/// Name and text.
type Source = (&'static str, &'static str);

#[cfg(not(feature = "training"))]
const TRAINING_KERNELS: &[Source] = &[];
#[cfg(not(feature = "training"))]
const TRAINING_LIBRARY: &[Source] = &[];

/// What fills a kernel's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The type of the matrix: fills `values` and `block`.
    pub weights: GpuType,
    /// Of quantised weights with activations: fills `product`.
    pub product: Product,
    /// How a workgroup sums up: fills `reduce`.
    pub reduce: Reduce,
    /// Of keys and values: fills `cache_k` and `cache_v`.
    pub cache: CacheTypes,
    /// Whether rows have the positions of a batch of texts instead of a step's: fills `position`.
    pub batch: bool,
    /// Which rows an adapter is for: fills `adapted`.
    pub adapted: Adapted,
}

/// Which rows an adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adapted {
    /// All.
    All,
    /// Those of some sequences, of all rows of a step.
    Rows,
    /// Those of some sequences, of the rows after which a step chooses a token.
    Samples,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            weights: GpuType::F32,
            product: Product::Float,
            reduce: Reduce::Workgroup,
            cache: CacheTypes::default(),
            batch: false,
            adapted: Adapted::All,
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
            "position" => vec![if self.batch {
                "lib/position_batch"
            } else {
                "lib/rows"
            }],
            "adapted" => vec![match self.adapted {
                Adapted::All => "lib/adapted_all",
                Adapted::Rows => "lib/adapted_rows",
                Adapted::Samples => "lib/adapted_samples",
            }],
            "cache_k" => vec![match self.cache.keys {
                CacheType::F32 => "lib/cache_k_f32",
                CacheType::F16 => "lib/cache_k_f16",
                CacheType::Q8_0 => "lib/cache_k_q8_0",
                CacheType::Q4_0 => "lib/cache_k_q4_0",
            }],
            "cache_v" => vec![match self.cache.values {
                CacheType::F32 => "lib/cache_v_f32",
                CacheType::F16 => "lib/cache_v_f16",
                CacheType::Q8_0 => "lib/cache_v_q8_0",
                CacheType::Q4_0 => "lib/cache_v_q4_0",
            }],
            _ => return None,
        })
    }
}

/// The names of all kernels.
pub fn kernels() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().chain(TRAINING_KERNELS).map(|k| k.0)
}

/// The complete WGSL of a kernel's variant.
///
/// # Errors
/// If there is no such kernel, or the variant cannot fill one of its slots (a kernel over integer blocks, and weights
/// in f32).
pub fn link(kernel: &str, variant: &Variant) -> Result<String> {
    if cfg!(target_arch = "wasm32") {
        return link_for_browser(kernel, variant);
    }
    Ok(gather(kernel, variant)?.text)
}

/// As [`link`], with the `enable` directives that browsers need and naga rejects.
///
/// # Errors
/// As [`link`].
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
    linked.add(kernel, [KERNELS, TRAINING_KERNELS])?;
    Ok(linked)
}

struct Linked<'a> {
    variant: &'a Variant,
    done: Vec<&'static str>,
    text: String,
}

impl Linked<'_> {
    fn add(&mut self, name: &str, sources: [&[Source]; 2]) -> Result<()> {
        let error = |what: &str| Error::Shader {
            name: name.into(),
            what: what.into(),
        };
        let library = [LIBRARY, TRAINING_LIBRARY];
        let mut all = sources.into_iter().flatten();
        let (name, source) = *all
            .find(|s| s.0 == name)
            .ok_or_else(|| error("no such file or slot"))?;
        if self.done.contains(&name) {
            return Ok(());
        }
        self.done.push(name);
        for line in source.lines() {
            match line.strip_prefix("// @use ") {
                Some(used) => match self.variant.fill(used) {
                    Some(files) => files.iter().try_for_each(|f| self.add(f, library))?,
                    None => self.add(used, library)?,
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
