// out [S, N] = the rows of x [T, N] from which the step chooses tokens. Dispatch: one thread per value (x) and row (y).
// @use lib/samples
override N: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        out[id.y * N + id.x] = x[samples[id.y].row * N + id.x];
    }
}
