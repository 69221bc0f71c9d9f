//! Mesa's RADV as a compiler. With `RADV_FORCE_FAMILY` it lists a GPU that is not present, which
//! compiles pipelines and reports their statistics (`VK_KHR_pipeline_executable_properties`), but
//! runs nothing.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ash::{khr, vk};

use crate::Statistics;

/// The file that names RADV to Vulkan's loader.
pub fn icd() -> Result<PathBuf> {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let files = folder
        .read_dir()
        .context("no Vulkan drivers; install mesa-vulkan-drivers")?;
    let mut paths = files.filter_map(|f| Some(f.ok()?.path()));
    let radeon = |p: &PathBuf| p.to_string_lossy().contains("radeon");
    paths
        .find(radeon)
        .context("Mesa's RADV is not installed; install mesa-vulkan-drivers")
}

pub struct Driver {
    _entry: ash::Entry,
    device: ash::Device,
    properties: khr::pipeline_executable_properties::Device,
    layout: vk::PipelineLayout,
}

impl Driver {
    pub fn open() -> Result<Self> {
        // SAFETY: the loader is a system library; every handle below is used on one thread, while
        // the objects it was created from are alive, and the structures that are passed outlive the call.
        unsafe {
            let entry = ash::Entry::load().context("no Vulkan loader; install libvulkan1")?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
            let create = vk::InstanceCreateInfo::default().application_info(&app);
            let instance = entry.create_instance(&create, None)?;
            let Some(&physical) = instance.enumerate_physical_devices()?.first() else {
                bail!("RADV does not list a GPU of that name");
            };
            let extensions = [khr::pipeline_executable_properties::NAME.as_ptr()];
            let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let mut memory_model =
                vk::PhysicalDeviceVulkanMemoryModelFeatures::default().vulkan_memory_model(true);
            let mut executable =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                    .pipeline_executable_info(true);
            let mut dot = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default()
                .shader_integer_dot_product(true);
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&extensions)
                .push_next(&mut memory_model)
                .push_next(&mut executable)
                .push_next(&mut dot);
            let device = instance.create_device(physical, &create, None)?;
            let properties = khr::pipeline_executable_properties::Device::new(&instance, &device);
            let bindings: Vec<_> = (0..8)
                .map(|i| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(i)
                        .descriptor_type(if i == 0 {
                            vk::DescriptorType::UNIFORM_BUFFER
                        } else {
                            vk::DescriptorType::STORAGE_BUFFER
                        })
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&create, None)?];
            let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&create, None)?;
            Ok(Self {
                _entry: entry,
                device,
                properties,
                layout,
            })
        }
    }

    /// Compiles one SPIR-V module whose entry point is `main`.
    pub fn compile(&mut self, spirv: &[u8]) -> Result<Statistics> {
        let words: Vec<u32> = spirv
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect();
        // SAFETY: as in `open`; naga validated the module.
        unsafe {
            let create = vk::ShaderModuleCreateInfo::default().code(&words);
            let module = self.device.create_shader_module(&create, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let create = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .layout(self.layout)
                .stage(stage);
            let pipelines = self
                .device
                .create_compute_pipelines(vk::PipelineCache::null(), &[create], None)
                .map_err(|(_, e)| e)?;
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipelines[0]);
            let list = self.properties.get_pipeline_executable_statistics(&info)?;
            let mut found = HashMap::new();
            for s in list {
                let name = CStr::from_ptr(s.name.as_ptr())
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, s.value.u64);
            }
            self.device.destroy_pipeline(pipelines[0], None);
            self.device.destroy_shader_module(module, None);
            let get = |name: &str| {
                found.get(name).copied().with_context(|| {
                    format!(
                        "RADV does not report `{name}`; it reports {:?}",
                        found.keys()
                    )
                })
            };
            Ok(Statistics {
                vgprs: get("VGPRs")?,
                sgprs: get("SGPRs")?,
                spills: get("Spilled VGPRs")? + get("Spilled SGPRs")?,
                lds_bytes: get("LDS size")?,
                subgroups_per_simd: get("Subgroups per SIMD")?,
                instructions: get("Instructions")?,
                code_bytes: get("Code size")?,
                latency: get("Latency")?,
                inverse_throughput: get("Inverse Throughput")?,
            })
        }
    }
}
