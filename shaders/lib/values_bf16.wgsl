// A bf16 is the upper half of an f32.
// @use lib/weights
// @use lib/values
fn halves(lo: u32, hi: u32) -> vec4<f32> {
    let upper = 0xffff0000u;
    return bitcast<vec4<f32>>(vec4<u32>(lo << 16u, lo & upper, hi << 16u, hi & upper));
}

fn load_values(b: u32) -> Values {
    let p = quants[4u * b];
    let q = quants[4u * b + 1u];
    let r = quants[4u * b + 2u];
    let s = quants[4u * b + 3u];
    return Values(
        mat4x4<f32>(halves(p.x, p.y), halves(p.z, p.w), halves(q.x, q.y), halves(q.z, q.w)),
        mat4x4<f32>(halves(r.x, r.y), halves(r.z, r.w), halves(s.x, s.y), halves(s.z, s.w)),
    );
}
