// One span of an adapter: LEN columns from START on of rows of STRIDE, RANK columns from U_START on of rows of
// U_STRIDE, and LEN rows of B [.., RANK] from B_ROW on.
override RANK: u32;
override SCALE: f32;
override LEN: u32;
override START: u32 = 0u;
override STRIDE: u32;
override U_START: u32 = 0u;
override U_STRIDE: u32;
override B_ROW: u32 = 0u;
@group(0) @binding(4) var<storage, read> b: array<f32>;
