// Mean and variance of runs of K columns. Shapes: x [T, STRIDE · 4] from START · 4 on.
// @use reduce
override K: u32;
override RUNS: u32 = 1u;
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

// Of the run from x[at] on. The variance takes a pass of its own: a difference of sums would lose what is small beside
// the mean.
fn mean_and_variance(at: u32, t: u32) -> vec2<f32> {
    var sum = vec4<f32>(0.0);
    for (var i = t; i < K / 4u; i += WG) {
        sum += x[at + i];
    }
    let sums = reduce_sum(sum, t);
    let mean = (sums.x + sums.y + sums.z + sums.w) / f32(K);
    var squares = 0.0;
    for (var i = t; i < K / 4u; i += WG) {
        let v = x[at + i] - mean;
        squares += dot(v, v);
    }
    return vec2<f32>(mean, reduce_sum(vec4<f32>(squares), t).x / f32(K));
}
