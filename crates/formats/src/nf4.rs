//! NF4, the 4-bit type of Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023): codes of 16 fixed
//! values, the quantiles of a normal distribution, times the peak of each block of 64.
//!
//! In memory a block is its peak as f32 and 32 bytes of codes, the first of each pair in the high bits. Files have it
//! as bitsandbytes lays it out, spread over several tensors, where peaks are most often quantised once more
//! (`bitsandbytes.functional.QuantState`).

use serde_json::{Value, json};

use crate::blocks::{Encode, Values};
use crate::dynamic::{dynamic_map, nearest_code};
use crate::isa::Isa;
use crate::{Error, Result};

/// NF4 as it is in memory: the block's peak as f32, then 32 bytes of codes (Dettmers et al., "QLoRA: Efficient
/// Finetuning of Quantized LLMs", 2023).
#[allow(missing_debug_implementations)]
pub struct NF4;
impl Values for NF4 {
    const GGML: Option<u32> = None;
    const LEN: usize = LEN;
    const BYTES: usize = BYTES;
    /// As `bitsandbytes.functional.quantize_4bit`.
    const ENCODE: Encode = encode;
    #[inline(always)]
    fn decode<I: Isa>(_: I, blocks: &[u8], out: &mut [f32]) {
        decode(blocks, out);
    }
}

/// Weights in a block.
pub(crate) const LEN: usize = 64;
/// Bytes of a block.
pub(crate) const BYTES: usize = 4 + LEN / 2;
/// Peaks that share a scale where they are quantised, too.
const NESTED: usize = 256;

/// `bitsandbytes.functional.get_4bit_type("nf4")`.
pub(crate) const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

fn decode(bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.as_chunks::<BYTES>().0.iter();
    for (block, out) in blocks.zip(out.as_chunks_mut::<LEN>().0) {
        let (peak, codes) = block.split_at(4);
        let peak = f32::from_le_bytes([peak[0], peak[1], peak[2], peak[3]]);
        for (pair, code) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            pair[0] = VALUES[usize::from(code >> 4)] * peak;
            pair[1] = VALUES[usize::from(code & 15)] * peak;
        }
    }
}

fn encode(values: &[f32], out: &mut Vec<u8>) {
    for x in values.as_chunks::<LEN>().0 {
        let peak = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        let inverse = if peak > 0.0 { 1.0 / peak } else { 0.0 };
        out.extend(peak.to_le_bytes());
        let code = |v: f32| {
            let v = v * inverse;
            let above = |pair: &[f32]| v > (pair[0] + pair[1]) / 2.0;
            VALUES.windows(2).take_while(|pair| above(pair)).count() as u8
        };
        out.extend(
            x.as_chunks::<2>()
                .0
                .iter()
                .map(|p| code(p[0]) << 4 | code(p[1])),
        );
    }
}

/// Where in a file a tensor's parts are: offset and length.
pub(crate) type Range = (u64, u64);

/// What is beside the codes of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Peaks {
    /// f32 values, or codes of 8 bits.
    pub at: Range,
    pub nested: Option<Nested>,
}

/// How peaks were quantised.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Nested {
    /// f32 scales of each 256.
    pub scales: Range,
    /// The 256 values of the codes.
    pub map: Range,
    /// Added to all.
    pub offset: f32,
}

impl Peaks {
    /// The parts that [`Self::blocks`] wants after the codes.
    pub fn ranges(&self) -> Vec<Range> {
        let nested = self.nested.iter().flat_map(|n| [n.scales, n.map]);
        std::iter::once(self.at).chain(nested).collect()
    }

    /// Blocks of codes and peaks, from the parts as they were read.
    pub fn blocks(&self, parts: &[Vec<u8>]) -> Vec<u8> {
        let floats = |i: usize| -> Vec<f32> {
            let words = parts[i].as_chunks::<4>().0.iter();
            words.map(|w| f32::from_le_bytes(*w)).collect()
        };
        let peaks = match &self.nested {
            None => floats(1),
            Some(nested) => {
                let (scales, map) = (floats(2), floats(3));
                let runs = parts[1].chunks(NESTED).zip(scales);
                let value = |code: &u8, scale: f32| map[usize::from(*code)] * scale + nested.offset;
                runs.flat_map(|(codes, scale)| codes.iter().map(move |c| (c, scale)))
                    .map(|(code, scale)| value(code, scale))
                    .collect()
            }
        };
        let blocks = parts[0].as_chunks::<{ LEN / 2 }>().0.iter();
        let pairs = blocks.zip(peaks);
        pairs
            .flat_map(|(codes, peak)| peak.to_le_bytes().into_iter().chain(*codes))
            .collect()
    }
}

/// What a tensor's `quant_state` says.
pub(crate) struct State {
    pub shape: Vec<usize>,
    /// The offset of quantised peaks.
    pub nested_offset: Option<f32>,
}

/// Reads the JSON of a `quant_state`.
pub(crate) fn read_state(name: &str, tensor: &str, json: &[u8]) -> Result<State> {
    let damaged = |what: &str| Error::Damaged {
        name: name.into(),
        what: format!("the quantisation of `{tensor}` {what}"),
    };
    let json: Value = serde_json::from_slice(json).map_err(|_| damaged("is not JSON"))?;
    let number = |key: &str| json[key].as_u64();
    let is_known = json["quant_type"] == "nf4"
        && number("blocksize") == Some(LEN as u64)
        && [None, Some(NESTED as u64)].contains(&number("nested_blocksize"));
    if !is_known {
        return Err(Error::UnknownType {
            name: name.into(),
            tensor: tensor.into(),
            found: format!(
                "{} in blocks of {} (of bitsandbytes, only nf4 in blocks of 64 is)",
                json["quant_type"], json["blocksize"]
            ),
        });
    }
    let dimension = |v: &Value| Some(usize::try_from(v.as_u64()?).ok());
    let shape: Option<Option<Vec<usize>>> = json["shape"]
        .as_array()
        .map(|a| a.iter().map(|v| dimension(v).flatten()).collect());
    Ok(State {
        shape: shape.flatten().ok_or_else(|| damaged("has no shape"))?,
        nested_offset: json["nested_offset"].as_f64().map(|v| v as f32),
    })
}

/// What bitsandbytes stores beside the codes of an NF4 tensor, its peaks quantised to 8 bits
/// (`bitsandbytes.functional.QuantState`).
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4Parts {
    /// A code of the [dynamic map](crate::dynamic_map) for the peak of each block of 64 weights.
    pub peaks: Vec<u8>,
    /// A scale for each 256 peaks.
    pub scales: Vec<f32>,
    /// The JSON of the `quant_state`: shape, block sizes, and the offset that is added to all peaks.
    pub state: String,
}

/// The codes of NF4 blocks without their peaks, two in a byte, as bitsandbytes stores them.
pub fn nf4_codes(blocks: &[u8]) -> Vec<u8> {
    let blocks = blocks.as_chunks::<BYTES>().0.iter();
    blocks.flat_map(|b| b[4..].iter().copied()).collect()
}

impl Nf4Parts {
    /// Quantises the peaks of NF4 blocks; `shape` is that of the tensor.
    pub fn of(blocks: &[u8], shape: &[usize]) -> Self {
        let blocks = blocks.as_chunks::<BYTES>().0.iter();
        let peaks: Vec<f32> = blocks
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let sum: f64 = peaks.iter().map(|p| f64::from(*p)).sum();
        let offset = (sum / peaks.len().max(1) as f64) as f32;
        let map = dynamic_map(true);
        let (mut codes, mut scales) = (vec![], vec![]);
        for run in peaks.chunks(NESTED) {
            let scale = run.iter().fold(0f32, |m, p| m.max((p - offset).abs()));
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            codes.extend(
                run.iter()
                    .map(|p| nearest_code(&map, (p - offset) * inverse)),
            );
            scales.push(scale);
        }
        let state = json!({
            "quant_type": "nf4",
            "blocksize": LEN,
            "dtype": "float32",
            "shape": shape,
            "nested_blocksize": NESTED,
            "nested_dtype": "float32",
            "nested_offset": offset,
        });
        Self {
            peaks: codes,
            scales,
            state: state.to_string(),
        }
    }

    /// The values of the codes of weights and of peaks, which are stored with every tensor.
    pub fn maps() -> [Vec<f32>; 2] {
        [VALUES.to_vec(), dynamic_map(true).to_vec()]
    }
}
