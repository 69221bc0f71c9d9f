//! Converts a file's blocks to what kernels read: values in one buffer, 16 bytes at a time, scales in
//! another. One row for each type of a file ([`kept`]), and one for each layout on the GPU ([`GpuType`]).

use siskin_formats::isa::Portable;
use siskin_formats::{Format, TensorType, formats};

/// One layout of a matrix.
struct Packing {
    /// Whether kernels can compute with its values as integers.
    is_integer: bool,
    /// The smallest number of weights with whole sizes.
    len: usize,
    /// Bytes of the values and scales of that many.
    values: usize,
    scales: usize,
    /// The WGSL file with its `load_block`, or for types of values with their `load`.
    library: &'static str,
}

macro_rules! layouts {
    ($($(#[$doc:meta])* $T:ident: $layout:expr,)*) => {
        /// How a matrix is kept on the GPU.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        pub enum GpuType {
            $($(#[$doc])* $T,)*
        }

        static PACKINGS: [Packing; GpuType::ALL.len()] = [$($layout),*];

        impl GpuType {
            /// All types.
            pub const ALL: [Self; [$(Self::$T),*].len()] = [$(Self::$T),*];
        }
    };
}

const fn values(len: usize, values: usize, scales: usize, library: &'static str) -> Packing {
    Packing {
        is_integer: false,
        len,
        values,
        scales,
        library,
    }
}

const fn integers(len: usize, values: usize, scales: usize, library: &'static str) -> Packing {
    Packing {
        is_integer: true,
        len,
        values,
        scales,
        library,
    }
}

layouts! {
    /// f32.
    F32: values(1, 4, 0, "lib/values_f32"),
    /// f16, unpacked in the kernels without the extension.
    F16: values(1, 2, 0, "lib/values_f16"),
    /// bfloat16.
    BF16: values(1, 2, 0, "lib/values_bf16"),
    /// 4 bits, with a scale for each 32.
    Q4_0: integers(32, 16, 2, "lib/block_q4_0"),
    /// 4 bits, with a scale and a minimum for each 32.
    Q4_1: integers(32, 16, 4, "lib/block_q4_1"),
    /// 8 bits, with a scale for each 32.
    Q8_0: integers(32, 32, 2, "lib/block_q8_0"),
    /// 8 bits, with a scale and a minimum for each 32: how files' Q5_1 is kept.
    Q8_1: integers(32, 32, 4, "lib/block_q8_1"),
    /// 2 bits, with a 4-bit scale and minimum for each 16, in blocks of 256.
    Q2_K: integers(256, 64, 20, "lib/block_q2_k"),
    /// 4 bits, with a 6-bit scale and minimum for each 32, in blocks of 256.
    Q4_K: integers(256, 128, 20, "lib/block_q4_k"),
    /// 5 bits, with a 6-bit scale and minimum for each 32, in blocks of 256.
    Q5_K: integers(256, 160, 20, "lib/block_q5_k"),
    /// 6 bits, with an 8-bit scale for each 16, in blocks of 256.
    Q6_K: integers(256, 192, 20, "lib/block_q6_k"),
    /// 4-bit codes of 16 values, with a scale for each 32.
    IQ4_NL: integers(32, 16, 2, "lib/block_iq4_nl"),
    /// 4-bit codes of the same values, with a 6-bit scale for each 32, in blocks of 256.
    IQ4_XS: integers(256, 128, 12, "lib/block_iq4_xs"),
    /// 4-bit codes of the values of a grid, with an 8-bit scale for each 16, in blocks of 256.
    GRID: integers(256, 128, 20, "lib/block_grid"),
    /// 4-bit floats, with a power of two for each 32.
    MXFP4: integers(32, 16, 1, "lib/block_mxfp4"),
    /// 4-bit floats, with an 8-bit float for each 16.
    NVFP4: integers(64, 32, 4, "lib/block_nvfp4"),
    /// 4-bit codes of 16 values, with an f32 scale for each 64.
    NF4: values(64, 32, 4, "lib/values_nf4"),
    /// 4 bits, with a word of scale and zero point for each 32.
    INT4: integers(32, 16, 4, "lib/block_int4"),
    /// 4 bits, with a scale and an offset of the middle code for each 32.
    INT4_1: integers(32, 16, 4, "lib/block_int4_1"),
    /// 8 bits, with a word of scale and zero point for each 32.
    INT8: integers(32, 32, 4, "lib/block_int8"),
}

impl GpuType {
    /// The type that a matrix of a file's type is kept as.
    pub fn of(ty: TensorType) -> Self {
        kept(ty).ty
    }

    fn packing(self) -> &'static Packing {
        &PACKINGS[self as usize]
    }

    /// Whether its values are integers with scales, so that kernels can multiply them as integers.
    pub fn is_integer(self) -> bool {
        self.packing().is_integer
    }

    /// Bytes of the values of `n` weights, without scales.
    pub fn value_bytes(self, n: usize) -> usize {
        n / self.packing().len * self.packing().values
    }

    /// Bytes of the scales of `n` weights.
    pub fn scale_bytes(self, n: usize) -> usize {
        n / self.packing().len * self.packing().scales
    }

    pub(crate) fn library(self) -> &'static str {
        self.packing().library
    }
}

/// How one of a file's types is kept.
struct Kept {
    ty: GpuType,
    /// What `inspect` says about it.
    says: &'static str,
    /// Appends whole blocks to the values and scales.
    repack: fn(&[u8], &mut Vec<u8>, &mut Vec<u8>),
}

const fn as_it_is(ty: GpuType, repack: fn(&[u8], &mut Vec<u8>, &mut Vec<u8>)) -> Kept {
    Kept {
        ty,
        says: "as it is",
        repack,
    }
}

const fn in_grid(repack: fn(&[u8], &mut Vec<u8>, &mut Vec<u8>)) -> Kept {
    Kept {
        ty: GpuType::GRID,
        says: "as 4-bit codes of the same values, with the same scales (exact)",
        repack,
    }
}

/// The row of a type.
const fn kept(ty: TensorType) -> Kept {
    match ty {
        TensorType::F32 => as_it_is(GpuType::F32, copied),
        TensorType::F16 => as_it_is(GpuType::F16, copied),
        TensorType::BF16 => as_it_is(GpuType::BF16, copied),
        TensorType::Q4_0 => as_it_is(GpuType::Q4_0, split::<18, 2>),
        TensorType::Q4_1 => as_it_is(GpuType::Q4_1, split::<20, 4>),
        TensorType::Q8_0 => as_it_is(GpuType::Q8_0, split::<34, 2>),
        TensorType::NF4 => as_it_is(GpuType::NF4, split::<36, 4>),
        TensorType::INT4 => as_it_is(GpuType::INT4, split::<20, 4>),
        TensorType::INT4_1 => as_it_is(GpuType::INT4_1, split::<20, 4>),
        TensorType::INT8 => as_it_is(GpuType::INT8, split::<36, 4>),
        TensorType::IQ4_NL => as_it_is(GpuType::IQ4_NL, split::<18, 2>),
        TensorType::MXFP4 => as_it_is(GpuType::MXFP4, split::<17, 1>),
        TensorType::Q2_K => as_it_is(GpuType::Q2_K, q2_k),
        TensorType::IQ4_XS => as_it_is(GpuType::IQ4_XS, iq4_xs),
        TensorType::NVFP4 => as_it_is(GpuType::NVFP4, nvfp4),
        TensorType::Q4_K => as_it_is(GpuType::Q4_K, k::<{ formats::Q4_K::BYTES }>),
        TensorType::Q5_K => as_it_is(GpuType::Q5_K, k::<{ formats::Q5_K::BYTES }>),
        TensorType::Q6_K => as_it_is(GpuType::Q6_K, q6_k),
        TensorType::Q5_0 => Kept {
            ty: GpuType::Q8_0,
            says: "as 8-bit with the same scale (exact)",
            repack: bytes::<formats::Q5_0, 2>,
        },
        TensorType::Q5_1 => Kept {
            ty: GpuType::Q8_1,
            says: "as 8-bit with the same scale and minimum (exact)",
            repack: bytes::<formats::Q5_1, 4>,
        },
        TensorType::Q3_K => Kept {
            ty: GpuType::Q6_K,
            says: "as Q6_K (exact)",
            repack: q3_k,
        },
        TensorType::TQ1_0 => Kept {
            ty: GpuType::Q2_K,
            says: "as Q2_K (exact)",
            repack: ternary::<formats::TQ1_0>,
        },
        TensorType::TQ2_0 => Kept {
            ty: GpuType::Q2_K,
            says: "as Q2_K (exact)",
            repack: ternary::<formats::TQ2_0>,
        },
        TensorType::IQ1_S => in_grid(grid::<formats::IQ1_S, 0>),
        TensorType::IQ1_M => in_grid(grid::<formats::IQ1_M, 0>),
        TensorType::IQ2_XXS => in_grid(grid::<formats::IQ2_XXS, 1>),
        TensorType::IQ2_XS => in_grid(grid::<formats::IQ2_XS, 1>),
        TensorType::IQ2_S => in_grid(grid::<formats::IQ2_S, 1>),
        TensorType::IQ3_XXS => in_grid(grid::<formats::IQ3_XXS, 2>),
        TensorType::IQ3_S => in_grid(grid::<formats::IQ3_S, 3>),
    }
}

/// What `inspect` says about how a type runs on the GPU.
pub fn stored_as(ty: TensorType) -> &'static str {
    kept(ty).says
}

/// Appends whole rows of `ty` to the values and scales of [`GpuType::of`] it.
pub(crate) fn repack(ty: TensorType, bytes: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    (kept(ty).repack)(bytes, values, scales);
}

fn copied(blocks: &[u8], values: &mut Vec<u8>, _: &mut Vec<u8>) {
    values.extend(blocks);
}

/// For blocks whose scales precede their values.
fn split<const BYTES: usize, const SCALES: usize>(
    blocks: &[u8],
    values: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) {
    for b in blocks.as_chunks::<BYTES>().0 {
        scales.extend(&b[..SCALES]);
        values.extend(&b[SCALES..]);
    }
}

/// The same scales, and values of 8 bits.
fn bytes<F: Format, const SCALES: usize>(
    blocks: &[u8],
    values: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) {
    for b in blocks.chunks_exact(F::BYTES) {
        scales.extend(&b[..SCALES]);
        values.extend(F::unpack(Portable, b, 0).q.map(|q| q as u8));
    }
}

fn q2_k(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(formats::Q2_K::BYTES) {
        scales.extend(&b[80..]);
        scales.extend(&b[..16]);
        values.extend(&b[16..80]);
    }
}

/// Q4_K's and Q5_K's, whose values follow the scales.
fn k<const BYTES: usize>(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(BYTES) {
        scales.extend(&b[..4]);
        let pairs: [_; 8] = std::array::from_fn(|run| formats::k_scale_min(&b[4..16], run));
        scales.extend(pairs.map(|p| p.0));
        scales.extend(pairs.map(|p| p.1));
        values.extend(&b[16..]);
    }
}

fn q6_k(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(formats::Q6_K::BYTES) {
        scales.extend([b[208], b[209], 0, 0]);
        scales.extend(&b[192..208]);
        values.extend(&b[..192]);
    }
}

/// As Q6_K's.
fn q3_k(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(formats::Q3_K::BYTES) {
        scales.extend([b[108], b[109], 0, 0]);
        scales.extend((0..16).map(|i| formats::Q3_K::scale(b, i) as u8));
        let (mut low, mut high) = ([0u8; 128], [0u8; 64]);
        for run in 0..8 {
            let (half, j) = (run / 4, run % 4);
            for (l, q) in formats::Q3_K::unpack(Portable, b, run).q.iter().enumerate() {
                let q = (q + 32) as u8;
                low[half * 64 + (j % 2) * 32 + l] |= (q & 0xf) << (4 * (j / 2));
                high[half * 32 + l] |= (q >> 4) << (2 * j);
            }
        }
        values.extend(low);
        values.extend(high);
    }
}

/// As Q2_K's, whose scales and minima are all 1: `d q − d`.
fn ternary<F: Format>(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(F::BYTES) {
        let d = &b[F::BYTES - 2..];
        scales.extend([d, d].concat());
        scales.extend([0x11; 16]);
        let mut packed = [0u8; 64];
        for run in 0..8 {
            let packed = &mut packed[(run / 4) * 32..][..32];
            for (packed, q) in packed.iter_mut().zip(F::unpack(Portable, b, run).q) {
                *packed |= ((q + 1) as u8) << (2 * (run % 4));
            }
        }
        values.extend(packed);
    }
}

fn iq4_xs(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(formats::IQ4_XS::BYTES) {
        scales.extend([b[0], b[1], 0, 0]);
        scales.extend((0..8).map(|run| formats::IQ4_XS::scale(b, run) as u8));
        values.extend(&b[8..]);
    }
}

/// Codes of the values, and in the scales the number of their table in `lib/block_grid.wgsl`.
fn grid<F: formats::Grid, const TABLE: u8>(
    blocks: &[u8],
    values: &mut Vec<u8>,
    scales: &mut Vec<u8>,
) {
    let mut codes = [0u8; 256];
    for (code, value) in F::VALUES.into_iter().enumerate().rev() {
        codes[usize::from(value as u8)] = code as u8;
    }
    for b in blocks.chunks_exact(F::BYTES) {
        scales.extend(F::d(b));
        scales.extend([TABLE, 0]);
        scales.extend((0..16).map(|half| F::scale(b, half)));
        for run in 0..8 {
            let q = F::unpack(Portable, b, run)
                .q
                .map(|q| codes[usize::from(q as u8)]);
            values.extend((0..16).map(|i| q[i] | (q[i + 16] << 4)));
        }
    }
}

/// Scales without the bit that has no meaning, and 0 for what is not a number.
fn nvfp4(blocks: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for b in blocks.chunks_exact(formats::NVFP4::BYTES) {
        scales.extend(b[..4].iter().map(|s| if *s == 0x7f { 0 } else { s & 0x7f }));
        values.extend(&b[4..]);
    }
}
