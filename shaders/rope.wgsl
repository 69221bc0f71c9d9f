// out = each head of x rotated for its token's position, or back (BACK).
// Shapes: x [T, STRIDE] from START on, table [positions, N_FREQS] of cos and sin, out [T, N].
// Dispatch: one thread per pair of values (x) and token (y).
// @use position
// @use lib/rotate
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
    let pairs = HEAD_DIM / 2u;
    let i = id.x % pairs;
    let pair = id.x / pairs * HEAD_DIM + pair_of(i);
    var turn = vec2<f32>(1.0, 0.0);
    if i < N_FREQS {
        turn = table[position_of(id.y) * N_FREQS + i];
    }
    let sin = select(turn.y, -turn.y, BACK);
    let row = id.y * STRIDE + START;
    let a = x[row + pair.x];
    let b = x[row + pair.y];
    out[id.y * N + pair.x] = a * turn.x - b * sin;
    out[id.y * N + pair.y] = b * turn.x + a * sin;
}
