// The one token's activations x [K] of a matvec, 32 at a time, and the norm fused into it.
// @use lib/values
override K: u32;
override HAS_NORM: bool = false;
override EPS: f32 = 0.0;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> norm: array<vec4<f32>>;

fn load_x(b: u32) -> Values {
    let i = 8u * b;
    return Values(
        mat4x4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]),
        mat4x4<f32>(x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u]),
    );
}

fn times_norm(v: Values, b: u32) -> Values {
    let i = 8u * b;
    return Values(
        mat4x4<f32>(v.a[0] * norm[i], v.a[1] * norm[i + 1u], v.a[2] * norm[i + 2u], v.a[3] * norm[i + 3u]),
        mat4x4<f32>(v.b[0] * norm[i + 4u], v.b[1] * norm[i + 5u], v.b[2] * norm[i + 6u], v.b[3] * norm[i + 7u]),
    );
}
