// out = x · sigmoid(g), a g for each row. Shapes: x and out [T, N], g [T, 1].
// Dispatch: one thread per value (x) and token (y).
override N: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        let at = id.y * N + id.x;
        out[at] = x[at] / (1.0 + exp(-g[id.y]));
    }
}
