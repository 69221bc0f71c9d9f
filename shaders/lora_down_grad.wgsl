// dx = du · A. Shapes: du [T, INNER]; A [INNER, K]; dx [T, K].
// Dispatch: one thread per value of dx (x) and token (y).
override INNER: u32;
override K: u32;
@group(0) @binding(3) var<storage, read_write> du: array<f32>;
@group(0) @binding(4) var<storage, read> a: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= K {
        return;
    }
    var sum = 0.0;
    for (var j = 0u; j < INNER; j++) {
        sum += du[id.y * INNER + j] * a[j * K + id.x];
    }
    dx[id.y * K + id.x] = sum;
}
