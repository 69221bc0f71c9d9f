//! Opening GPUs, and keeping what was compiled for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gpus::{is_software, pick, profile_of};
use crate::pipeline::Kernel;
use crate::shader::link;
use crate::{Error, Profile, Result};

/// Which limits to request from the GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitRequest {
    /// All that it supports.
    #[default]
    All,
    /// WebGPU's defaults, which every GPU in a browser has.
    WebGpuDefault,
    /// The GPU's, but bindings of at most this many bytes: for tests of split tensors.
    Binding(u64),
}

/// An error that a device reported asynchronously.
#[derive(Debug, Clone)]
enum Failure {
    Lost,
    OutOfMemory(String),
    Other(String),
}

/// wgpu's device and queue for a GPU, and the kernels compiled for it. One [`GpuDevice`](crate::GpuDevice)
/// uses it at a time, so that what the device reports concerns that one.
#[derive(Debug)]
pub(crate) struct Opened {
    pub index: usize,
    request: LimitRequest,
    pub name: String,
    pub software: bool,
    /// The profile that suits the GPU.
    pub profile: Profile,
    pub has_subgroups: bool,
    pub limits: wgpu::Limits,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    failure: Arc<Mutex<Option<Failure>>>,
    compiled: Mutex<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    modules: HashMap<String, wgpu::ShaderModule>,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compiling takes most of the time of opening a session on a GPU, so a process keeps the devices it has opened for
/// its next sessions.
#[cfg(not(target_arch = "wasm32"))]
fn with_kept<T>(work: impl FnOnce(&mut Vec<Arc<Opened>>) -> T) -> T {
    static KEPT: Mutex<Vec<Arc<Opened>>> = Mutex::new(vec![]);
    work(&mut lock(&KEPT))
}

/// A page's device belongs to the thread that opened it.
#[cfg(target_arch = "wasm32")]
fn with_kept<T>(work: impl FnOnce(&mut Vec<Arc<Opened>>) -> T) -> T {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<Arc<Opened>>> = const { std::cell::RefCell::new(vec![]) };
    }
    KEPT.with_borrow_mut(work)
}

/// A kept device that nobody uses and that has not failed.
fn find(index: usize, request: LimitRequest) -> Option<Arc<Opened>> {
    with_kept(|kept| {
        kept.retain(|o| Arc::strong_count(o) > 1 || lock(&o.failure).is_none());
        let fits = |o: &&Arc<Opened>| {
            (o.index, o.request) == (index, request) && Arc::strong_count(o) == 1
        };
        kept.iter().find(fits).cloned()
    })
}

type Requested = std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError>;

/// A device, and whether it has subgroups.
#[cfg(not(target_arch = "wasm32"))]
async fn device_of(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> (Requested, bool) {
    let features = descriptor.required_features;
    let has_subgroups = features.contains(wgpu::Features::SUBGROUP);
    (adapter.request_device(descriptor).await, has_subgroups)
}

/// A device, and whether it has subgroups.
#[cfg(target_arch = "wasm32")]
async fn device_of(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> (Requested, bool) {
    let web = crate::browser::WebAdapter::find().await;
    if let Some(web) = web.filter(|web| web.has_subgroups())
        && let Some(requested) = web.with_subgroups(|| adapter.request_device(descriptor))
        && let Ok(opened) = requested.await
    {
        return (Ok(opened), true);
    }
    (adapter.request_device(descriptor).await, false)
}

impl Opened {
    /// The `index`-th GPU, or the best one: one that the process has open already, or a new one.
    pub async fn find_or_open(index: Option<usize>, request: LimitRequest) -> Result<Arc<Self>> {
        let (index, adapter) = pick(index).await?;
        if let Some(found) = find(index, request) {
            return Ok(found);
        }
        #[cfg_attr(target_arch = "wasm32", expect(clippy::arc_with_non_send_sync))]
        let opened = Arc::new(Self::open(index, &adapter, request).await?);
        with_kept(|kept| kept.push(opened.clone()));
        Ok(opened)
    }

    async fn open(index: usize, adapter: &wgpu::Adapter, request: LimitRequest) -> Result<Self> {
        let info = adapter.get_info();
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
        let limits = match request {
            LimitRequest::All => adapter.limits(),
            LimitRequest::WebGpuDefault => wgpu::Limits::default(),
            LimitRequest::Binding(bytes) => wgpu::Limits {
                max_storage_buffer_binding_size: bytes,
                ..adapter.limits()
            },
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("siskin"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (requested, has_subgroups) = device_of(adapter, &descriptor).await;
        let (device, queue) = requested.map_err(|e| Error::Open {
            gpu: info.name.clone(),
            what: e.to_string(),
        })?;
        let failure: Arc<Mutex<Option<Failure>>> = Arc::default();
        let sink = failure.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let found = match &e {
                wgpu::Error::OutOfMemory { .. } => Failure::OutOfMemory(e.to_string()),
                _ => Failure::Other(e.to_string()),
            };
            lock(&sink).get_or_insert(found);
        }));
        let sink = failure.clone();
        // Whatever a lost device reports after that is irrelevant.
        device.set_device_lost_callback(move |_, _| {
            lock(&sink).get_or_insert(Failure::Lost);
        });
        Ok(Self {
            index,
            request,
            name: info.name.clone(),
            software: is_software(&info),
            profile: profile_of(&info, has_subgroups),
            has_subgroups,
            limits,
            device,
            queue,
            failure,
            compiled: Mutex::default(),
        })
    }

    /// The first error that the device reported asynchronously since it was opened.
    pub fn check(&self) -> Result<()> {
        match &*lock(&self.failure) {
            None => Ok(()),
            Some(Failure::Lost) => Err(Error::Lost),
            Some(Failure::OutOfMemory(what)) => Err(Error::OutOfMemory(what.clone())),
            Some(Failure::Other(what)) => Err(Error::Device(what.clone())),
        }
    }

    /// Compiles a kernel, once.
    pub fn pipeline(&self, kernel: &Kernel) -> Result<wgpu::ComputePipeline> {
        let Compiled { modules, pipelines } = &mut *lock(&self.compiled);
        let room = match pipelines.entry(kernel.key()) {
            Entry::Occupied(found) => return Ok(found.get().clone()),
            Entry::Vacant(room) => room,
        };
        let module = match modules.entry(kernel.module_key()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(room) => {
                let source = link(kernel.name, &kernel.variant)?;
                let descriptor = wgpu::ShaderModuleDescriptor {
                    label: Some(kernel.name),
                    source: wgpu::ShaderSource::Wgsl(source.into()),
                };
                room.insert(self.device.create_shader_module(descriptor))
            }
        };
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: None,
            module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &kernel.constants,
                // Every kernel writes its shared memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        };
        Ok(room
            .insert(self.device.create_compute_pipeline(&descriptor))
            .clone())
    }
}
