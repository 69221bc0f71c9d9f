// out = a + b. Shapes: all [T, N]. Dispatch: one thread per value (x) and token (y).
override N: u32;
@group(0) @binding(3) var<storage, read_write> a: array<f32>;
@group(0) @binding(4) var<storage, read_write> b: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        let i = id.y * N + id.x;
        out[i] = a[i] + b[i];
    }
}
