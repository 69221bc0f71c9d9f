// out[t] = table[token[t]] · SCALE, and marks the token as present in the context. With IS_PLACE, what is looked up is
// the token's place in its text, from OFFSET on, and nothing is marked; with IS_COUNTED, that is its position in the
// step. From KNOWN on, tokens have the table's first row.
// Shapes: table [vocab, K], tokens [T], out [T, K]. Dispatch: one workgroup per token.
// A table in several buffers takes one dispatch per buffer: ROW0 is the first row of this one's ROWS.
// @use lib/step
// @use values
override K: u32;
override SCALE: f32 = 1.0;
override ROW0: u32 = 0u;
override ROWS: u32;
override OFFSET: u32 = 0u;
override IS_PLACE: bool = false;
override IS_COUNTED: bool = false;
override KNOWN: u32 = 0xffffffffu;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> seen: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token = select(tokens[wid.x], step.position + wid.x, IS_COUNTED) + OFFSET;
    let id = select(0u, token, token < KNOWN);
    if id < ROW0 || id >= ROW0 + ROWS {
        return;
    }
    if t == 0u && !IS_PLACE {
        atomicOr(&seen[token / 32u], 1u << (token % 32u));
    }
    for (var b = t; b < K / 32u; b += 32u) {
        let v = load_values((id - ROW0) * (K / 32u) + b);
        let at = wid.x * (K / 4u) + b * 8u;
        for (var i = 0u; i < 4u; i++) {
            out[at + i] = v.a[i] * SCALE;
            out[at + 4u + i] = v.b[i] * SCALE;
        }
    }
}
