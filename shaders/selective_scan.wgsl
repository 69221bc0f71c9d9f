// Mamba's selective scan, for each column: Δ = softplus(step + dt); h ← exp(a Δ) h + Δ x B; out = C · h + d x.
// Shapes: x [T, X_STRIDE] from X_START on; steps likewise, N_HEADS of them; B and C side by side, likewise, N_GROUPS ·
// STATE_DIM each; a [N_HEADS], or [N_HEADS, STATE_DIM] if A_PER_STATE; dt and d [N_HEADS]; h [STATE_DIM, N_HEADS · HEAD_DIM];
// out [T, N_HEADS · HEAD_DIM]. Dispatch: one thread per column.
// @use lib/step
// @use lib/softplus
override N_HEADS: u32;
override HEAD_DIM: u32;
override N_GROUPS: u32;
override STATE_DIM: u32;
override A_PER_STATE: bool;
override HAS_BIAS: bool;
override MIN_STEP: f32;
override MAX_STEP: f32;
override X_STRIDE: u32;
override X_START: u32 = 0u;
override STEPS_STRIDE: u32;
override STEPS_START: u32 = 0u;
// Whether B and C are in the buffer of x.
override BC_IN_X: bool;
override BC_STRIDE: u32;
override BC_START: u32 = 0u;
@group(0) @binding(1) var<storage, read_write> state: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> steps: array<f32>;
@group(0) @binding(5) var<storage, read_write> bc: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> dt_bias: array<f32>;
@group(0) @binding(8) var<storage, read> d: array<f32>;

fn b_or_c(at: u32) -> f32 {
    if BC_IN_X {
        return x[at];
    }
    return bc[at];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = N_HEADS * HEAD_DIM;
    if id.x >= n {
        return;
    }
    let head = id.x / HEAD_DIM;
    let group = head * N_GROUPS / N_HEADS;
    var bias = 0.0;
    if HAS_BIAS {
        bias = dt_bias[head];
    }
    for (var t = 0u; t < step.rows; t++) {
        let raw = steps[t * STEPS_STRIDE + STEPS_START + head];
        let delta = clamp(softplus(raw + bias), MIN_STEP, MAX_STEP);
        let input = x[t * X_STRIDE + X_START + id.x];
        let b_at = t * BC_STRIDE + BC_START + group * STATE_DIM;
        let c_at = b_at + N_GROUPS * STATE_DIM;
        var sum = 0.0;
        var decay = 1.0;
        if !A_PER_STATE {
            decay = exp(delta * a[head]);
        }
        for (var i = 0u; i < STATE_DIM; i++) {
            if A_PER_STATE {
                decay = exp(delta * a[head * STATE_DIM + i]);
            }
            let h = decay * state[i * n + id.x] + delta * input * b_or_c(b_at + i);
            state[i * n + id.x] = h;
            sum += h * b_or_c(c_at + i);
        }
        out[t * n + id.x] = sum + d[head] * input;
    }
}
