// y = W · x for one token, by dot products of packed 8-bit integers; W [N, K] of a quantised type. As
// matvec.wgsl, but each thread makes its blocks of x integers first.
// Dispatch: one workgroup for 4 rows of W (and, gated, the 4 rows N further down).
// @use block
// @use lib/q16
// @use lib/dot_q16
// @use reduce
// @use lib/linear_out
// @use lib/matvec_in

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = 4u * (wid.x + wid.y * groups.x);
    if row >= N {
        return;
    }
    let blocks = K / 32u;
    let last = N - 1u;
    let r = vec4<u32>(row, min(row + 1u, last), min(row + 2u, last), min(row + 3u, last)) * blocks;
    var y = vec4<f32>(0.0);
    var up = vec4<f32>(0.0);
    var squares = 0.0;
    for (var b = t; b < blocks; b += WG) {
        var v = load_x(b);
        if HAS_NORM {
            squares += dot32(v, v);
            v = times_norm(v, b);
        }
        let q = quantise(v);
        y += vec4<f32>(
            dot_block(load_block(r.x + b), q),
            dot_block(load_block(r.y + b), q),
            dot_block(load_block(r.z + b), q),
            dot_block(load_block(r.w + b), q),
        );
        if MODE >= 2u {
            let u = r + vec4<u32>(N * blocks + b);
            up += vec4<f32>(
                dot_block(load_block(u.x), q),
                dot_block(load_block(u.y), q),
                dot_block(load_block(u.z), q),
                dot_block(load_block(u.w), q),
            );
        }
    }
    y = reduce_sum(y, t);
    if MODE >= 2u {
        up = reduce_sum(up, t);
    }
    var scale = 1.0;
    if HAS_NORM {
        scale = 1.0 / sqrt(reduce_sum(vec4<f32>(squares), t).x / f32(K) + EPS);
    }
    if t < 4u && row + t < N {
        leave(0u, row + t, y[t] * scale, up[t] * scale);
    }
}
