// Copies all of x to some columns of out. Shapes: x [T, X_STRIDE] from X_START on, N columns; out [T, STRIDE] from
// START on. Dispatch: one thread per value (x) and token (y).
override N: u32;
override X_STRIDE: u32;
override X_START: u32 = 0u;
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        out[id.y * STRIDE + START + id.x] = x[id.y * X_STRIDE + X_START + id.x];
    }
}
