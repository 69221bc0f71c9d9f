// Combines the splits of attention_step: out [N_HEADS · HEAD_DIM], parts as that kernel leaves them.
// Dispatch: one workgroup per head.
override HEAD_DIM: u32;
override SPLITS: u32;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let first = wid.x * SPLITS * (d4 + 1u);
    var peak = -1e30;
    for (var s = 0u; s < SPLITS; s++) {
        peak = max(peak, parts[first + s * (d4 + 1u) + d4].x);
    }
    if t < d4 {
        var columns = vec4<f32>(0.0);
        var total = 0.0;
        for (var s = 0u; s < SPLITS; s++) {
            let at = first + s * (d4 + 1u);
            let weight = exp(parts[at + d4].x - peak);
            columns += weight * parts[at + t];
            total += weight * parts[at + d4].y;
        }
        out[wid.x * d4 + t] = columns / total;
    }
}
