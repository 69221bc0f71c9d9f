// The USED experts of each token with the highest scores, highest first and the lower index first among equals: their
// indices, then their weights, with RENORMALISE divided by EPS + their sum. SCORE: 0 the softmax of the logits, 1 their sigmoids, 2 a sparse mixer: the
// logits, and as weights softmaxes over logits close to each chosen one. A bias counts for the choice alone,
// and the experts' scales for the weights.
// Shapes: logits [T, EXPERTS]; bias, scales [EXPERTS]; out [T, 2 USED]. Dispatch: one workgroup per token (y).
// @use reduce
override EXPERTS: u32;
override USED: u32;
override SCORE: u32 = 0u;
override RENORMALISE: bool = false;
override EPS: f32 = 0.0;
override SCALE: f32 = 1.0;
override HAS_BIAS: bool = false;
override HAS_SCALES: bool = false;
override JITTER: f32 = 0.0;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> scales: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

var<workgroup> scores: array<f32, EXPERTS>;
var<workgroup> ranked: array<f32, EXPERTS>;
var<workgroup> ranks: array<u32, EXPERTS>;
var<workgroup> chosen: array<f32, USED>;
var<workgroup> factors: array<f32, USED>;

// The softmax of a chosen logit over those close to it that were not chosen before it.
fn mixed(slot: u32) -> f32 {
    let highest = chosen[slot];
    var total = 0.0;
    for (var e = 0u; e < EXPERTS; e++) {
        let s = scores[e];
        if ranks[e] >= slot && (highest - s) / max(abs(s), highest) <= 2.0 * JITTER {
            total += exp(s - highest);
        }
    }
    return 1.0 / total;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let from_logit = wid.y * EXPERTS;
    let at = wid.y * 2u * USED;
    var scale = 1.0;
    var peak = 0.0;
    if SCORE == 0u {
        peak = -1e30;
        for (var e = t; e < EXPERTS; e += WG) {
            peak = max(peak, logits[from_logit + e]);
        }
        peak = reduce_max(peak, t);
        var total = 0.0;
        for (var e = t; e < EXPERTS; e += WG) {
            total += exp(logits[from_logit + e] - peak);
        }
        scale = 1.0 / reduce_sum(vec4<f32>(total), t).x;
    }
    for (var e = t; e < EXPERTS; e += WG) {
        var score = scale * exp(logits[from_logit + e] - peak);
        if SCORE == 1u {
            score = 1.0 / (1.0 + exp(-logits[from_logit + e]));
        } else if SCORE == 2u {
            score = logits[from_logit + e];
        }
        scores[e] = score;
        ranked[e] = score;
        if HAS_BIAS {
            ranked[e] = score + bias[e];
        }
    }
    workgroupBarrier();
    for (var e = t; e < EXPERTS; e += WG) {
        let own = ranked[e];
        var rank = 0u;
        for (var i = 0u; i < EXPERTS; i++) {
            let other = ranked[i];
            rank += u32(other > own || (other == own && i < e));
        }
        ranks[e] = rank;
        if rank < USED {
            chosen[rank] = scores[e];
            factors[rank] = 1.0;
            if HAS_SCALES {
                factors[rank] = scales[e];
            }
            out[at + rank] = f32(e);
        }
    }
    workgroupBarrier();
    var divisor = 1.0;
    if RENORMALISE {
        divisor = EPS;
        for (var i = 0u; i < USED; i++) {
            divisor += chosen[i];
        }
    }
    for (var i = t; i < USED; i += WG) {
        var weight = chosen[i];
        if SCORE == 2u {
            weight = mixed(i);
        }
        out[at + USED + i] = SCALE * factors[i] * weight / divisor;
    }
}
