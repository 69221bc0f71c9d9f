// out[o] = Σ_i c[o, i] · x[i] with c = constants + W · m, of streams of D columns side by side.
// Shapes: x [T, STRIDE] from START on, N_IN streams; m [T, R], which is not read if R is 0; constants [N_OUT · N_IN];
// W [N_OUT · N_IN, R]; out [T, N_OUT · D]. Dispatch: one thread per value (x) and token (y).
override D: u32;
override N_IN: u32;
override N_OUT: u32;
override R: u32 = 0u;
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> m: array<f32>;
@group(0) @binding(5) var<storage, read> constants: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> weights: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_OUT * D {
        return;
    }
    let first = (id.x / D) * N_IN;
    var sum = 0.0;
    for (var i = 0u; i < N_IN; i++) {
        var c = constants[first + i];
        for (var r = 0u; r < R; r++) {
            c += weights[(first + i) * R + r] * m[id.y * R + r];
        }
        sum += c * x[id.y * STRIDE + START + i * D + id.x % D];
    }
    out[id.y * (N_OUT * D) + id.x] = sum;
}
