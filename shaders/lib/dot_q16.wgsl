// Products of integer blocks. Needs a block library and lib/q16.
fn dot16_i8(w: vec4<u32>, x: vec4<u32>) -> f32 {
    return f32(dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y)
        + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w));
}

fn dot_block(w: Block, x: Q16) -> f32 {
    let coarse = vec2<f32>(dot16_i8(w.lo, x.coarse_lo), dot16_i8(w.hi, x.coarse_hi));
    let fine = vec2<f32>(dot16_i8(w.lo, x.fine_lo), dot16_i8(w.hi, x.fine_hi));
    return x.d * dot(w.d, coarse + FINE * fine) + dot(w.m, x.s);
}
