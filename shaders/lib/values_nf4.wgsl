// 32 values of NF4: codes of 16 fixed values, eight per word and the first of each byte in its high bits, with an f32
// scale for each 64. Source: bitsandbytes.functional.get_4bit_type("nf4").
// @use lib/weights
// @use lib/values
var<private> nf4: array<f32, 16> = array<f32, 16>(
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
);

// The values of the lower two bytes.
fn nf4_values(q: u32) -> vec4<f32> {
    return vec4<f32>(nf4[(q >> 4u) & 15u], nf4[q & 15u], nf4[(q >> 12u) & 15u], nf4[(q >> 8u) & 15u]);
}

fn load_values(b: u32) -> Values {
    let q = quants[b];
    let d = bitcast<f32>(scales[b >> 1u]);
    return Values(
        d * mat4x4<f32>(nf4_values(q.x), nf4_values(q.x >> 16u), nf4_values(q.y), nf4_values(q.y >> 16u)),
        d * mat4x4<f32>(nf4_values(q.z), nf4_values(q.z >> 16u), nf4_values(q.w), nf4_values(q.w >> 16u)),
    );
}
