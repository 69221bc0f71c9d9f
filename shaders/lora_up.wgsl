// out += SCALE · u · Bᵀ for one span of an adapter, in place, in the rows that it is for.
// Shapes: u [T, U_STRIDE], RANK columns from U_START on; B [.., RANK], LEN rows from B_ROW on; out
// [T, STRIDE], LEN columns from START on. Dispatch: one thread per column of the span (x) and token (y).
// @use lib/lora_span
// @use adapted
@group(0) @binding(3) var<storage, read_write> u: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= LEN || !is_adapted(id.y) {
        return;
    }
    let begin = id.y * U_STRIDE + U_START;
    let row = (B_ROW + id.x) * RANK;
    var sum = 0.0;
    for (var r = 0u; r < RANK; r++) {
        sum += u[begin + r] * b[row + r];
    }
    out[id.y * STRIDE + START + id.x] += SCALE * sum;
}
