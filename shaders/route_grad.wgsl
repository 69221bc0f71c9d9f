// The gradient of a router's logits; which experts were chosen is constant. The constants are those of route.wgsl.
// Shapes: logits and out [T, EXPERTS]; route [T, 2 USED]; dy [T, DY_STRIDE], from DY_START on.
// Dispatch: one thread per token.
// @use lib/step
override EXPERTS: u32;
override USED: u32;
override SCORE: u32 = 0u;
override RENORMALISE: bool = false;
override EPS: f32 = 0.0;
override SCALE: f32 = 1.0;
override DY_STRIDE: u32;
override DY_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> route: array<f32>;
@group(0) @binding(5) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let token = id.x;
    if token >= step.rows {
        return;
    }
    let at = token * EXPERTS;
    let from_route = token * 2u * USED;
    let from_dy = token * DY_STRIDE + DY_START + USED;
    var peak = -1e30;
    var total = 0.0;
    if SCORE == 0u {
        for (var e = 0u; e < EXPERTS; e++) {
            peak = max(peak, logits[at + e]);
        }
        for (var e = 0u; e < EXPERTS; e++) {
            total += exp(logits[at + e] - peak);
        }
    }
    var chosen = EPS;
    var inner = 0.0;
    for (var i = 0u; i < USED; i++) {
        let score = score_of(logits[at + u32(route[from_route + i])], peak, total);
        chosen += score;
        inner += score * dy[from_dy + i];
    }
    // The mean of the chosen scores' gradients, by the scores.
    var mean = SCALE * inner;
    if RENORMALISE {
        mean = 0.0;
    }
    for (var e = 0u; e < EXPERTS; e++) {
        out[at + e] = 0.0;
        if SCORE == 0u {
            out[at + e] = -score_of(logits[at + e], peak, total) * mean;
        }
    }
    for (var i = 0u; i < USED; i++) {
        let e = u32(route[from_route + i]);
        let score = score_of(logits[at + e], peak, total);
        var d = SCALE * dy[from_dy + i];
        if RENORMALISE {
            d = SCALE * (dy[from_dy + i] - inner / chosen) / chosen;
        }
        if SCORE == 0u {
            out[at + e] += score * d;
        } else {
            out[at + e] = score * (1.0 - score) * d;
        }
    }
}

fn score_of(logit: f32, peak: f32, total: f32) -> f32 {
    if SCORE == 1u {
        return 1.0 / (1.0 + exp(-logit));
    }
    return exp(logit - peak) / total;
}
