// out = x · w, each column by its own factor, or all by one. Shapes: x [T, STRIDE] from START on; w [N] or, if IS_ONE, [1];
// out [T, N].
// Dispatch: one thread per value (x) and token (y).
override N: u32;
override IS_ONE: bool;
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        out[id.y * N + id.x] = x[id.y * STRIDE + START + id.x] * w[select(id.x, 0u, IS_ONE)];
    }
}
