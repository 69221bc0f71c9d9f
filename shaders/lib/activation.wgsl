// The nonlinearity of an MLP. ACTIVATION: 0 SiLU, 1 GELU approximated by tanh, 2 GELU, 3 ReLU, 4 ReLU squared,
// 5 sigmoid, 6 x itself, 7 gpt-oss's clamped SiLU.
override ACTIVATION: u32 = 0u;

const CLAMP: f32 = 7.0;
const STEEPNESS: f32 = 1.702;

// A gated MLP's activation.
fn gated(x: f32, up: f32) -> f32 {
    return activate(x) * factor(up);
}

// What the activated gate is multiplied by.
fn factor(up: f32) -> f32 {
    if ACTIVATION == 7u {
        return clamp(up, -CLAMP, CLAMP) + 1.0;
    }
    return up;
}

fn factor_grad(up: f32) -> f32 {
    return select(1.0, 0.0, ACTIVATION == 7u && abs(up) >= CLAMP);
}

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return 0.5 * x * (1.0 + gelu_tanh_inner(x)); }
        case 2u: { return x * normal(x); }
        case 3u: { return max(x, 0.0); }
        case 4u: { return max(x, 0.0) * max(x, 0.0); }
        case 5u: { return 1.0 / (1.0 + exp(-x)); }
        case 6u: { return x; }
        case 7u: {
            let v = min(x, CLAMP);
            return v / (1.0 + exp(-STEEPNESS * v));
        }
        default: { return x / (1.0 + exp(-x)); }
    }
}

fn activate_grad(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: {
            let t = gelu_tanh_inner(x);
            return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978846 * (1.0 + 0.134145 * x * x);
        }
        case 2u: { return normal(x) + x * 0.3989423 * exp(-0.5 * x * x); }
        case 3u: { return select(0.0, 1.0, x > 0.0); }
        case 4u: { return 2.0 * max(x, 0.0); }
        case 5u: {
            let s = 1.0 / (1.0 + exp(-x));
            return s * (1.0 - s);
        }
        case 6u: { return 1.0; }
        case 7u: {
            let s = 1.0 / (1.0 + exp(-STEEPNESS * x));
            return select(0.0, s * (1.0 + STEEPNESS * x * (1.0 - s)), x < CLAMP);
        }
        default: {
            let s = 1.0 / (1.0 + exp(-x));
            return s * (1.0 + x * (1.0 - s));
        }
    }
}

// The argument is bounded: tanh overflows on some drivers.
fn gelu_tanh_inner(x: f32) -> f32 {
    return tanh(clamp(0.7978846 * (x + 0.044715 * x * x * x), -12.0, 12.0));
}

// The normal distribution's cumulative function, by Abramowitz and Stegun 7.1.26.
fn normal(x: f32) -> f32 {
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let poly = t * (0.2548296 + t * (-0.28449674 + t * (1.4214137 + t * (-1.453152 + t * 1.0614054))));
    let tail = 0.5 * poly * exp(-z * z);
    return select(1.0 - tail, tail, x < 0.0);
}
