// dx = dy · f'(x), value by value. Shapes: x [T, STRIDE] from START on; dy and dx [T, N].
// Dispatch: one thread per value (x) and token (y).
// @use lib/map
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N {
        return;
    }
    let v = x[id.y * STRIDE + START + id.x];
    var slope = BY;
    if MAP == 0u {
        slope = activate_grad(v);
    } else if MAP == 2u {
        let t = soft_cap(v);
        slope = 1.0 - t * t;
    } else if MAP == 3u {
        slope = exp_m1(min(v, 0.0));
    }
    let at = id.y * N + id.x;
    dx[at] = dy[at] * slope;
}
