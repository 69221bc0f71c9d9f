// A step of the optimiser with moments in 8 bits, relative to the peaks of blocks of 256 parameters; the second
// moment is stored as its square root. Parameters are updated with the moments before these are rounded. The gradients
// are 0 afterwards. Shapes: codes [2 N / 4], four per word, first moments before second ones; peaks [N / 256]; maps
// [512], the values of the codes of both (dynamic.rs).
// Dispatch: a workgroup of 64 threads per block, 4 parameters each.
// @use lib/adamw
@group(0) @binding(1) var<storage, read> maps: array<f32>;
@group(0) @binding(4) var<storage, read_write> codes: array<u32>;
@group(0) @binding(8) var<storage, read_write> peaks: array<vec2<f32>>;

// The code of the map from `first` on whose value is nearest.
fn nearest_code(first: u32, value: f32) -> u32 {
    var low = 0u;
    var high = 255u;
    while low < high {
        let middle = (low + high + 1u) / 2u;
        if maps[first + middle] <= value {
            low = middle;
        } else {
            high = middle - 1u;
        }
    }
    let next = min(low + 1u, 255u);
    return select(low, next, value - maps[first + low] > maps[first + next] - value);
}

fn inverse(peak: f32) -> f32 {
    return select(0.0, 1.0 / peak, peak > 0.0);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let block = wid.y * groups.x + wid.x;
    if block >= N / 256u {
        return;
    }
    let total = global_norm(block, t);
    let word = block * 64u + t;
    let firsts = codes[word];
    let seconds = codes[N / 4u + word];
    let peak = peaks[block];
    var kept: array<vec2<f32>, 4>;
    var moved: vec4<f32>;
    var highest = vec2<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        let at = 4u * word + i;
        let first = peak.x * maps[(firsts >> (8u * i)) & 255u];
        let root = peak.y * maps[256u + ((seconds >> (8u * i)) & 255u)];
        let m = next_moments(vec2<f32>(first, root * root), grads[at] * clip(total));
        moved[i] = next_param(params[at], m);
        kept[i] = vec2<f32>(m.x, sqrt(m.y));
        highest = max(highest, abs(kept[i]));
    }
    highest = vec2<f32>(reduce_max(highest.x, t), reduce_max(highest.y, t));
    let ok = is_finite(total);
    var words = vec2<u32>(0u);
    for (var i = 0u; i < 4u; i++) {
        let at = 4u * word + i;
        words.x |= nearest_code(0u, kept[i].x * inverse(highest.x)) << (8u * i);
        words.y |= nearest_code(256u, kept[i].y * inverse(highest.y)) << (8u * i);
        if ok {
            params[at] = moved[i];
        }
        grads[at] = 0.0;
    }
    if ok {
        codes[word] = words.x;
        codes[N / 4u + word] = words.y;
        if t == 0u {
            peaks[block] = highest;
        }
    }
}
