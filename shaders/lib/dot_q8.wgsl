// Products of integer blocks. Needs a block library and lib/q8.
fn dot16_i8(w: vec4<u32>, x: vec4<u32>) -> f32 {
    return f32(dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y)
        + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w));
}

fn dot_block(w: Block, x: Q8) -> f32 {
    let q = vec2<f32>(dot16_i8(w.lo, x.lo), dot16_i8(w.hi, x.hi));
    return x.d * dot(w.d, q) + dot(w.m, x.s);
}
