// Sums and maxima over the workgroup of WG threads (a power of two), by a tree in shared memory.
override WG: u32 = 64u;
var<workgroup> partial: array<vec4<f32>, WG>;

fn reduce_sum(v: vec4<f32>, t: u32) -> vec4<f32> {
    partial[t] = v;
    workgroupBarrier();
    for (var n = WG / 2u; n > 0u; n = n / 2u) {
        if t < n {
            partial[t] += partial[t + n];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

fn reduce_max(v: f32, t: u32) -> f32 {
    partial[t].x = v;
    workgroupBarrier();
    for (var n = WG / 2u; n > 0u; n = n / 2u) {
        if t < n {
            partial[t].x = max(partial[t].x, partial[t + n].x);
        }
        workgroupBarrier();
    }
    let total = partial[0].x;
    workgroupBarrier();
    return total;
}
