//! Exact search among vectors.

use multiversion::multiversion;

use crate::ops::attention::dot;
use crate::threads::{each_chunk, share};

/// Most rows that one thread compares at a time.
const TILE: usize = 2048;

/// Vectors, of which those nearest to another are found by comparing all: 50,000 of 384 columns are 77 MB, which are
/// read in milliseconds.
///
/// ```
/// use siskin_cpu::VectorIndex;
///
/// let mut index = VectorIndex::new(2);
/// index.push(&[1.0, 0.0, 3.0, 4.0, 0.0, -2.0]);
/// let found = index.nearest(&[0.0, 5.0], 2);
/// assert_eq!(found[0].row, 1);
/// assert!((found[0].cosine - 0.8).abs() < 1e-6);
/// assert_eq!(found[1].row, 0);
/// ```
#[derive(Debug, Clone)]
pub struct VectorIndex {
    columns: usize,
    /// `[len, columns]`, each of length 1.
    rows: Vec<f32>,
}

/// A vector of an index that is near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Its number in the index.
    pub row: usize,
    /// The cosine of the angle between the two, from -1 to 1.
    pub cosine: f32,
}

impl VectorIndex {
    /// An empty one.
    ///
    /// # Panics
    /// If there are no columns.
    pub fn new(columns: usize) -> Self {
        assert!(columns > 0, "vectors have at least one column");
        Self {
            columns,
            rows: vec![],
        }
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.rows.len() / self.columns
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Values of each vector.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Adds vectors, `[n, columns]`, of any length. Those whose length is 0 or not finite are near to none: their cosine
    /// is 0.
    ///
    /// # Panics
    /// If they are no whole number of vectors.
    pub fn push(&mut self, vectors: &[f32]) {
        assert!(vectors.len().is_multiple_of(self.columns));
        let first = self.rows.len();
        self.rows.extend_from_slice(vectors);
        self.rows[first..]
            .chunks_exact_mut(self.columns)
            .for_each(scale_to_one);
    }

    /// Removes vectors; the numbers of those behind become smaller.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn remove(&mut self, rows: std::ops::Range<usize>) {
        self.rows
            .drain(rows.start * self.columns..rows.end * self.columns);
    }

    /// At most `count` vectors, the nearest first; of equally near ones, the earlier first.
    ///
    /// # Panics
    /// If `query` is not one vector.
    pub fn nearest(&self, query: &[f32], count: usize) -> Vec<Neighbor> {
        assert_eq!(query.len(), self.columns);
        if self.is_empty() {
            return vec![];
        }
        let mut query = query.to_vec();
        scale_to_one(&mut query);
        let mut cosines = vec![0.0; self.len()];
        let tile = share(self.len(), TILE, 1);
        each_chunk(&mut cosines, tile, |i, cosines| {
            compare(&self.rows[i * tile * self.columns..], &query, cosines);
        });
        let all = cosines.into_iter().enumerate();
        let mut all: Vec<_> = all.map(|(row, cosine)| Neighbor { row, cosine }).collect();
        let nearer = |a: &Neighbor, b: &Neighbor| {
            let order = b.cosine.total_cmp(&a.cosine);
            order.then(a.row.cmp(&b.row))
        };
        if count < all.len() {
            all.select_nth_unstable_by(count, nearer);
            all.truncate(count);
        }
        all.sort_unstable_by(nearer);
        all
    }
}

// By itself: within a larger function, WebAssembly's engines keep the sums of `dot` on the stack.
#[inline(never)]
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn compare(rows: &[f32], query: &[f32], cosines: &mut [f32]) {
    for (row, cosine) in rows.chunks_exact(query.len()).zip(cosines) {
        *cosine = dot(row, query).clamp(-1.0, 1.0);
    }
}

fn scale_to_one(vector: &mut [f32]) {
    // The largest first, so that squares neither overflow nor vanish.
    let most = vector.iter().fold(0f32, |most, v| most.max(v.abs()));
    let finite = vector.iter().all(|v| v.is_finite());
    if most == 0.0 || !finite {
        vector.fill(0.0);
        return;
    }
    vector.iter_mut().for_each(|v| *v /= most);
    let length = dot(vector, vector).sqrt();
    vector.iter_mut().for_each(|v| *v /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_those_of_the_definition() {
        let (n, columns) = (5000, 37);
        let mut state = 1u32;
        let mut vectors = vec![0.0; (n + 1) * columns];
        for v in &mut vectors {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        let query = vectors.split_off(n * columns);
        let cosine = |row: usize| {
            let row = &vectors[row * columns..][..columns];
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
            };
            dot(row, &query) / (dot(row, row) * dot(&query, &query)).sqrt()
        };
        let mut index = VectorIndex::new(columns);
        vectors.chunks(columns * 999).for_each(|v| index.push(v));
        assert_eq!(index.len(), n);
        let mut wanted: Vec<usize> = (0..n).collect();
        wanted.sort_by(|a, b| cosine(*b).total_cmp(&cosine(*a)));
        let found = index.nearest(&query, 20);
        assert_eq!(found.len(), 20);
        for (found, row) in found.iter().zip(&wanted) {
            assert_eq!(found.row, *row);
            assert!((f64::from(found.cosine) - cosine(*row)).abs() < 1e-6);
        }

        index.remove(wanted[0]..wanted[0] + 1);
        let moved = wanted[1] - usize::from(wanted[1] > wanted[0]);
        assert_eq!(index.nearest(&query, 1)[0].row, moved);
        assert_eq!(index.nearest(&query, n).len(), n - 1);
        index.remove(0..n - 1);
        assert!(index.is_empty() && index.nearest(&query, 3).is_empty());
    }

    #[test]
    fn what_has_no_direction_is_near_to_none() {
        let mut index = VectorIndex::new(2);
        index.push(&[0.0, 0.0, f32::NAN, 1.0, 1e30, 1e30, 1e-30, -1e-30]);
        let found = index.nearest(&[1.0, 0.5], 4);
        let rows: Vec<_> = found.iter().map(|n| n.row).collect();
        assert_eq!(rows, [2, 3, 0, 1]);
        assert!((found[0].cosine - 0.948_683_3).abs() < 1e-6);
        assert!((found[1].cosine - 0.316_227_8).abs() < 1e-6);
        assert_eq!(found[3].cosine, 0.0);
        assert!(index.nearest(&[0.0, 0.0], 1)[0].cosine == 0.0);
    }
}
