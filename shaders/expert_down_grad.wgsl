// The gradients of h and of the route, side by side: weight · W[e]ᵀ dy and, for the weights, h · W[e]ᵀ dy + b[e] · dy;
// or added to them (ADD). Shapes: lib/expert; h [T, USED · K]; dy [T, EXPERT_ROWS]; out [T, USED · K + 2 USED].
// Dispatch: one workgroup per slot (x) and token (y); its threads divide the blocks of 32 columns.
// @use values
// @use reduce
// @use lib/expert
// @use lib/expert_in
override ADD: bool = false;
@group(0) @binding(6) var<storage, read_write> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

fn leave(at: u32, value: f32) {
    if ADD {
        out[at] += value;
    } else {
        out[at] = value;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let blocks = K / 32u;
    let slot = wid.x;
    let token = wid.y;
    let row = expert_of(token, slot) * EXPERT_ROWS;
    let weight = weight_of(token, slot);
    let from_dy = token * EXPERT_ROWS;
    let at = token * (USED * K + 2u * USED);
    var along = 0.0;
    for (var b = t; b < blocks; b += WG) {
        var a = mat4x4<f32>();
        var c = mat4x4<f32>();
        for (var i = 0u; i < EXPERT_ROWS; i++) {
            if is_here(row + i) {
                let w = load_values(blocks_of(row + i) + b);
                let above = dy[from_dy + i];
                a += above * w.a;
                c += above * w.b;
            }
        }
        along += dot32(Values(a, c), load_x((token * USED + slot) * blocks + b));
        for (var i = 0u; i < 16u; i++) {
            leave(at + slot * K + 32u * b + i, weight * a[i / 4u][i % 4u]);
            leave(at + slot * K + 32u * b + 16u + i, weight * c[i / 4u][i % 4u]);
        }
    }
    if HAS_BIAS {
        for (var i = t; i < EXPERT_ROWS; i += WG) {
            along += select(0.0, bias[row + i] * dy[from_dy + i], is_here(row + i));
        }
    }
    let total = reduce_sum(vec4<f32>(along), t).x;
    if t == 0u {
        leave(at + USED * K + slot, 0.0);
        leave(at + USED * K + USED + slot, total);
    }
}
