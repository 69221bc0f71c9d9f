use std::collections::VecDeque;

use siskin_cpu::{CacheType, CpuDevice, CpuPlan, CpuWeight, Precision};
use siskin_gpu::{GpuDevice, Profile};
use siskin_graph::{Graph, Sampling};

use crate::Result;

/// The most tokens of a prompt that run at once.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Which device a model shall run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A real GPU where there is one, else the CPU.
    Auto,
    Cpu,
    /// The `index`-th adapter, or the best one; with a profile forced or the adapter's own.
    Gpu {
        index: Option<usize>,
        profile: Option<Profile>,
    },
}

/// A device with weights, caches and prepared plans. Tokens are fed and chosen on it; those chosen
/// wait in line until they are taken, so that a GPU can be a step ahead.
#[derive(Debug)]
pub enum Device {
    Cpu(Box<Cpu>),
    Gpu(Box<GpuDevice>),
}

#[derive(Debug)]
pub struct Cpu {
    pub device: CpuDevice,
    prefill: Option<CpuPlan>,
    decode: Option<CpuPlan>,
    pending: VecDeque<u32>,
}

impl Cpu {
    /// The plan for a step of so many tokens.
    fn plan<'a>(
        prefill: &'a Option<CpuPlan>,
        decode: &'a Option<CpuPlan>,
        rows: usize,
    ) -> Option<&'a CpuPlan> {
        if rows == 1 {
            decode.as_ref()
        } else {
            prefill.as_ref()
        }
    }
}

impl Device {
    pub async fn open(request: DeviceRequest, precision: Precision) -> Result<Self> {
        let cpu = || {
            Self::Cpu(Box::new(Cpu {
                device: CpuDevice::new(precision),
                prefill: None,
                decode: None,
                pending: VecDeque::new(),
            }))
        };
        Ok(match request {
            DeviceRequest::Cpu => cpu(),
            DeviceRequest::Gpu { index, profile } => {
                Self::Gpu(Box::new(GpuDevice::open(index, profile).await?))
            }
            // A software driver is slower than the CPU path: it is used only when asked for.
            DeviceRequest::Auto => match GpuDevice::open(None, None).await {
                Ok(gpu) if !gpu.is_software() => Self::Gpu(Box::new(gpu)),
                _ => cpu(),
            },
        })
    }

    /// For people: `cpu`, or the adapter's name.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".into(),
            Self::Gpu(gpu) => gpu.name().into(),
        }
    }

    /// The kernel profile, or the CPU's arithmetic.
    pub fn profile(&self) -> String {
        match self {
            Self::Cpu(cpu) => match cpu.device.precision {
                Precision::F32 => "f32".into(),
                Precision::Fast => "q16".into(),
            },
            Self::Gpu(gpu) => gpu.profile().to_string(),
        }
    }

    pub(crate) fn add_vector(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.device.add_weight(name, CpuWeight::Vector(values)),
            Self::Gpu(gpu) => gpu.add_vector(name, &values)?,
        }
        Ok(())
    }

    /// Parameters of the adapters in the graphs that are prepared from now on, of which `graph` is one.
    pub(crate) fn set_params(&mut self, graph: &Graph, params: Vec<f32>) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.device.set_params(params),
            Self::Gpu(gpu) => gpu.set_params(graph, &params)?,
        }
        Ok(())
    }

    /// Caches for `context` tokens, and plans for a prefill of up to `rows` tokens and a decode.
    pub(crate) async fn prepare(
        &mut self,
        graph: Graph,
        context: usize,
        cache_type: CacheType,
        rows: usize,
    ) -> Result<()> {
        match self {
            Self::Cpu(cpu) => {
                cpu.device.set_context(&graph, context, cache_type);
                cpu.prefill = Some(cpu.device.plan(graph.clone(), rows));
                cpu.decode = Some(cpu.device.plan(graph, 1));
            }
            Self::Gpu(gpu) => {
                gpu.set_context(&graph, context, cache_type == CacheType::F32)?;
                gpu.prepare(graph, rows)?;
                gpu.settle().await?;
            }
        }
        Ok(())
    }

    /// Runs some tokens of a prompt. With `head`, the next token is chosen and waits to be taken.
    pub(crate) fn prefill(
        &mut self,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()> {
        match self {
            Self::Cpu(cpu) => {
                if let Some(plan) = Cpu::plan(&cpu.prefill, &cpu.decode, tokens.len()) {
                    cpu.device.run(plan, tokens, position, sampling, head)?;
                }
                if head {
                    cpu.pending.push_back(cpu.device.chosen());
                }
            }
            Self::Gpu(gpu) => gpu.prefill(tokens, position, sampling, head)?,
        }
        Ok(())
    }

    /// Feeds the token that was chosen last, at `position`; the next one waits to be taken.
    pub(crate) fn decode(&mut self, position: usize, sampling: &Sampling) -> Result<()> {
        match self {
            Self::Cpu(cpu) => {
                let token = cpu.device.chosen();
                self.prefill(&[token], position, sampling, true)
            }
            Self::Gpu(gpu) => Ok(gpu.decode(position, sampling)?),
        }
    }

    /// The token chosen first of those that wait, with its logits if asked.
    pub(crate) async fn take(&mut self, logits: bool) -> Result<(u32, Vec<f32>)> {
        match self {
            Self::Cpu(cpu) => {
                let token = cpu.pending.pop_front().unwrap_or_default();
                let plan = Cpu::plan(&cpu.prefill, &cpu.decode, cpu.device.last_rows());
                let read = |plan: &CpuPlan| cpu.device.read(plan, plan.graph.outputs[0], 1);
                let values = plan.filter(|_| logits).map(read).unwrap_or_default();
                Ok((token, values))
            }
            Self::Gpu(gpu) => Ok(gpu.take(logits).await?),
        }
    }

    /// Tokens of a prompt that run at once.
    pub(crate) fn prefill_rows(&self) -> usize {
        match self {
            // A page hears nothing while its only thread computes: it wants to, now and then.
            Self::Cpu(_) if cfg!(target_arch = "wasm32") => PREFILL_ROWS / 4,
            _ => PREFILL_ROWS,
        }
    }

    /// How many steps it may be ahead of the tokens taken.
    pub(crate) fn lookahead(&self) -> usize {
        match self {
            Self::Cpu(_) => 0,
            Self::Gpu(_) => 1,
        }
    }

    /// Forgets the tokens that wait.
    pub(crate) async fn discard(&mut self) -> Result<()> {
        match self {
            Self::Cpu(cpu) => cpu.pending.clear(),
            Self::Gpu(gpu) => gpu.discard().await?,
        }
        Ok(())
    }

    /// Says which tokens stand in the context, for the repeat penalty.
    pub(crate) fn set_seen(&mut self, tokens: &[u32]) {
        match self {
            Self::Cpu(cpu) => cpu.device.set_seen(tokens),
            Self::Gpu(gpu) => gpu.set_seen(tokens),
        }
    }

    /// All outputs, `[tokens.len(), columns]` each, of a graph that has every row.
    pub(crate) async fn evaluate(
        &mut self,
        graph: &Graph,
        tokens: &[u32],
        position: usize,
    ) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Cpu(cpu) => {
                let plan = cpu.device.plan(graph.clone(), tokens.len());
                cpu.device
                    .run(&plan, tokens, position, &Sampling::default(), true)?;
                let read = |id| cpu.device.read(&plan, id, tokens.len());
                Ok(graph.outputs.iter().map(|id| read(*id)).collect())
            }
            Self::Gpu(gpu) => Ok(gpu.evaluate(graph, tokens, position).await?),
        }
    }
}
