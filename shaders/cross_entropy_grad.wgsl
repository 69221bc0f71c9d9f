// logits = weight · (softmax − onehot(target)), times the derivative of a soft cap, in place, for N tokens of the vocabulary from FIRST on.
// Shapes: logits [T, STRIDE]; stats [T, 2] of which the second is the log-sum-exp. Dispatch: one thread per
// logit (x) and token (y).
// @use lib/batch
// @use lib/scores
override N: u32;
override FIRST: u32 = 0u;
override STRIDE: u32;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let info = batch[id.y];
    let at = id.y * STRIDE + id.x;
    if info.weight == 0.0 {
        logits[at] = 0.0;
        return;
    }
    let logit = capped(logits[at]);
    let p = exp(logit - stats[id.y].y);
    let slope = info.weight * capped_grad(logit);
    logits[at] = slope * select(p, p - 1.0, FIRST + id.x == info.target_id);
}
