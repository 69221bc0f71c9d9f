//! The dynamic 8-bit type of Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (2021): values of a
//! block relative to its peak, in codes that are dense about 0.

use crate::order::sort_by;

/// The values of the 256 codes in ascending order: between −1 and 1, or between 0 and 1 without `signed`.
///
/// Source: `bitsandbytes.functional.create_dynamic_map`.
pub fn dynamic_map(signed: bool) -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for i in 0..7 {
        let n = if signed { 1 << i } else { 2 << i };
        let magnitude = 10f64.powi(i - 6);
        // The middles of n equal parts of 0.1 to 1.
        let ends = |j: i32| 0.1 + 0.9 * f64::from(j) / f64::from(n);
        for j in 0..n {
            let value = (magnitude * (ends(j) + ends(j + 1)) / 2.0) as f32;
            values.push(value);
            if signed {
                values.push(-value);
            }
        }
    }
    sort_by(&mut values, &mut f32::total_cmp);
    let mut map = [0.0; 256];
    map.copy_from_slice(&values);
    map
}

/// The code whose value is nearest to `value`; of two that are equally near, the lower one. `map` is that of
/// [`dynamic_map`].
pub fn nearest_code(map: &[f32; 256], value: f32) -> u8 {
    // The last code whose value is no larger, by bisection as the shader has it.
    let (mut low, mut high) = (0usize, 255usize);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if map[middle] <= value {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let next = (low + 1).min(255);
    if value - map[low] > map[next] - value {
        next as u8
    } else {
        low as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_nearest() {
        for signed in [true, false] {
            let map = dynamic_map(signed);
            assert!(map.is_sorted());
            for (code, value) in map.iter().enumerate() {
                assert_eq!(usize::from(nearest_code(&map, *value)), code);
            }
            let lowest = if signed { -0.993 } else { 0.0 };
            assert!((map[0] - lowest).abs() < 1e-3, "{}", map[0]);
            assert_eq!(map[255], 1.0);
            assert_eq!(nearest_code(&map, 2.0), 255);
            assert_eq!(nearest_code(&map, -2.0), 0);
        }
    }
}
