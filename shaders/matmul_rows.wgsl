// Y = X · Wᵀ for several tokens, for drivers that run shaders on the CPU: X consists of integers already
// (quantise_q16.wgsl); each thread processes 2 whole rows of W for 8 tokens, and all threads of a
// workgroup read the same X.
// Shapes: W [N, K] of a quantised type, Y [T, STRIDE]. Dispatch: 64 rows (x) by 8 tokens (y).
// @use lib/step
// @use block
// @use lib/q16
// @use lib/dot_q16
// @use lib/linear_out
override K: u32;
override STRIDE: u32;
@group(0) @binding(3) var<storage, read_write> x_q: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x_s: array<vec4<f32>>;

fn load_q16(b: u32) -> Q16 {
    let s = x_s[b];
    return Q16(x_q[4u * b], x_q[4u * b + 1u], x_q[4u * b + 2u], x_q[4u * b + 3u], s.x, s.yz);
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let blocks = K / 32u;
    let row = wid.x * 64u + t;
    let r0 = min(row, N - 1u) * blocks;
    let r1 = min(row + 32u, N - 1u) * blocks;
    let token = wid.y * 8u;
    let last = step.rows - 1u;
    var y: array<vec2<f32>, 8>;
    for (var b = 0u; b < blocks; b++) {
        let w0 = load_block(r0 + b);
        let w1 = load_block(r1 + b);
        for (var i = 0u; i < 8u; i++) {
            let q = load_q16(min(token + i, last) * blocks + b);
            y[i] += vec2<f32>(dot_block(w0, q), dot_block(w1, q));
        }
    }
    for (var i = 0u; i < 8u; i++) {
        if token + i < step.rows {
            if row < N {
                leave((token + i) * STRIDE, row, y[i].x, 0.0);
            }
            if row + 32u < N {
                leave((token + i) * STRIDE, row + 32u, y[i].y, 0.0);
            }
        }
    }
}
