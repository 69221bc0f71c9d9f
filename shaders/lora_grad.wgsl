// The gradient of A or of a span of B: grad += SCALE · pᵀ · q, summed over the batch's tokens.
// Shapes: p [T, P_STRIDE], M columns from P_START on; q [T, Q_STRIDE], N columns from Q_START on; grad
// [.., N], M rows from ROW on. Dispatch: one thread per value of the gradient.
// @use lib/step
override M: u32;
override N: u32;
override SCALE: f32 = 1.0;
override P_STRIDE: u32;
override P_START: u32 = 0u;
override Q_STRIDE: u32;
override Q_START: u32 = 0u;
override ROW: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> p: array<f32>;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (wid.y * groups.x + wid.x) * 64u + t;
    if i >= M * N {
        return;
    }
    var p_at = P_START + i / N;
    var q_at = Q_START + i % N;
    var sum = 0.0;
    for (var token = 0u; token < step.rows; token++) {
        sum += p[p_at] * q[q_at];
        p_at += P_STRIDE;
        q_at += Q_STRIDE;
    }
    grad[ROW * N + i] += SCALE * sum;
}
