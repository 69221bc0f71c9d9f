// dX = dY · W through weights of any type, or added to dX (ADD); dY [T, STRIDE], N columns from ROW0 on,
// W [N, K], dX [T, K]. Dispatch: a workgroup of 128 threads for 64 columns of W (x) and 32 tokens (y); each
// thread computes 4 × 4 results. Tiles of 32 rows of W are decoded into shared memory, with a word of padding
// per row of dY to avoid bank conflicts.
// @use lib/step
// @use values
override K: u32;
override N: u32;
override STRIDE: u32;
override ROW0: u32 = 0u;
override ADD: bool = false;
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;

var<workgroup> w_tile: array<vec4<f32>, 512>;
var<workgroup> dy_tile: array<f32, 1056>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = wid.y * 32u;
    let blocks = K / 32u;
    let tn = t % 16u;
    let tm = t / 16u;
    var acc: array<vec4<f32>, 4>;
    for (var n0 = 0u; n0 < N; n0 += 32u) {
        if t < 64u {
            let block = min(wid.x * 2u + t % 2u, blocks - 1u);
            let row = n0 + t / 2u;
            let v = load_values(min(row, N - 1u) * blocks + block);
            let at = t / 2u * 16u + t % 2u * 8u;
            for (var i = 0u; i < 4u; i++) {
                w_tile[at + i] = v.a[i];
                w_tile[at + 4u + i] = v.b[i];
            }
        } else {
            for (var i = 0u; i < 16u; i++) {
                let at = (t - 64u) + 64u * i;
                let token = min(token0 + at / 32u, step.rows - 1u);
                let n = n0 + at % 32u;
                let value = dy[token * STRIDE + ROW0 + min(n, N - 1u)];
                dy_tile[at / 32u * 33u + at % 32u] = select(0.0, value, n < N);
            }
        }
        workgroupBarrier();
        for (var n = 0u; n < 32u; n++) {
            let w = w_tile[n * 16u + tn];
            for (var i = 0u; i < 4u; i++) {
                acc[i] += dy_tile[(tm + 8u * i) * 33u + n] * w;
            }
        }
        workgroupBarrier();
    }
    let column = wid.x * 16u + tn;
    for (var i = 0u; i < 4u; i++) {
        let token = token0 + tm + 8u * i;
        if token < step.rows && column < K / 4u {
            let at = token * (K / 4u) + column;
            if ADD {
                dx[at] += acc[i];
            } else {
                dx[at] = acc[i];
            }
        }
    }
}
