// out = one row for each segment of x. POOLING: 0 the mean of its rows, 1 the first, 2 the last.
// Shapes: x [T, N], out [segments, N]. Dispatch: one thread per column (x) and token (y); those of a segment's first
// token process it.
// @use lib/batch
override N: u32;
override POOLING: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let info = batch[id.y];
    if id.x >= N || info.position != 0u {
        return;
    }
    var y = x[id.y * N + id.x];
    if POOLING == 0u {
        for (var row = id.y + 1u; row < info.end; row++) {
            y += x[row * N + id.x];
        }
        y /= f32(info.end - id.y);
    } else if POOLING == 2u {
        y = x[(info.end - 1u) * N + id.x];
    }
    out[info.segment * N + id.x] = y;
}
