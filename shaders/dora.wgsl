// y = (y − bias) · factors + bias, column by column, in place, in the rows that the adapter is for. Shapes: y [T, N], factors, bias [N].
// Dispatch: one thread per column (x) and token (y).
// @use adapted
override N: u32;
override HAS_BIAS: bool = false;
@group(0) @binding(3) var<storage, read_write> factors: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N || !is_adapted(id.y) {
        return;
    }
    let at = id.y * N + id.x;
    var b = 0.0;
    if HAS_BIAS {
        b = bias[id.x];
    }
    y[at] = (y[at] - b) * factors[id.x] + b;
}
