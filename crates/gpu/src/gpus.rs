use crate::{Error, Profile, Result};

/// The limits of a GPU that decide which models fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a buffer that a kernel can bind at once; larger matrices are split by rows.
    pub max_storage_binding: u64,
    /// Bytes of one buffer.
    pub max_buffer: u64,
    /// Threads of a workgroup.
    pub max_workgroup_invocations: u32,
    /// Bytes of memory that a workgroup shares.
    pub max_workgroup_memory: u32,
}

/// What `siskin devices` reports about a GPU.
#[derive(Debug, Clone)]
pub struct GpuReport {
    /// The GPU's name, as its driver has it.
    pub name: String,
    /// The graphics API: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
    /// Runs shaders on the CPU.
    pub software: bool,
    /// Whether kernels can use subgroups.
    pub subgroups: bool,
    /// Smallest and largest subgroup; 0 where unknown.
    pub subgroup_size: (u32, u32),
    /// Whether shaders can use f16, which siskin's do not.
    pub shader_f16: bool,
    /// Whether kernels can be timed.
    pub timestamps: bool,
    /// What buffers and workgroups may be at most.
    pub limits: Limits,
    /// The profile that is used unless another one is forced.
    pub profile: Profile,
}

pub(crate) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

pub(crate) fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu || info.name.contains("SwiftShader")
}

/// The profile that suits a GPU. `SG_DOT4` is never chosen automatically: whether integer products
/// are faster differs from GPU to GPU.
pub(crate) fn profile_of(info: &wgpu::AdapterInfo, has_subgroups: bool) -> Profile {
    if is_software(info) {
        Profile::CPU
    } else if has_subgroups {
        Profile::SG
    } else {
        Profile::BASE
    }
}

fn report(adapter: &wgpu::Adapter, subgroups: bool, subgroup_size: (u32, u32)) -> GpuReport {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    GpuReport {
        name: info.name.clone(),
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_string(),
        software: is_software(&info),
        subgroups,
        subgroup_size,
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        limits: Limits {
            max_storage_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        },
        profile: profile_of(&info, subgroups),
    }
}

/// All GPUs of the machine, in the order in which [`GpuDevice::open`](crate::GpuDevice::open) counts them.
pub async fn gpus() -> Vec<GpuReport> {
    let found = instance().enumerate_adapters(wgpu::Backends::PRIMARY).await;
    #[cfg(target_arch = "wasm32")]
    if let Some(web) = crate::browser::WebAdapter::find().await {
        let (subgroups, size) = (web.has_subgroups(), web.subgroup_size());
        return found.iter().map(|a| report(a, subgroups, size)).collect();
    }
    let report = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        let size = (info.subgroup_min_size, info.subgroup_max_size);
        let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP);
        report(adapter, subgroups, size)
    };
    found.iter().map(report).collect()
}

/// A page gets the one GPU that its browser chooses.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn pick(_index: Option<usize>) -> Result<(usize, wgpu::Adapter)> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    let found = instance().request_adapter(&options).await;
    found.map(|adapter| (0, adapter)).map_err(|_| Error::NoGpu)
}

/// The `index`-th GPU, or the most capable, with its index.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn pick(index: Option<usize>) -> Result<(usize, wgpu::Adapter)> {
    let mut found = instance().enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let count = found.len();
    let chosen = match index {
        Some(index) if index >= count && count > 0 => {
            return Err(Error::NoSuchGpu { index, count });
        }
        Some(index) => Some(index),
        None => (0..count).min_by_key(|i| rank(&found[*i])),
    };
    match chosen {
        Some(i) if i < count => Ok((i, found.swap_remove(i))),
        _ => Err(Error::NoGpu),
    }
}
