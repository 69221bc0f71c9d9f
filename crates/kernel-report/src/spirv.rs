//! WGSL to SPIR-V, as wgpu would do it on Vulkan.

use anyhow::{Result, anyhow};
use naga::back::{pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use siskin_gpu::KernelSource;

pub fn compile(kernel: &KernelSource) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(&kernel.source)
        .map_err(|e| anyhow!("{}", e.emit_to_string(&kernel.source)))?;
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)?;
    let constants = kernel.constants.iter().cloned().collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = process_overrides(&module, &info, entry, &constants)?;
    // RADV checks buffer bounds itself.
    let bounds_check_policies = BoundsCheckPolicies {
        buffer: BoundsCheckPolicy::Unchecked,
        ..BoundsCheckPolicies::default()
    };
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        fake_missing_bindings: true,
        bounds_check_policies,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    Ok(spv::write_vec(&module, &info, &options, Some(&pipeline))?)
}
