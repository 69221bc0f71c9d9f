// y = Σ weight · (W[e] · h[e] + b[e]) over the experts e that a token uses, or added to y (ADD).
// Shapes: lib/expert; h [T, USED · K]; out [T, EXPERT_ROWS].
// Dispatch: one workgroup for 4 rows (x) and one token (y); its threads divide the blocks of 32 columns of all experts.
// @use product
// @use reduce
// @use lib/expert
// @use lib/expert_in
override ADD: bool = false;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let first = 4u * wid.x;
    let token = wid.y;
    let blocks = K / 32u;
    let last = EXPERT_ROWS - 1u - first;
    let next = vec4<u32>(0u, min(1u, last), min(2u, last), min(3u, last));
    var y = vec4<f32>(0.0);
    for (var i = t; i < USED * blocks; i += WG) {
        let slot = i / blocks;
        let b = i % blocks;
        let rows = vec4<u32>(expert_of(token, slot) * EXPERT_ROWS + first) + next;
        let here = vec4<bool>(is_here(rows.x), is_here(rows.y), is_here(rows.z), is_here(rows.w));
        if !any(here) {
            continue;
        }
        let input = prepare(load_x(token * USED * blocks + i));
        var v = vec4<f32>(
            product(blocks_of(rows.x) + b, input),
            product(blocks_of(rows.y) + b, input),
            product(blocks_of(rows.z) + b, input),
            product(blocks_of(rows.w) + b, input),
        );
        if HAS_BIAS && b == 0u {
            v += vec4<f32>(bias[rows.x], bias[rows.y], bias[rows.z], bias[rows.w]);
        }
        y += weight_of(token, slot) * select(vec4<f32>(0.0), v, here);
    }
    y = reduce_sum(y, t);
    if t < 4u && first + t < EXPERT_ROWS {
        let at = token * EXPERT_ROWS + first + t;
        if ADD {
            out[at] += y[t];
        } else {
            out[at] = y[t];
        }
    }
}
