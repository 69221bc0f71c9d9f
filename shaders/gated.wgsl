// out = act(gate) · up, where gate and up are the halves of each row of x [T, 2 N]; out [T, N].
// Dispatch: one thread per value (x) and token (y). GELU: tanh-approximated GELU instead of SiLU.
// @use lib/activation
override N: u32;
override GELU: bool = false;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let gate = x[id.y * 2u * N + id.x];
    let up = x[id.y * 2u * N + N + id.x];
    var act = silu(gate);
    if GELU {
        act = gelu_tanh(gate);
    }
    out[id.y * N + id.x] = act * up;
}
