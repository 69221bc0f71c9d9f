// Activations of experts, 32 at a time.
// @use lib/values
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

fn load_x(b: u32) -> Values {
    let i = 8u * b;
    return Values(
        mat4x4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]),
        mat4x4<f32>(x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u]),
    );
}
