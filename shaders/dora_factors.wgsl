// factors[i] = m / ‖W + SCALE · B A‖, row by row: DoRA's magnitudes over the norms of an adapted weight's rows, for
// N rows of one span; 1 for rows of zeros. Shapes: W [.., K] of any type, rows from ROW on; A [.., K], RANK rows from
// A_ROW on; B [.., RANK] and m, rows from B_ROW on; factors, from OUT on. Dispatch: one workgroup per row.
// @use values
// @use reduce
override K: u32;
override N: u32;
override RANK: u32;
override SCALE: f32;
override ROW: u32 = 0u;
override A_ROW: u32 = 0u;
override B_ROW: u32 = 0u;
override OUT: u32 = 0u;
@group(0) @binding(3) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> factors: array<f32>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = wid.y * groups.x + wid.x;
    if i >= N {
        return;
    }
    let blocks = K / 32u;
    var squares = 0.0;
    for (var block = t; block < blocks; block += WG) {
        var w = load_values((ROW + i) * blocks + block);
        for (var r = 0u; r < RANK; r++) {
            let s = SCALE * b[(B_ROW + i) * RANK + r];
            let at = (A_ROW + r) * (K / 4u) + 8u * block;
            w.a += s * mat4x4<f32>(a[at], a[at + 1u], a[at + 2u], a[at + 3u]);
            w.b += s * mat4x4<f32>(a[at + 4u], a[at + 5u], a[at + 6u], a[at + 7u]);
        }
        squares += dot32(w, w);
    }
    let norm = sqrt(reduce_sum(vec4<f32>(squares), t).x);
    if t == 0u {
        factors[OUT + i] = select(1.0, m[B_ROW + i] / norm, norm > 0.0);
    }
}
