// out[t] = table[token[t]] · SCALE. With IS_SEEN, marks the token as present in its sequence, in the slot's SEEN words of
// `seen`. With IS_POSITION, what is looked up is the token's position in its sequence, from OFFSET on. From KNOWN on, tokens
// have the table's first row.
// Shapes: table [vocab, K], tokens [T], out [T, K]. Dispatch: one workgroup per token.
// A table in several buffers takes one dispatch per buffer: ROW0 is the first row of this one's ROWS.
// @use lib/rows
// @use values
override K: u32;
override SCALE: f32 = 1.0;
override ROW0: u32 = 0u;
override ROWS: u32;
override OFFSET: u32 = 0u;
override IS_SEEN: bool = false;
override SEEN: u32 = 0u;
override IS_POSITION: bool = false;
override KNOWN: u32 = 0xffffffffu;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> seen: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    var token = tokens[wid.x];
    if IS_POSITION {
        token = position_of(wid.x);
    }
    token += OFFSET;
    let id = select(0u, token, token < KNOWN);
    if id < ROW0 || id >= ROW0 + ROWS {
        return;
    }
    if t == 0u && IS_SEEN {
        atomicOr(&seen[slot_of(wid.x) * SEEN + token / 32u], 1u << (token % 32u));
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
