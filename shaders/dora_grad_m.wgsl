// grad += Σ dy · (y − bias) / m over the batch's tokens, for one span of magnitudes; 0 where m is 0.
// Shapes: y [T, STRIDE] and dy [T, DY_STRIDE], LEN columns from START and DY_START on; bias, from COLUMN on; m and
// grad, from ROW on. Dispatch: one thread per column.
// @use lib/step
override LEN: u32;
override STRIDE: u32;
override START: u32 = 0u;
override DY_STRIDE: u32;
override DY_START: u32 = 0u;
override COLUMN: u32 = 0u;
override ROW: u32 = 0u;
override HAS_BIAS: bool = false;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad: array<f32>;
@group(0) @binding(7) var<storage, read> m: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= LEN {
        return;
    }
    var b = 0.0;
    if HAS_BIAS {
        b = bias[COLUMN + i];
    }
    var sum = 0.0;
    for (var token = 0u; token < step.rows; token++) {
        sum += dy[token * DY_STRIDE + DY_START + i] * (y[token * STRIDE + START + i] - b);
    }
    let magnitude = m[ROW + i];
    if magnitude != 0.0 {
        grad[ROW + i] += sum / magnitude;
    }
}
