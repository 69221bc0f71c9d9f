// Norm and rope of one head by the workgroup. The table contains cos and sin of position · inv_freq,
// [positions, N_FREQS]; norms those of q, then those of k, [2, HEAD_DIM].
// @use lib/heads
// @use lib/rotate
override HAS_NORM: bool = false;
override EPS: f32 = 0.0;
@group(0) @binding(4) var<storage, read> norms: array<f32>;
@group(0) @binding(6) var<storage, read> table: array<vec2<f32>>;

var<workgroup> rotated: array<f32, HEAD_DIM>;

// Writes the head that begins at x[at], rotated for its position, to `rotated`.
fn rotate(at: u32, is_q: bool, position: u32, t: u32) {
    var scale = 1.0;
    if HAS_NORM {
        var squares = 0.0;
        for (var i = t; i < HEAD_DIM; i += WG) {
            squares += x[at + i] * x[at + i];
        }
        scale = 1.0 / sqrt(reduce_sum(vec4<f32>(squares), t).x / f32(HEAD_DIM) + EPS);
    }
    for (var i = t; i < HEAD_DIM / 2u; i += WG) {
        let pair = pair_of(i);
        var a = x[at + pair.x];
        var b = x[at + pair.y];
        if HAS_NORM {
            let first = select(HEAD_DIM, 0u, is_q);
            a *= scale * norms[first + pair.x];
            b *= scale * norms[first + pair.y];
        }
        var turn = vec2<f32>(1.0, 0.0);
        if i < N_FREQS {
            turn = table[position * N_FREQS + i];
        }
        rotated[pair.x] = a * turn.x - b * turn.y;
        rotated[pair.y] = b * turn.x + a * turn.y;
    }
    workgroupBarrier();
}

fn rotated4(i: u32) -> vec4<f32> {
    return vec4<f32>(rotated[4u * i], rotated[4u * i + 1u], rotated[4u * i + 2u], rotated[4u * i + 3u]);
}
