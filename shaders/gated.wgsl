// out = act(gate) · up, where gate and up are the halves of each row of x [T, 2 N]; out [T, N].
// Dispatch: one thread per value (x) and token (y).
// @use lib/activation
override N: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let at = id.y * 2u * N + id.x;
    out[id.y * N + id.x] = gate(x[at], x[at + N]);
}
