//! What the tests share: fixtures, noise, devices, and the one table of tolerances.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use siskin_formats::TensorType;
use siskin_gpu::{AdapterReport, Profile};

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
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

/// A deterministic sequence in [0, 1).
pub fn noise(seed: u32) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((state >> 8) as f32 / 16_777_216.0)
    })
}

/// `n` values in [-1, 1).
pub fn values(seed: u32, n: usize) -> Vec<f32> {
    noise(seed).take(n).map(|v| 2.0 * v - 1.0).collect()
}

/// Bytes of `n` weights of a type, with scales of a sensible size.
pub fn weights(ty: TensorType, seed: u32, n: usize) -> Vec<u8> {
    if !ty.is_quantised() {
        return siskin_formats::encode(ty, &values(seed, n)).expect("a plain type");
    }
    let mut bytes: Vec<u8> = noise(seed)
        .take(ty.bytes_of(n).expect("whole blocks"))
        .map(|v| (v * 256.0) as u8)
        .collect();
    let scales: &[usize] = match ty {
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for at in scales {
            // Exponents of 2^-7 to 2^-4: sizes that trained weights have.
            block[at + 1] = (block[at + 1] & 0x8f) | 0x20;
        }
    }
    bytes
}

/// All adapters. Tests that need one fail where there is none: `cargo xtask test` installs one.
pub fn adapters() -> Vec<AdapterReport> {
    let found = pollster::block_on(siskin_gpu::adapters());
    assert!(
        !found.is_empty(),
        "no GPU adapter; run `cargo xtask test`, which installs a driver"
    );
    found
}

/// Every profile of every adapter.
pub fn devices() -> Vec<(usize, Profile)> {
    let mut all = vec![];
    for (i, adapter) in adapters().iter().enumerate() {
        for profile in Profile::ALL {
            if adapter.subgroups || !profile.needs_subgroups() {
                all.push((i, profile));
            }
        }
    }
    all
}

/// Largest error of a value, relative to the largest value, by op and by how the device computes.
pub fn tolerance(op: &str, profile: Profile) -> f32 {
    let integer = matches!(profile, Profile::Cpu | Profile::SgDot4);
    match op {
        // Sums of some hundred products; integer activations have 15 bits.
        "linear" if integer => 1e-4,
        // exp and tanh differ from driver to driver.
        "gated" | "attention" => 1e-4,
        // Keys and values in f16.
        "attention_f16" => 2e-3,
        "model" => {
            if integer {
                1e-3
            } else {
                2e-4
            }
        }
        _ => 1e-5,
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
