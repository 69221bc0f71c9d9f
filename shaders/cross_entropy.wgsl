// Accumulates the logits of N tokens of the vocabulary, from FIRST on, into each row's loss, chunk by chunk, so
// that the logits never exist all at once. Shapes: logits [T, STRIDE]; sums [T] of peak, sum of exponentials, the
// target's logit; out [T, 2]: weight · loss and log-sum-exp, right after the last chunk; 0 where the weight
// is 0. Dispatch: one workgroup per token.
// @use lib/batch
// @use lib/scores
// @use reduce
override N: u32;
override FIRST: u32 = 0u;
override STRIDE: u32;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = wid.x;
    let at = row * STRIDE;
    var peak = -1e30;
    for (var i = t; i < N; i += WG) {
        peak = max(peak, capped(logits[at + i]));
    }
    peak = reduce_max(peak, t);
    var total = 0.0;
    for (var i = t; i < N; i += WG) {
        total += exp(capped(logits[at + i]) - peak);
    }
    total = reduce_sum(vec4<f32>(total), t).x;
    if t > 0u {
        return;
    }
    var before = vec4<f32>(-1e30, 0.0, 0.0, 0.0);
    if FIRST > 0u {
        before = sums[row];
    }
    let info = batch[row];
    let highest = max(before.x, peak);
    var now = vec4<f32>(
        highest,
        before.y * exp(before.x - highest) + total * exp(peak - highest),
        before.z,
        0.0,
    );
    if info.target_id >= FIRST && info.target_id < FIRST + N {
        now.z = capped(logits[at + info.target_id - FIRST]);
    }
    sums[row] = now;
    let lse = now.x + log(now.y);
    out[row] = select(vec2<f32>(0.0), vec2<f32>(info.weight * (lse - now.z), lse), info.weight != 0.0);
}
