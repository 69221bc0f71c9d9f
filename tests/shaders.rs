//! Every variant of every kernel is valid WGSL, checked without a GPU.

use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use siskin_gpu::{GpuType, Reduce, Variant, kernels, link};

#[test]
fn every_variant_is_valid() {
    let mut checked = 0;
    for kernel in kernels() {
        for weights in GpuType::ALL {
            for reduce in [Reduce::Workgroup, Reduce::Subgroup] {
                for (kv_f32, integer) in [(false, false), (true, false), (false, true)] {
                    let variant = Variant {
                        weights,
                        integer,
                        reduce,
                        kv_f32,
                    };
                    let source = match link(kernel, &variant) {
                        Ok(source) => source,
                        // A kernel over integer blocks has no variant for plain weights.
                        Err(_) if !weights.is_quantised() => continue,
                        Err(e) => panic!("{kernel} {variant:?}: {e}"),
                    };
                    let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| {
                        panic!("{kernel} {variant:?}: {}", e.emit_to_string(&source))
                    });
                    Validator::new(
                        ValidationFlags::all(),
                        Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
                    )
                    .subgroup_operations(SubgroupOperationSet::all())
                    .validate(&module)
                    .unwrap_or_else(|e| {
                        panic!("{kernel} {variant:?}: {}", e.emit_to_string(&source))
                    });
                    // At most eight storage buffers: WebGPU's default limit.
                    let storage = module
                        .global_variables
                        .iter()
                        .filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. }));
                    assert!(storage.count() <= 8, "{kernel} {variant:?}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 300, "only {checked} variants");
}

#[test]
fn every_kernel_says_what_it_computes() {
    for kernel in kernels() {
        let variant = Variant {
            weights: GpuType::Q4_1,
            ..Variant::default()
        };
        let source = link(kernel, &variant).unwrap();
        assert!(
            source.contains("Dispatch:"),
            "{kernel} does not name its dispatch"
        );
    }
}
