//! Cases of the ops that have a recurrent state.

use siskin_cpu::CpuWeight;
use siskin_formats::TensorType;
use siskin_graph::{Activation, DeltaSpec, NodeId, Result, ScanSpec, WeightId};

use super::Case;

impl Case {
    /// A vector of values below 0, as decays have.
    fn decays(&mut self, name: &str, n: usize) -> WeightId {
        let id = self.vector(name, n);
        if let Some(CpuWeight::Vector(values)) = self.weights.get_mut(name) {
            values.iter_mut().for_each(|v| *v = -0.1 - v.abs());
        }
        id
    }

    fn projection(&mut self, x: NodeId, name: &str, cols: usize) -> Result<NodeId> {
        let w = self.matrix(name, &[(TensorType::F32, cols)], 64);
        self.graph.linear(x, w, None)
    }

    /// A convolution of some columns of a value, whose result is gated by others, and columns multiplied.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn causal_conv(kernel: usize, activation: Activation) -> Result<Self> {
        let (mut case, x) = Self::new(160);
        let weight = case.vector("kernels", 70 * kernel);
        let bias = case.vector("bias", 70);
        let gate = case.graph.slice(x, 0, 70)?;
        let value = case.graph.slice(x, 75, 70)?;
        let y = case
            .graph
            .causal_conv(value, kernel, weight, Some(bias), activation)?;
        let y = case.graph.gated(gate, y, Activation::Sigmoid)?;
        let factors = case.vector("factors", 70);
        let y = case.graph.scale_columns(y, factors)?;
        case.graph.output(y);
        Ok(case)
    }

    /// A gated delta rule of two heads of k and four of v, over projections of a value.
    ///
    /// # Errors
    /// As [`Self::causal_conv`].
    pub fn delta_rule(tiled: bool) -> Result<Self> {
        let spec = DeltaSpec {
            n_k_heads: 2,
            n_v_heads: 4,
            k_dim: 12,
            v_dim: 20,
            scale: 0.3,
            tiled,
        };
        let (mut case, x) = Self::new(64);
        let qk = case.projection(x, "q and k", 48)?;
        let all = case.projection(x, "v and gates", 88)?;
        let unit = case.graph.constant("unit", vec![0.3; 12]);
        let qk = case.graph.rms_norm(qk, unit, 1e-6)?;
        let silu = Activation::Silu;
        let v = case.graph.slice(all, 0, 80)?;
        let ones = case.vector("kernels", 160);
        let v = case.graph.causal_conv(v, 2, ones, None, silu)?;
        let gates = case.graph.slice(all, 80, 8)?;
        let (a, dt) = (case.decays("a", 4), case.vector("steps", 4));
        let y = case.graph.delta_rule([qk, v, gates], spec, a, dt)?;
        case.graph.output(y);
        Ok(case)
    }

    /// A selective scan, as Mamba 2 has it, or as the first Mamba with a decay for each state.
    ///
    /// # Errors
    /// As [`Self::causal_conv`].
    pub fn selective_scan(is_mamba2: bool) -> Result<Self> {
        let [n_heads, head_dim] = if is_mamba2 { [6, 12] } else { [72, 1] };
        let n_groups = if is_mamba2 { 2 } else { 1 };
        let spec = ScanSpec {
            n_heads,
            head_dim,
            n_groups,
            state_dim: 9,
            step_limits: [0.2, f32::INFINITY],
        };
        let (mut case, x) = Self::new(64);
        let states = 18 * n_groups;
        let xbc = case.projection(x, "x, b and c", 72 + states)?;
        let steps = case.projection(x, "steps", n_heads)?;
        let columns = case.graph.slice(xbc, 0, 72)?;
        let bc = match is_mamba2 {
            true => case.graph.slice(xbc, 72, states)?,
            false => case.projection(x, "b and c", states)?,
        };
        let (a, dt) = match is_mamba2 {
            true => (case.decays("a", n_heads), Some(case.vector("dt", n_heads))),
            false => (case.decays("a", n_heads * 9), None),
        };
        let d = case.vector("skip", n_heads);
        let y = case
            .graph
            .selective_scan([columns, steps, bc], spec, a, dt, d)?;
        case.graph.output(y);
        Ok(case)
    }
}
