// y = W · x for one token, for drivers that run shaders on the CPU: the workgroup prepares x
// together, then each thread processes 4 whole rows of W (and, gated, the 4 rows N further
// down), so that nothing is reduced across threads.
// Dispatch: one workgroup for 4 · WG rows.
// @use block
// @use lib/dot_bytes
// @use lib/reduce_wg
// @use lib/linear_out
// @use lib/matvec_in

// x is processed 2048 columns at a time.
const CHUNK: u32 = 64u;
var<workgroup> x_lo: array<mat4x4<f32>, 64>;
var<workgroup> x_hi: array<mat4x4<f32>, 64>;
var<workgroup> x_st: array<vec4<f32>, 64>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = 4u * WG * (wid.x + wid.y * groups.x) + t;
    let blocks = K / 32u;
    let last = N - 1u;
    let rows = vec4<u32>(row, row + WG, row + 2u * WG, row + 3u * WG);
    let r = min(rows, vec4<u32>(last)) * blocks;
    var y = vec4<f32>(0.0);
    var up = vec4<f32>(0.0);
    var squares = 0.0;
    for (var first = 0u; first < blocks; first += CHUNK) {
        let n = min(CHUNK, blocks - first);
        workgroupBarrier();
        for (var b = t; b < n; b += WG) {
            var v = load_x(first + b);
            if HAS_NORM {
                squares += dot32(v, v);
                v = times_norm(v, first + b);
            }
            let q = scaled(v);
            x_lo[b] = q.lo;
            x_hi[b] = q.hi;
            x_st[b] = vec4<f32>(q.s, q.t);
        }
        workgroupBarrier();
        for (var b = 0u; b < n; b++) {
            let st = x_st[b];
            let q = Scaled(x_lo[b], x_hi[b], st.xy, st.zw);
            let w = r + vec4<u32>(first + b);
            y += vec4<f32>(
                dot_block(load_block(w.x), q),
                dot_block(load_block(w.y), q),
                dot_block(load_block(w.z), q),
                dot_block(load_block(w.w), q),
            );
            if MODE == 2u {
                let u = w + vec4<u32>(N * blocks);
                up += vec4<f32>(
                    dot_block(load_block(u.x), q),
                    dot_block(load_block(u.y), q),
                    dot_block(load_block(u.z), q),
                    dot_block(load_block(u.w), q),
                );
            }
        }
    }
    var scale = 1.0;
    if HAS_NORM {
        scale = 1.0 / sqrt(reduce_sum(vec4<f32>(squares), t).x / f32(K) + EPS);
    }
    for (var i = 0u; i < 4u; i++) {
        if rows[i] < N {
            leave(0u, rows[i], y[i] * scale, up[i] * scale);
        }
    }
}
