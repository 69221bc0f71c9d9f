// out = each head of x rotated for its token's position in its segment, or back (BACK): dimension i is paired with
// i + HEAD_DIM / 2. Shapes: x [T, STRIDE] from START on, table [positions, HEAD_DIM / 2] of cos and sin,
// out [T, N]. Dispatch: one thread per pair of values (x) and token (y).
// @use lib/batch
// @use lib/head_dim
override N: u32;
override STRIDE: u32;
override START: u32 = 0u;
override BACK: bool = false;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N / 2u {
        return;
    }
    let half = HEAD_DIM / 2u;
    let i = id.x / half * HEAD_DIM + id.x % half;
    let turn = table[batch[id.y].position * half + id.x % half];
    let sin = select(turn.y, -turn.y, BACK);
    let a = x[id.y * STRIDE + START + i];
    let b = x[id.y * STRIDE + START + i + half];
    out[id.y * N + i] = a * turn.x - b * sin;
    out[id.y * N + i + half] = b * turn.x + a * sin;
}
