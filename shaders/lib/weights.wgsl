// A matrix [n, k]: its values, 16 bytes at a time, and for quantised types its scales.
@group(0) @binding(1) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
