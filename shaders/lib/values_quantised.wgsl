// The values of a quantised block.
// @use lib/values
fn signed_bytes(q: u32, d: f32, m: f32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(q)) * d + m;
}

fn load_values(b: u32) -> Values {
    let w = load_block(b);
    return Values(
        mat4x4<f32>(
            signed_bytes(w.lo.x, w.d.x, w.m.x),
            signed_bytes(w.lo.y, w.d.x, w.m.x),
            signed_bytes(w.lo.z, w.d.x, w.m.x),
            signed_bytes(w.lo.w, w.d.x, w.m.x),
        ),
        mat4x4<f32>(
            signed_bytes(w.hi.x, w.d.y, w.m.y),
            signed_bytes(w.hi.y, w.d.y, w.m.y),
            signed_bytes(w.hi.z, w.d.y, w.m.y),
            signed_bytes(w.hi.w, w.d.y, w.m.y),
        ),
    );
}
