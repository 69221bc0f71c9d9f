// out = act(b + Σ_i w_i · x[t − KERNEL + 1 + i]), column by column; rows before the step's are in the state, which then
// holds the last ones. Shapes: x [T, STRIDE] from START on; w [N, KERNEL]; state [KERNEL − 1, N]; out [T, N].
// Dispatch: one thread per column.
// @use lib/step
// @use lib/activation
override N: u32;
override KERNEL: u32;
override STRIDE: u32;
override START: u32 = 0u;
override HAS_BIAS: bool;
@group(0) @binding(1) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// A row, counted from the first of the state.
fn value(at: u32, column: u32) -> f32 {
    let before = KERNEL - 1u;
    if at < before {
        return state[at * N + column];
    }
    return x[(at - before) * STRIDE + START + column];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    if column >= N {
        return;
    }
    var b = 0.0;
    if HAS_BIAS {
        b = bias[column];
    }
    for (var t = 0u; t < step.rows; t++) {
        var sum = b;
        for (var i = 0u; i < KERNEL; i++) {
            sum += w[column * KERNEL + i] * value(t + i, column);
        }
        out[t * N + column] = activate(sum);
    }
    for (var at = 0u; at < KERNEL - 1u; at++) {
        state[at * N + column] = value(step.rows + at, column);
    }
}
