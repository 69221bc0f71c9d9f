// What runs of K columns are normalised by. Shapes: those of lib/moments; w [K].
// @use lib/moments
override EPS: f32;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;

// The mean, and 1 / sqrt(var + eps), of the run from x[at] on.
fn moments(at: u32, t: u32) -> vec2<f32> {
    let m = mean_and_variance(at, t);
    return vec2<f32>(m.x, 1.0 / sqrt(m.y + EPS));
}
