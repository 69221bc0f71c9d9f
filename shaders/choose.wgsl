// The next token of each sequence from its logits [S, N], as crates/cpu/src/ops/choose.rs defines it: filters are thresholds
// on the scaled logits, found by bisection over the floats' bits; then the largest of logit plus
// Gumbel noise, of equal ones the lowest id. The token is written where the next step reads it, and to
// the ring that is read back, which has SAMPLES tokens for each step. Where a logit is not finite, the ring gets 0xffffffff.
// What is added to logits stands in them only until the token is chosen, so that others read them as they were.
// Dispatch: one workgroup per sequence.
// @use lib/step
// @use lib/samples
// @use lib/pcg
// @use reduce
override N: u32;
override SAMPLES: u32;
// Words of a slot in `seen` and `allowed`.
override SEEN: u32;
// The tokens that each slot allows, a bit each.
@group(0) @binding(1) var<storage, read> allowed: array<u32>;
struct Added {
    id: u32,
    // What is added to its logit; while it stands there, the logit as it was.
    value: f32,
}
@group(0) @binding(2) var<storage, read_write> added: array<Added>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(6) var<storage, read_write> ring: array<u32>;

var<workgroup> best_value: array<f32, WG>;
var<workgroup> best_id: array<u32, WG>;

// In place of the logit of a token that cannot be chosen.
const BANNED = -1e30;

// Floats as integers in the same order.
fn order(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn scaled(sample: u32, id: u32) -> f32 {
    let s = samples[sample];
    let word = s.slot * SEEN + id / 32u;
    if s.is_restricted == 1u && ((allowed[word] >> (id % 32u)) & 1u) == 0u {
        return BANNED;
    }
    var l = logits[sample * N + id];
    if l <= BANNED {
        return BANNED;
    }
    if ((seen[word] >> (id % 32u)) & 1u) == 1u {
        l = select(l * s.repeat_penalty, l / s.repeat_penalty, l > 0.0);
    }
    return select(l / s.temperature, l, s.temperature == 0.0);
}

// Number and mass of the tokens from the threshold on.
fn above(sample: u32, threshold: u32, peak: f32, t: u32) -> vec2<f32> {
    var sum = vec4<f32>(0.0);
    for (var id = t; id < N; id += WG) {
        let z = scaled(sample, id);
        if order(z) >= threshold {
            sum += vec4<f32>(1.0, exp(z - peak), 0.0, 0.0);
        }
    }
    return reduce_sum(sum, t).xy;
}

fn middle_of(low: u32, high: u32) -> u32 {
    let span = high - low;
    return low + span / 2u + (span & 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let sample = wid.x;
    let s = samples[sample];
    if s.n_added > 0u {
        for (var i = s.added + t; i < s.added + s.n_added; i += WG) {
            let at = sample * N + added[i].id;
            let before = logits[at];
            logits[at] = before + added[i].value;
            added[i].value = before;
        }
        storageBarrier();
    }
    var peak = BANNED;
    for (var id = t; id < N; id += WG) {
        peak = max(peak, scaled(sample, id));
    }
    peak = reduce_max(peak, t);
    let sampled = s.temperature > 0.0;
    var threshold = 0u;
    // The bisections take 32 rounds whatever the data, so that control flow is uniform.
    if sampled && s.top_k > 0u && s.top_k < N {
        var low = 0u;
        var high = order(peak);
        for (var round = 0u; round < 32u; round++) {
            let middle = middle_of(low, high);
            if above(sample, middle, peak, t).x >= f32(s.top_k) {
                low = middle;
            } else if middle > low {
                high = middle - 1u;
            }
        }
        threshold = low;
    }
    if sampled && s.top_p < 1.0 {
        let wanted = s.top_p * above(sample, threshold, peak, t).y;
        var low = threshold;
        var high = order(peak);
        for (var round = 0u; round < 32u; round++) {
            let middle = middle_of(low, high);
            if above(sample, middle, peak, t).y >= wanted {
                low = middle;
            } else if middle > low {
                high = middle - 1u;
            }
        }
        threshold = low;
    }
    if sampled && s.min_p > 0.0 {
        threshold = max(threshold, order(peak + log(s.min_p)));
    }
    let key = s.seed_lo ^ pcg(s.seed_hi ^ pcg(s.position));
    var value = -3e38;
    var chosen = 0xffffffffu;
    for (var id = t; id < N; id += WG) {
        // By the exponent's bits: compilers may assume that floats are finite.
        if (bitcast<u32>(logits[sample * N + id]) & 0x7f800000u) == 0x7f800000u {
            value = 3.4e38;
            chosen = 0xffffffffu;
            break;
        }
        var z = scaled(sample, id);
        if sampled {
            if order(z) < threshold {
                continue;
            }
            let u = (f32(pcg(id ^ pcg(key)) >> 8u) + 0.5) / 16777216.0;
            z -= log(-log(u));
        }
        if z > value || chosen == 0xffffffffu {
            value = z;
            chosen = id;
        }
    }
    best_value[t] = value;
    best_id[t] = chosen;
    workgroupBarrier();
    for (var n = WG / 2u; n > 0u; n = n / 2u) {
        if t < n {
            let other = best_value[t + n];
            let id = best_id[t + n];
            if other > best_value[t] || (other == best_value[t] && id < best_id[t]) {
                best_value[t] = other;
                best_id[t] = id;
            }
        }
        workgroupBarrier();
    }
    if s.n_added > 0u {
        storageBarrier();
        for (var i = s.added + t; i < s.added + s.n_added; i += WG) {
            logits[sample * N + added[i].id] = added[i].value;
        }
    }
    if t == 0u {
        // The next step reads a row of the embedding even if its result is not used.
        tokens[sample] = select(best_id[0], 0u, best_id[0] == 0xffffffffu);
        ring[step.slot * SAMPLES + sample] = best_id[0];
    }
}
