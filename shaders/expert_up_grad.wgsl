// The gradient of x, Σ W[e]ᵀ dy[e] over the experts e that a token uses, or added to it (ADD).
// Shapes: lib/expert; dy [T, PROJECTIONS · USED · N], where EXPERT_ROWS is PROJECTIONS · N; dx [T, K].
// Dispatch: one thread for each 32 columns (x) and token (y).
// @use values
// @use lib/expert
override N: u32;
override PROJECTIONS: u32 = 1u;
override ADD: bool = false;
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let blocks = K / 32u;
    let b = id.x;
    let token = id.y;
    if b >= blocks {
        return;
    }
    var a = mat4x4<f32>();
    var c = mat4x4<f32>();
    for (var part = 0u; part < PROJECTIONS * USED; part++) {
        let row = expert_of(token, part % USED) * EXPERT_ROWS + part / USED * N;
        let from_dy = (token * PROJECTIONS * USED + part) * N;
        for (var i = 0u; i < N; i++) {
            if is_here(row + i) {
                let w = load_values(blocks_of(row + i) + b);
                let above = dy[from_dy + i];
                a += above * w.a;
                c += above * w.b;
            }
        }
    }
    let at = 8u * (token * blocks + b);
    for (var i = 0u; i < 4u; i++) {
        if ADD {
            dx[at + i] += a[i];
            dx[at + 4u + i] += c[i];
        } else {
            dx[at + i] = a[i];
            dx[at + 4u + i] = c[i];
        }
    }
}
