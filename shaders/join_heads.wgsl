// Of each head, LEN0 columns of x, then LEN1 of y, then zeros. From one head to the next are HEAD0 and HEAD1 columns; none
// where all heads take the same. Shapes: x [T, STRIDE0] from START0 on; y [T, STRIDE1] from START1 on; out [T, N], heads of
// WIDTH. Dispatch: one thread per value (x) and token (y).
override N: u32;
override WIDTH: u32;
override LEN0: u32;
override LEN1: u32;
override HEAD0: u32;
override HEAD1: u32;
override STRIDE0: u32;
override STRIDE1: u32;
override START0: u32 = 0u;
override START1: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let head = id.x / WIDTH;
    let at = id.x % WIDTH;
    var value = 0.0;
    if at < LEN0 {
        value = x[id.y * STRIDE0 + START0 + head * HEAD0 + at];
    } else if at < LEN0 + LEN1 {
        value = y[id.y * STRIDE1 + START1 + head * HEAD1 + at - LEN0];
    }
    out[id.y * N + id.x] = value;
}
