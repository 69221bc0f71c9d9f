// A bf16 is the upper half of an f32.
fn halves(lo: u32, hi: u32) -> vec4<f32> {
    let upper = 0xffff0000u;
    return bitcast<vec4<f32>>(vec4<u32>(lo << 16u, lo & upper, hi << 16u, hi & upper));
}
// @use lib/values_halves
