// softmax(q Kᵀ) V of one query by the workgroup, over the keys first .. end. The kernel defines
// score_of(key) and value_of(key, column of four).
// Keys are processed WG at a time, one per thread, with a running maximum (online softmax, M. Milakov and
// N. Gimelshein 2018); then the threads divide the values: HEAD_DIM / 4 columns by PARTS keys.
// @use lib/head_dim
// @use lib/scores
// @use reduce
var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

struct Attended {
    // In the first HEAD_DIM / 4 threads: four columns, not yet divided by the total.
    columns: vec4<f32>,
    peak: f32,
    total: f32,
}

// With a further score that has no value.
fn with_sink(a: Attended, sink: f32) -> Attended {
    let peak = max(a.peak, sink);
    let shrink = exp(a.peak - peak);
    return Attended(a.columns * shrink, peak, a.total * shrink + exp(sink - peak));
}

fn attend(first: u32, end: u32, t: u32) -> Attended {
    let d4 = HEAD_DIM / 4u;
    let parts = WG / d4;
    let column = t % d4;
    let part = t / d4;
    var peak = -1e30;
    var total = 0.0;
    var acc = vec4<f32>(0.0);
    for (var tile = first; tile < end; tile += WG) {
        let key = tile + t;
        var score = -1e30;
        if key < end {
            score = capped(score_of(key));
        }
        let new_peak = max(peak, reduce_max(score, t));
        let shrink = exp(peak - new_peak);
        peak = new_peak;
        let weight = select(0.0, exp(score - peak), key < end);
        weights[t] = weight;
        total = total * shrink + weight;
        acc *= shrink;
        workgroupBarrier();
        if part < parts {
            let n = min(WG, end - tile);
            for (var j = part; j < n; j += parts) {
                acc += weights[j] * value_of(tile + j, column);
            }
        }
        workgroupBarrier();
    }
    total = reduce_sum(vec4<f32>(total), t).x;
    sums[t] = acc;
    workgroupBarrier();
    acc = vec4<f32>(0.0);
    if t < d4 {
        for (var p = 0u; p < parts; p++) {
            acc += sums[p * d4 + t];
        }
    }
    return Attended(acc, peak, total);
}
