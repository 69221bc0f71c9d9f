// out = 0 with probability P, else x / (1 − P), decided by the step's seed, SALT and the value's place.
// Shapes: x, out [T, N]. Dispatch: one thread per value (x) and token (y).
// @use lib/step
// @use lib/pcg
override N: u32;
override P: f32;
override SALT: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let i = id.y * N + id.x;
    let bits = pcg(i ^ pcg(step.seed_lo ^ pcg(SALT)));
    let uniform_draw = (f32(bits >> 8u) + 0.5) / 16777216.0;
    out[i] = select(x[i] / (1.0 - P), 0.0, uniform_draw < P);
}
