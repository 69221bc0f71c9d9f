//! Python's `random.Random`, with which lm-evaluation-harness draws its examples: the Mersenne Twister (M. Matsumoto and
//! T. Nishimura, 1998), seeded and drawn from as CPython does.

use std::collections::HashSet;

const N: usize = 624;

#[derive(Debug)]
pub struct Random {
    state: [u32; N],
    at: usize,
}

impl Random {
    pub fn new(seed: u32) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32
                .wrapping_mul(last ^ last >> 30)
                .wrapping_add(i as u32);
        }
        // `init_by_array` with a key of one word.
        let mut i = 1;
        let mix = |last: u32| last ^ last >> 30;
        for _ in 0..N {
            let mixed = mix(state[i - 1]).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(seed);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let mixed = mix(state[i - 1]).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: N }
    }

    fn next(&mut self) -> u32 {
        if self.at == N {
            for i in 0..N {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % N] & 0x7fff_ffff;
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % N] ^ y >> 1 ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let r = (self.next() >> (32 - bits)) as usize;
            if r < n {
                return r;
            }
        }
    }

    /// So many different numbers below `n`: `random.sample(range(n), k)`.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut set_size = 21;
        if k > 5 {
            set_size += 4usize.pow((3.0 * k as f64).log(4.0).ceil() as u32);
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            let draw = |i| {
                let j = self.below(n - i);
                let drawn = pool[j];
                pool[j] = pool[n - i - 1];
                drawn
            };
            return (0..k).map(draw).collect();
        }
        let mut seen = HashSet::new();
        let mut out = vec![];
        while out.len() < k {
            let j = self.below(n);
            if seen.insert(j) {
                out.push(j);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn samples_are_those_of_cpython() {
        let mut random = Random::new(1234);
        assert_eq!(random.sample(1000, 5), SAMPLES.0);
        assert_eq!(random.sample(12, 6), SAMPLES.1);
        assert_eq!(random.sample(7473, 8), SAMPLES.2);
    }

    // r = random.Random(1234); r.sample(range(1000), 5), r.sample(range(12), 6), r.sample(range(7473), 8)
    const SAMPLES: ([usize; 5], [usize; 6], [usize; 8]) = (
        [989, 796, 451, 119, 7],
        [1, 9, 0, 11, 8, 6],
        [2905, 1939, 142, 252, 6461, 129, 2835, 5311],
    );
}
