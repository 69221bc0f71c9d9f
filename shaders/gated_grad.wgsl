// The gradients of gate and up, side by side: dy · up · act'(gate) and dy · act(gate).
// Shapes: x [T, 2 N] (gate, then up); dy [T, DY_STRIDE] from DY_START on; out [T, 2 N].
// Dispatch: one thread per value of dy (x) and token (y).
// @use lib/activation
override N: u32;
override DY_STRIDE: u32;
override DY_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let at = id.y * 2u * N + id.x;
    let above = dy[id.y * DY_STRIDE + DY_START + id.x];
    out[at] = above * factor(x[at + N]) * activate_grad(x[at]);
    out[at + N] = above * factor_grad(x[at + N]) * activate(x[at]);
}
