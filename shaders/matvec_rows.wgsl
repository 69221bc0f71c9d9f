// y = W · x for one token, for processors that run shaders in software: the workgroup makes x
// integers together, then each thread walks 4 whole rows of W (and, gated, the 4 rows N further
// down), so that nothing is reduced across threads.
// Dispatch: one workgroup for 4 · WG rows.
// @use block
// @use lib/q16
// @use lib/dot_q16
// @use lib/reduce_wg
// @use lib/linear_out
// @use lib/matvec_in

// x is taken 4096 columns at a time.
const CHUNK: u32 = 128u;
var<workgroup> x_q: array<vec4<u32>, 512>;
var<workgroup> x_s: array<vec4<f32>, 128>;

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
            let q = quantise(v);
            x_q[4u * b] = q.coarse_lo;
            x_q[4u * b + 1u] = q.coarse_hi;
            x_q[4u * b + 2u] = q.fine_lo;
            x_q[4u * b + 3u] = q.fine_hi;
            x_s[b] = vec4<f32>(q.d, q.s, 0.0);
        }
        workgroupBarrier();
        for (var b = 0u; b < n; b++) {
            let s = x_s[b];
            let q = Q16(x_q[4u * b], x_q[4u * b + 1u], x_q[4u * b + 2u], x_q[4u * b + 3u], s.x, s.yz);
            let w = r + vec4<u32>(first + b);
            y += vec4<f32>(
                dot_block(load_block(w.x), q),
                dot_block(load_block(w.y), q),
                dot_block(load_block(w.z), q),
                dot_block(load_block(w.w), q),
            );
            if MODE >= 2u {
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
