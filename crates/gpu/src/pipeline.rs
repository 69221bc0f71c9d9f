use crate::device::Kind;
use crate::shader::link;
use crate::{GpuDevice, GpuType, Product, Result, Variant};

/// A kernel with its variant and constants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kernel {
    pub name: &'static str,
    pub variant: Variant,
    pub constants: Vec<(&'static str, f64)>,
}

impl Kernel {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            variant: Variant::default(),
            constants: vec![],
        }
    }

    pub fn set(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    pub fn size(self, name: &'static str, value: usize) -> Self {
        self.set(name, value as u32)
    }

    pub fn flag(self, name: &'static str, value: bool) -> Self {
        self.set(name, u32::from(value))
    }

    /// For display: the kernel and its type of weights.
    pub fn label(&self) -> String {
        let dot4 = match self.variant.product {
            Product::Dot4 => " dot4",
            Product::Float => "",
        };
        match self.variant.weights {
            GpuType::F32 => self.name.to_string(),
            ty => format!("{} {ty:?}{dot4}", self.name).to_lowercase(),
        }
    }

    /// Constants are floats: the key holds their bits.
    pub fn key(&self) -> String {
        format!("{self:?}")
    }

    /// Kernels that differ in their constants alone share a module.
    pub fn module_key(&self) -> String {
        format!("{} {:?}", self.name, self.variant)
    }
}

/// A kernel of a prepared plan, as another compiler needs it.
#[derive(Debug, Clone)]
pub struct KernelSource {
    /// The kernel and its type of weights.
    pub name: String,
    /// Its WGSL, linked.
    pub source: String,
    /// The values of its overrides.
    pub constants: Vec<(String, f64)>,
    /// Bytes that one of its dispatches reads and writes, at position 0.
    pub bytes: u64,
}

impl GpuDevice {
    /// The kernels of the decode step, then those of the prefill, each once.
    ///
    /// # Errors
    /// If a kernel cannot be linked.
    pub fn kernel_sources(&self) -> Result<Vec<KernelSource>> {
        let mut out: Vec<KernelSource> = vec![];
        let mut done = vec![];
        let kinds = [Kind::Decode, Kind::Prefill];
        let plans = kinds.iter().flat_map(|k| &self.plans[*k as usize]);
        for dispatch in plans.flat_map(|p| &p.dispatches) {
            let kernel = &dispatch.kernel;
            if done.contains(kernel) {
                continue;
            }
            done.push(kernel.clone());
            let constants = kernel.constants.iter().map(|(n, v)| ((*n).into(), *v));
            out.push(KernelSource {
                name: kernel.label(),
                source: link(kernel.name, &kernel.variant)?,
                constants: constants.collect(),
                bytes: dispatch.bytes,
            });
        }
        Ok(out)
    }
}
