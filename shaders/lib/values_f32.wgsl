// @use lib/weights
// @use lib/values
fn load_values(b: u32) -> Values {
    let i = 8u * b;
    return Values(
        mat4x4<f32>(
            bitcast<vec4<f32>>(quants[i]),
            bitcast<vec4<f32>>(quants[i + 1u]),
            bitcast<vec4<f32>>(quants[i + 2u]),
            bitcast<vec4<f32>>(quants[i + 3u]),
        ),
        mat4x4<f32>(
            bitcast<vec4<f32>>(quants[i + 4u]),
            bitcast<vec4<f32>>(quants[i + 5u]),
            bitcast<vec4<f32>>(quants[i + 6u]),
            bitcast<vec4<f32>>(quants[i + 7u]),
        ),
    );
}
