// What becomes of a score before the softmax: with SOFT_CAP above 0, SOFT_CAP · tanh(score / SOFT_CAP).
// Kernels use this file before they declare arrays: naga 30 fails at overrides that follow computed lengths.
override SOFT_CAP: f32 = 0.0;

fn capped(score: f32) -> f32 {
    if SOFT_CAP > 0.0 {
        // The argument is bounded: tanh overflows on some drivers.
        return SOFT_CAP * tanh(clamp(score / SOFT_CAP, -12.0, 12.0));
    }
    return score;
}

// The derivative of a capped score.
fn capped_grad(capped: f32) -> f32 {
    if SOFT_CAP > 0.0 {
        return 1.0 - capped / SOFT_CAP * (capped / SOFT_CAP);
    }
    return 1.0;
}
