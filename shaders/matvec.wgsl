// y = W · x for one token; W [N, K] of any type, the products in f32 or, for quantised types, of
// integers. With HAS_NORM, x is rms_norm(x) · norm: the sum of squares is accumulated in passing and
// applied at the end.
// Dispatch: one workgroup for 4 rows of W (and, gated, the 4 rows N further down); its threads
// divide the blocks of 32 columns, so that adjacent threads read adjacent 16 bytes.
// @use product
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
        let input = prepare(v);
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
    var scale = 1.0;
    if HAS_NORM {
        scale = 1.0 / sqrt(reduce_sum(vec4<f32>(squares), t).x / f32(K) + EPS);
    }
    if t < 4u && row + t < N {
        leave(0u, row + t, y[t] * scale, up[t] * scale);
    }
}
