// out = act(gate) · up. Shapes: gate [T, STRIDE] from START on; up [T, UP_STRIDE] from UP_START on, which is in the same
// buffer if STACKED; out [T, N]. Dispatch: one thread per value (x) and token (y).
// @use lib/activation
override N: u32;
override STACKED: bool;
override STRIDE: u32;
override START: u32 = 0u;
override UP_STRIDE: u32;
override UP_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> up: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let at = id.y * UP_STRIDE + UP_START + id.x;
    var factor = 0.0;
    if STACKED {
        factor = gate[at];
    } else {
        factor = up[at];
    }
    out[id.y * N + id.x] = gated(gate[id.y * STRIDE + START + id.x], factor);
}
