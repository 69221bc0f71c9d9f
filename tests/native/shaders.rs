//! Every variant of every kernel is valid WGSL, checked without a GPU.

use std::path::Path;

use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use siskin_gpu::{kernels, link};
use siskin_tests::shader_variants;

#[test]
fn every_variant_is_valid() {
    let variants = shader_variants();
    assert!(variants.len() > 140, "only {} variants", variants.len());
    for (kernel, variant) in variants {
        let source = link(kernel, &variant).unwrap_or_else(|e| panic!("{kernel} {variant:?}: {e}"));
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| panic!("{kernel} {variant:?}: {}", e.emit_to_string(&source)));
        Validator::new(
            ValidationFlags::all(),
            Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        )
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{kernel} {variant:?}: {}", e.emit_to_string(&source)));
        // At most eight storage buffers: WebGPU's default limit.
        let storage = module
            .global_variables
            .iter()
            .filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. }));
        assert!(storage.count() <= 8, "{kernel} {variant:?}");
    }
}

#[test]
fn every_kernel_says_what_it_computes() {
    for kernel in kernels() {
        // The strings of the crate are without comments.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shaders/{kernel}.wgsl"));
        let source = std::fs::read_to_string(file).unwrap();
        assert!(
            source.contains("Dispatch:"),
            "{kernel} does not name its dispatch"
        );
    }
}
