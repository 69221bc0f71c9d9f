// out = f(x), value by value. Shapes: x [T, STRIDE] from START on; out [T, N].
// Dispatch: one thread per value (x) and token (y).
// @use lib/map
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let v = x[id.y * STRIDE + START + id.x];
    var y = BY * v;
    if MAP == 0u {
        y = activate(v);
    } else if MAP == 2u {
        y = BY * soft_cap(v);
    } else if MAP == 3u {
        y = exp_m1(min(v, 0.0)) - min(v, 0.0);
    }
    out[id.y * N + id.x] = y;
}
