// 32 values of a row.
struct Values {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
}

fn dot16(w: mat4x4<f32>, x: mat4x4<f32>) -> f32 {
    return dot(w[0], x[0]) + dot(w[1], x[1]) + dot(w[2], x[2]) + dot(w[3], x[3]);
}

fn dot32(w: Values, x: Values) -> f32 {
    return dot16(w.a, x.a) + dot16(w.b, x.b);
}
