// dx = dy · factors, column by column. Shapes: dx [T, N], dy [T, STRIDE] from START on, factors [N].
// Dispatch: one thread per column (x) and token (y).
override N: u32;
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> factors: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < N {
        dx[id.y * N + id.x] = dy[id.y * STRIDE + START + id.x] * factors[id.x];
    }
}
