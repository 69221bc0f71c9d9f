// The gated delta rule, for each head of v: S ← exp(a softplus(α + dt)) S; S ← S + k ⊗ sigmoid(b) (v − Sᵀ k); out = SCALE Sᵀ q.
// Shapes: q and k side by side, [T, QK_STRIDE] from QK_START on; v likewise; b and α side by side, likewise; a and dt
// [N_V_HEADS]; S [K_DIM, N_V_HEADS · V_DIM]; out [T, N_V_HEADS · V_DIM].
// Dispatch: one thread per column of v.
// @use lib/step
// @use lib/softplus
override N_K_HEADS: u32;
override N_V_HEADS: u32;
override K_DIM: u32;
override V_DIM: u32;
override SCALE: f32;
override TILED: bool;
override QK_STRIDE: u32;
override QK_START: u32 = 0u;
override V_STRIDE: u32;
override V_START: u32 = 0u;
override GATES_STRIDE: u32;
override GATES_START: u32 = 0u;
@group(0) @binding(1) var<storage, read_write> state: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read_write> qk: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> gates: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> dt_bias: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = N_V_HEADS * V_DIM;
    if id.x >= n {
        return;
    }
    let head = id.x / V_DIM;
    let k_head = select(head * N_K_HEADS / N_V_HEADS, head % N_K_HEADS, TILED);
    for (var t = 0u; t < step.rows; t++) {
        let q_at = t * QK_STRIDE + QK_START + k_head * K_DIM;
        let k_at = q_at + N_K_HEADS * K_DIM;
        let gate_at = t * GATES_STRIDE + GATES_START + head;
        let beta = 1.0 / (1.0 + exp(-gates[gate_at]));
        let decay = exp(a[head] * softplus(gates[gate_at + N_V_HEADS] + dt_bias[head]));
        var known = 0.0;
        for (var i = 0u; i < K_DIM; i++) {
            known += state[i * n + id.x] * qk[k_at + i];
        }
        let delta = beta * (v[t * V_STRIDE + V_START + id.x] - decay * known);
        var sum = 0.0;
        for (var i = 0u; i < K_DIM; i++) {
            let s = decay * state[i * n + id.x] + delta * qk[k_at + i];
            state[i * n + id.x] = s;
            sum += s * qk[q_at + i];
        }
        out[t * n + id.x] = SCALE * sum;
    }
}
