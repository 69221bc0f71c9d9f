// 32 values of 16 bits each; the file that uses this defines halves(lo, hi).
// @use lib/weights
// @use lib/values
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
