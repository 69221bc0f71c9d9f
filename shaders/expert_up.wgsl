// y = W[e] · x + b[e] for each expert e that a token uses. Of the PROJECTIONS that a matrix holds one below the other,
// each N rows, the results of all experts are side by side; or, with MODE 2, act(first) · second.
// Shapes: lib/expert; x [T, K]; out [T, PROJECTIONS · USED · N], with MODE 2 [T, USED · N].
// Dispatch: one workgroup for 4 rows (x) of one slot and projection (y) for one token (z); its threads divide the
// blocks of 32 columns.
// @use product
// @use reduce
// @use lib/activation
// @use lib/expert
// @use lib/expert_in
override N: u32;
override PROJECTIONS: u32 = 1u;
override MODE: u32 = 0u;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn with_bias(y: f32, row: u32) -> f32 {
    if HAS_BIAS {
        return y + bias[row];
    }
    return y;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let first = 4u * wid.x;
    let token = wid.z;
    let slot = wid.y % USED;
    let row = expert_of(token, slot) * EXPERT_ROWS + wid.y / USED * N + first;
    let blocks = K / 32u;
    let last = N - 1u - first;
    let rows = vec4<u32>(row, row + min(1u, last), row + min(2u, last), row + min(3u, last));
    let r = vec4<u32>(blocks_of(rows.x), blocks_of(rows.y), blocks_of(rows.z), blocks_of(rows.w));
    // What another dispatch computes takes no time here.
    let here = vec4<bool>(is_here(rows.x), is_here(rows.y), is_here(rows.z), is_here(rows.w));
    let limit = select(0u, blocks, any(here));
    var y = vec4<f32>(0.0);
    var up = vec4<f32>(0.0);
    for (var b = t; b < limit; b += WG) {
        let input = prepare(load_x(token * blocks + b));
        y += vec4<f32>(
            product(r.x + b, input),
            product(r.y + b, input),
            product(r.z + b, input),
            product(r.w + b, input),
        );
        if MODE == 2u {
            let u = r + vec4<u32>(N * blocks + b);
            up += vec4<f32>(
                product(u.x, input),
                product(u.y, input),
                product(u.z, input),
                product(u.w, input),
            );
        }
    }
    y = reduce_sum(y, t);
    if MODE == 2u {
        up = reduce_sum(up, t);
    }
    if t < 4u && first + t < N && is_here(row + t) {
        var value = with_bias(y[t], row + t);
        if MODE == 2u {
            value = gated(value, with_bias(up[t], row + N + t));
            out[(token * USED + slot) * N + first + t] = value;
        } else {
            out[(token * PROJECTIONS * USED + wid.y) * N + first + t] = value;
        }
    }
}
