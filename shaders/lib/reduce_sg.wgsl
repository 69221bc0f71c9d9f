// Sums and maxima over the workgroup of WG threads: within subgroups first, then over the results
// of the subgroups, of whatever size they are.
override WG: u32 = 64u;
var<workgroup> partial: array<vec4<f32>, WG>;

fn reduce_sum(v: vec4<f32>, t: u32) -> vec4<f32> {
    let size = subgroupAdd(1u);
    let first = subgroupMin(t);
    var total = subgroupAdd(v);
    if t == first {
        partial[t / size] = total;
    }
    workgroupBarrier();
    total = partial[0];
    let n = (WG + size - 1u) / size;
    for (var i = 1u; i < n; i++) {
        total += partial[i];
    }
    workgroupBarrier();
    return total;
}

fn reduce_max(v: f32, t: u32) -> f32 {
    let size = subgroupAdd(1u);
    let first = subgroupMin(t);
    var total = subgroupMax(v);
    if t == first {
        partial[t / size].x = total;
    }
    workgroupBarrier();
    total = partial[0].x;
    let n = (WG + size - 1u) / size;
    for (var i = 1u; i < n; i++) {
        total = max(total, partial[i].x);
    }
    workgroupBarrier();
    return total;
}
