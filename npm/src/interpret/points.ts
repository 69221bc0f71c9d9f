// Vectors as points of a plane, and which of them are near each other.

/** A symmetric matrix's eigenvalues and eigenvectors, the largest first, by Jacobi's rotations. */
function eigen(matrix: Float64Array[]): { value: number; vector: Float64Array }[] {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  const vectors = a.map((_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));
  const scale = a.reduce((sum, row, i) => sum + row[i]! ** 2, 0);
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p]![q]! ** 2;
    if (off <= 1e-22 * scale) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const at = a[p]![q]!;
        if (at === 0) continue;
        const ratio = (a[q]![q]! - a[p]![p]!) / (2 * at);
        const tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.hypot(ratio, 1));
        const cosine = 1 / Math.hypot(tangent, 1);
        const sine = tangent * cosine;
        for (let i = 0; i < n; i++) {
          const [x, y] = [a[i]![p]!, a[i]![q]!];
          [a[i]![p], a[i]![q]] = [cosine * x - sine * y, sine * x + cosine * y];
        }
        const [rowP, rowQ] = [a[p]!, a[q]!];
        for (let i = 0; i < n; i++) {
          const [x, y] = [rowP[i]!, rowQ[i]!];
          [rowP[i], rowQ[i]] = [cosine * x - sine * y, sine * x + cosine * y];
        }
        for (const vector of vectors) {
          const [x, y] = [vector[p]!, vector[q]!];
          [vector[p], vector[q]] = [cosine * x - sine * y, sine * x + cosine * y];
        }
      }
    }
  }
  const found = a.map((row, i) => ({ value: row[i]!, vector: Float64Array.from(vectors, (v) => v[i]!) }));
  return found.sort((x, y) => y.value - x.value);
}

/** The vectors without their mean. */
function centred(vectors: readonly ArrayLike<number>[]): Float64Array[] {
  const columns = vectors[0]?.length ?? 0;
  const mean = new Float64Array(columns);
  for (const vector of vectors) for (let i = 0; i < columns; i++) mean[i]! += vector[i]! / vectors.length;
  return vectors.map((vector) => mean.map((m, i) => vector[i]! - m));
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

export interface Projection {
  /** One for each vector. */
  points: { x: number; y: number }[];
  /** The share of the vectors' variance that each axis shows, from 0 to 1. */
  explained: [number, number];
}

/** The vectors in the plane in which they differ most (principal component analysis). Signs are chosen so that the point farthest out is positive. */
export function project(vectors: readonly ArrayLike<number>[]): Projection {
  const rows = centred(vectors);
  // Of the vectors' products with each other, as there are fewer vectors than columns.
  const found = eigen(rows.map((a) => Float64Array.from(rows, (b) => dot(a, b))));
  const total = found.reduce((sum, { value }) => sum + Math.max(value, 0), 0);
  const axis = (i: number) => {
    const { value, vector } = found[i] ?? { value: 0, vector: new Float64Array(rows.length) };
    const farthest = vector.reduce((best, v) => (Math.abs(v) > Math.abs(best) ? v : best), 0);
    const length = Math.sqrt(Math.max(value, 0)) * (farthest < 0 ? -1 : 1);
    return { share: total > 0 ? Math.max(value, 0) / total : 0, places: vector.map((v) => v * length) };
  };
  const [x, y] = [axis(0), axis(1)];
  return { points: rows.map((_, i) => ({ x: x.places[i]!, y: y.places[i]! })), explained: [x.share, y.share] };
}

export interface Pair {
  a: number;
  b: number;
  /** Cosine of their angle, after their mean was subtracted. */
  similarity: number;
}

/** All pairs, the most similar first. What all vectors have in common, their mean, does not count. */
export function pairs(vectors: readonly ArrayLike<number>[]): Pair[] {
  const rows = centred(vectors);
  const lengths = rows.map((row) => Math.sqrt(dot(row, row)));
  const found: Pair[] = [];
  for (let a = 0; a < rows.length; a++) {
    for (let b = a + 1; b < rows.length; b++) {
      const length = lengths[a]! * lengths[b]!;
      found.push({ a, b, similarity: length > 0 ? dot(rows[a]!, rows[b]!) / length : 0 });
    }
  }
  return found.sort((x, y) => y.similarity - x.similarity);
}
