// du = SCALE · dy · B for one span of an adapter.
// Shapes: dy [T, STRIDE], LEN columns from START on; B [.., RANK], LEN rows from B_ROW on; du [T, U_STRIDE],
// RANK columns from U_START on. Dispatch: one workgroup per token (y) and column of the rank (x).
// @use lib/lora_span
// @use reduce
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> du: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let begin = wid.y * STRIDE + START;
    var sum = 0.0;
    for (var c = t; c < LEN; c += WG) {
        sum += dy[begin + c] * b[(B_ROW + c) * RANK + wid.x];
    }
    let total = reduce_sum(vec4<f32>(sum), t).x;
    if t == 0u {
        du[wid.y * U_STRIDE + U_START + wid.x] = SCALE * total;
    }
}
