//! A mixture of experts.

use siskin_formats::TensorType;
use siskin_graph::{Activation, Experts, RouteSpec, Score};

use super::Case;

/// What kind of experts are run.
#[derive(Debug, Clone, Copy)]
pub struct ExpertsSpec {
    /// Types of gates, of ups and of downs.
    pub types: [TensorType; 3],
    /// What the router's logits are made into.
    pub score: Score,
    /// Whether the weights are divided by their sum.
    pub renormalise: bool,
    /// Whether the choice and the linears have biases.
    pub has_biases: bool,
    /// The activation of the experts.
    pub activation: Activation,
}

impl ExpertsSpec {
    /// As most models have them, in one type.
    pub fn of(ty: TensorType) -> Self {
        Self {
            types: [ty; 3],
            score: Score::Softmax,
            renormalise: true,
            has_biases: false,
            activation: Activation::Silu,
        }
    }
}

impl Case {
    /// A norm, a router, 7 experts of which 3 are used, a gated sum of another linear, and the residual.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn experts(spec: ExpertsSpec) -> siskin_graph::Result<Self> {
        let block = spec.types.iter().map(|t| t.block_len()).max();
        let (d, n) = match block {
            Some(256) => (512, 256),
            Some(64) => (64, 128),
            _ => (64, 96),
        };
        let (n_experts, n_used) = (7, 3);
        let (mut case, x) = Self::new(d);
        let [gate, up, down] = spec.types;
        let router = case.matrix("router", &[(TensorType::F32, n_experts)], d);
        let both: Vec<_> = (0..n_experts).flat_map(|_| [(gate, n), (up, n)]).collect();
        let both = case.matrix("gates and ups", &both, d);
        let down = case.matrix("downs of experts", &[(down, n_experts * d)], n);
        let other = case.matrix("a linear", &[(TensorType::F32, d)], d);
        let single = case.matrix("gate", &[(TensorType::F32, 1)], d);
        let norm = case.vector("norm", d);
        let mut bias = |name: &str, n| spec.has_biases.then(|| case.vector(name, n));
        let route = RouteSpec {
            n_used,
            score: spec.score,
            bias: bias("bias of the choice", n_experts),
            expert_scales: None,
            renormalise: spec.renormalise,
            eps: 0.1,
            scale: 1.5,
        };
        let biases = [
            bias("gates' and ups' biases", n_experts * 2 * n),
            bias("downs' biases", n_experts * d),
        ];
        let experts = |weight, bias| Experts {
            weight,
            bias,
            n_experts,
            n_used,
        };
        let g = &mut case.graph;
        let h = g.rms_norm(x, norm, 1e-5)?;
        let logits = g.linear(h, router, None)?;
        let route = g.route(logits, route)?;
        let both = g.expert_up(h, route, experts(both, biases[0]), 2)?;
        let (gate, up) = (
            g.slice(both, 0, n_used * n)?,
            g.slice(both, n_used * n, n_used * n)?,
        );
        let act = g.gated(gate, up, spec.activation)?;
        let y = g.expert_down(act, route, experts(down, biases[1]))?;
        let other = g.linear(h, other, None)?;
        let single = g.linear(h, single, None)?;
        let other = g.row_gate(other, single)?;
        let y = g.add(y, other)?;
        let z = g.add(x, y)?;
        // Its sum is computed in place.
        let again = g.expert_down(act, route, experts(down, None))?;
        let z = g.add(z, again)?;
        g.output(z);
        Ok(case)
    }
}
