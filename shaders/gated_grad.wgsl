// The gradients of gate and up, side by side: dy · up · act'(gate) and dy · act(gate).
// Shapes: x [T, 2 N] (gate, then up); dy [T, N]; out [T, 2 N]. Dispatch: one thread per value of dy (x) and
// token (y). GELU: tanh-approximated GELU instead of SiLU.
// @use lib/activation
override N: u32;
override GELU: bool = false;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let at = id.y * 2u * N + id.x;
    let gate = x[at];
    let above = dy[id.y * N + id.x];
    let s = 1.0 / (1.0 + exp(-gate));
    var act = silu(gate);
    var slope = s * (1.0 + gate * (1.0 - s));
    if GELU {
        let u = clamp(0.7978845608 * (gate + 0.044715 * gate * gate * gate), -15.0, 15.0);
        let th = tanh(u);
        act = gelu_tanh(gate);
        slope = 0.5 * (1.0 + th)
            + 0.5 * gate * (1.0 - th * th) * 0.7978845608 * (1.0 + 0.134145 * gate * gate);
    }
    out[at] = above * x[at + N] * slope;
    out[at + N] = above * act;
}
