// out [1, N] = the last row of x [T, N]. Dispatch: one thread per value.
// @use lib/step
override N: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        out[id.x] = x[(step.rows - 1u) * N + id.x];
    }
}
