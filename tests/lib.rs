//! What the tests share: fixtures, noise, devices, and the one table of tolerances.

#[path = "command.rs"]
pub mod command;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use safetensors::SafeTensors;
use siskin_gpu::{Adapted, GpuReport, GpuType, Product, Profile, Reduce, Variant};
use siskin_graph::{CacheType, CacheTypes};
use tempfile::TempDir;

pub use siskin_engine::self_test::{noise, values, weights};

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// The files of a folder of `fixtures/families`, with the tokenizer that all of them share.
pub fn family_folder(name: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (from, files) in [
        (
            format!("families/{name}"),
            ["config.json", "model.safetensors"],
        ),
        (
            "tiny/llama".into(),
            ["tokenizer.json", "tokenizer_config.json"],
        ),
    ] {
        for file in files {
            std::fs::copy(fixture(&from).join(file), dir.path().join(file))
                .unwrap_or_else(|e| panic!("{from}/{file}: {e}"));
        }
    }
    dir
}

/// A copy of a fixture's files, to be changed.
pub fn copy_of(name: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for entry in fixture(name).read_dir().expect("a fixture") {
        let path = entry.expect("a file").path();
        if path.is_file() {
            let to = dir.path().join(path.file_name().expect("a name"));
            std::fs::copy(&path, to).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
    dir
}

/// A safetensors fixture.
#[derive(Debug)]
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.0).expect("a valid fixture");
        file.tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .data()
            .to_vec()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name)
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    pub fn u32(&self, name: &str) -> Vec<u32> {
        self.bytes(name)
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect()
    }
}

/// Every kernel with every variant that it has.
pub fn shader_variants() -> Vec<(&'static str, Variant)> {
    let mut all = vec![];
    // Most kernels do not have most slots: what is linked is then the same.
    let mut seen = HashSet::new();
    let mut add = |kernel, variant: Variant| {
        let linked = siskin_gpu::link(kernel, &variant);
        // A kernel over integer blocks has no variant for plain weights.
        let is_wanted = match linked {
            Ok(text) => seen.insert(text),
            Err(_) => variant.weights.is_integer(),
        };
        if is_wanted {
            all.push((kernel, variant));
        }
    };
    for kernel in siskin_gpu::kernels() {
        for weights in GpuType::ALL {
            for reduce in [Reduce::Workgroup, Reduce::Subgroup] {
                for (product, batch) in [
                    (Product::Float, false),
                    (Product::Float, true),
                    (Product::Dot4, false),
                ] {
                    let variant = Variant {
                        weights,
                        product,
                        reduce,
                        batch,
                        ..Variant::default()
                    };
                    add(kernel, variant);
                }
            }
        }
        for reduce in [Reduce::Workgroup, Reduce::Subgroup] {
            for keys in CacheType::ALL {
                for values in CacheType::ALL {
                    let variant = Variant {
                        reduce,
                        cache: CacheTypes { keys, values },
                        ..Variant::default()
                    };
                    add(kernel, variant);
                }
            }
        }
        for adapted in [Adapted::Rows, Adapted::Samples] {
            let variant = Variant {
                adapted,
                ..Variant::default()
            };
            add(kernel, variant);
        }
    }
    all
}

/// All GPUs, drivers that run shaders on the CPU included. Tests that need one fail where there is none: `cargo xtask test` installs one.
pub fn gpus() -> &'static [GpuReport] {
    static FOUND: LazyLock<Vec<GpuReport>> =
        LazyLock::new(|| pollster::block_on(siskin_gpu::gpus()));
    assert!(
        !FOUND.is_empty(),
        "no GPU; run `cargo xtask test`, which installs a driver"
    );
    &FOUND
}

/// The driver that takes every test: not SwiftShader, the slowest, where there is another. A second driver shows that
/// kernels do not depend on one compiler, for which parts of some tests are enough.
pub fn is_first_driver(index: usize) -> bool {
    let is_other = |a: &GpuReport| !a.name.contains("SwiftShader");
    index == gpus().iter().position(is_other).unwrap_or(0)
}

/// Every profile of the first driver, and one of another, which needs minutes for all.
pub fn most_devices() -> Vec<(usize, Profile)> {
    let is_taken = |d: &(usize, Profile)| is_first_driver(d.0) || d.1 == Profile::BASE;
    devices().into_iter().filter(is_taken).collect()
}

/// For a case of many: a driver that runs shaders on the CPU compiles each kernel for half a second, so each has as many
/// profiles of the first driver, in turn; and one of another driver, which compiles them anew for each device, for every
/// fourth case.
pub fn devices_for(case: usize, profiles: usize) -> Vec<(usize, Profile)> {
    let all = most_devices();
    let (first, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|d| is_first_driver(d.0));
    let step = (first.len() / profiles).max(1);
    let is_taken = |i: &usize| (i + case).is_multiple_of(step);
    let mut taken: Vec<_> = (0..first.len())
        .filter(is_taken)
        .map(|i| first[i])
        .collect();
    if case.is_multiple_of(4) {
        taken.extend(others);
    }
    taken
}

/// Every profile of every GPU.
pub fn devices() -> Vec<(usize, Profile)> {
    let mut all = vec![];
    for (i, gpu) in gpus().iter().enumerate() {
        for (_, profile) in Profile::NAMED {
            if gpu.subgroups || !profile.needs_subgroups() {
                all.push((i, profile));
            }
        }
    }
    all
}

/// Largest error of a value, relative to the largest value: of one op as the page's self-test has
/// it, and of a whole model.
pub fn tolerance(op: &str, profile: Profile) -> f32 {
    match (op, profile.product) {
        ("model", Product::Dot4) => 1e-3,
        ("model", Product::Float) => 2e-4,
        _ => siskin_engine::self_test::tolerance(op, profile),
    }
}

/// Fails unless `a` and `b` agree within `tolerance` of the largest of `b`.
pub fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let size = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let ok = (a - b).abs() <= tolerance * size;
        assert!(
            ok,
            "{what}: at {i}: {a} is not {b} (within {tolerance} of {size})"
        );
    }
}
