// Y = X · Wᵀ for several tokens, in f32; W [N, K] of any type, X [T, K], Y [T, STRIDE].
// Dispatch: a workgroup of 128 threads for 64 rows of W (x) and 32 tokens (y); each thread computes
// 4 × 4 results. Tiles of 32 columns are decoded into shared memory, with a word of padding per row
// to avoid bank conflicts.
// @use lib/step
// @use values
// @use lib/linear_out
override K: u32;
override STRIDE: u32;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

var<workgroup> w_tile: array<vec4<f32>, 576>;
var<workgroup> x_tile: array<vec4<f32>, 288>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row0 = wid.x * 64u;
    let token0 = wid.y * 32u;
    let blocks = K / 32u;
    let tn = t % 16u;
    let tm = t / 16u;
    var acc: array<vec4<f32>, 4>;
    for (var b = 0u; b < blocks; b++) {
        if t < 64u {
            let v = load_values(min(row0 + t, N - 1u) * blocks + b);
            for (var i = 0u; i < 4u; i++) {
                w_tile[t * 9u + i] = v.a[i];
                w_tile[t * 9u + 4u + i] = v.b[i];
            }
        } else {
            for (var i = 0u; i < 4u; i++) {
                let at = (t - 64u) + 64u * i;
                let token = min(token0 + at / 8u, step.rows - 1u);
                x_tile[(at / 8u) * 9u + at % 8u] = x[token * (K / 4u) + b * 8u + at % 8u];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let w0 = w_tile[tn * 9u + k];
            let w1 = w_tile[(tn + 16u) * 9u + k];
            let w2 = w_tile[(tn + 32u) * 9u + k];
            let w3 = w_tile[(tn + 48u) * 9u + k];
            for (var i = 0u; i < 4u; i++) {
                let v = x_tile[(tm + 8u * i) * 9u + k];
                acc[i] += vec4<f32>(dot(w0, v), dot(w1, v), dot(w2, v), dot(w3, v));
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let token = token0 + tm + 8u * i;
        for (var j = 0u; j < 4u; j++) {
            let row = row0 + tn + 16u * j;
            if token < step.rows && row < N {
                leave(token * STRIDE, row, acc[i][j], 0.0);
            }
        }
    }
}
