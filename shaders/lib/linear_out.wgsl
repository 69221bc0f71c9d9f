// How a linear stores its results. MODE: 0 stores, 1 adds to the previous value, 2 stores act(y) · up.
// @use lib/activation
override N: u32;
override MODE: u32 = 0u;
override HAS_BIAS: bool = false;
// The first of this dispatch's rows of W within the linear.
override ROW0: u32 = 0u;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// y is the result for row `row` of this dispatch's N; `at` is where its token's row begins in out.
fn leave(at: u32, row: u32, y: f32, up: f32) {
    var value = y;
    if HAS_BIAS {
        value += bias[ROW0 + row];
    }
    let i = at + ROW0 + row;
    switch MODE {
        case 1u: { out[i] += value; }
        case 2u: {
            // Up is the linear's second half.
            var other = up;
            if HAS_BIAS {
                other += bias[N + row];
            }
            out[i] = gated(value, other);
        }
        default: { out[i] = value; }
    }
}
