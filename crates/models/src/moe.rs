//! The MLPs of a mixture of experts: what a family says of them, how files store them, and their graph.

use siskin_graph::{
    Activation, Experts, Graph, NodeId, Part, Result as GraphResult, RouteSpec, Score, WeightId,
};

use crate::Result;
use crate::blocks;
use crate::config::Source;

/// Names within a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub module: &'static str,
    pub router: &'static str,
    pub stored: Stored,
    /// The MLP that every token passes; its projections are called as those of a dense MLP.
    pub shared: &'static str,
    /// The linear whose sigmoid multiplies its result.
    pub shared_gate: &'static str,
}

/// How a file stores the experts' matrices.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// A tensor for each expert: gate, up and down, in `experts.0`, ….
    Apart([&'static str; 3]),
    /// Gate and up of all experts, each gate above its up; down of all experts.
    Stacked([&'static str; 2]),
    /// Gate, up and down of all experts.
    ByProjection([&'static str; 3]),
}

/// Those of the Qwens, and of most families since.
pub(crate) const NAMES: Names = Names {
    module: "mlp",
    router: "gate",
    stored: Stored::Apart(["gate_proj", "up_proj", "down_proj"]),
    shared: "shared_expert",
    shared_gate: "shared_expert_gate",
};

/// Those of GGUF files, which are the same for all families.
const GGUF_NAMES: Names = Names {
    module: "mlp",
    router: "router",
    stored: Stored::ByProjection(["gate_exps", "up_exps", "down_exps"]),
    shared: "shared_expert",
    shared_gate: "shared_expert_gate",
};

/// Of GGUF files that store gate and up together.
const GGUF_STACKED: Stored = Stored::Stacked(["gate_up_exps", "down_exps"]);

/// An MLP beside the experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared {
    pub size: usize,
    pub is_gated: bool,
}

/// A family's experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moe {
    pub names: Names,
    pub n_experts: usize,
    pub n_used: usize,
    /// Columns within each expert.
    pub size: usize,
    pub activation: Activation,
    pub score: Score,
    pub renormalise: bool,
    pub scale: f32,
    pub shared: Option<Shared>,
    /// Whether the result of the layer's own MLP is added.
    pub is_beside_mlp: bool,
}

impl Moe {
    /// The counts, and for `size` what the family's own key says.
    ///
    /// # Errors
    /// If a count makes no sense.
    pub fn read(
        source: &Source<'_>,
        names: Names,
        [n_experts, n_used]: [usize; 2],
        size: usize,
    ) -> Result<Self> {
        let count = match source.uint("num_experts", "expert_count")? {
            None => source.uint("num_local_experts", "")?,
            count => {
                // transformers has both names for one number.
                let other = source.uint("num_local_experts", "")?;
                if other.is_some_and(|n| Some(n) != count) {
                    return Err(source.wrong("num_local_experts", "the same as num_experts"));
                }
                count
            }
        };
        let count = count.or((!source.is_gguf()).then_some(n_experts));
        let n_experts = count
            .filter(|n| (1..=1024).contains(n))
            .ok_or_else(|| source.wrong("num_experts", "a number from 1 to 1024"))?;
        let default = (!source.is_gguf()).then_some(n_used);
        let keys = ("num_experts_per_tok", "expert_used_count");
        let n_used = source.size(keys.0, keys.1, default, n_experts)?;
        let stored_together = source.has_tensor("blk.0.ffn_gate_up_exps.weight");
        let names = match (source.is_gguf(), stored_together) {
            (false, _) => names,
            (true, false) => GGUF_NAMES,
            (true, true) => Names {
                stored: GGUF_STACKED,
                ..GGUF_NAMES
            },
        };
        Ok(Self {
            names,
            n_experts,
            n_used,
            size,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
            score: Score::Softmax,
            renormalise: true,
            scale: 1.0,
            shared: None,
            is_beside_mlp: false,
        })
    }

    /// The columns of a GGUF file's experts, or of a folder's by this key.
    ///
    /// # Errors
    /// If it is not a size.
    pub fn size(source: &Source<'_>, key: &str, default: usize) -> Result<usize> {
        let default = (!source.is_gguf()).then_some(default);
        source.size(key, "expert_feed_forward_length", default, 1 << 20)
    }

    /// The experts of x `[T, d]`, and what is shared.
    pub fn build(&self, g: &mut Graph, x: NodeId, layer: &str) -> GraphResult<NodeId> {
        let module = format!("{layer}.{}", self.names.module);
        let d = g.node(x).cols;
        let logits = blocks::stacked(g, x, &module, &[(self.names.router, self.n_experts)], false)?;
        let route = RouteSpec {
            n_used: self.n_used,
            score: self.score,
            bias: None,
            renormalise: self.renormalise,
            scale: self.scale,
        };
        let route = g.route(logits, route)?;
        g.name(route, format!("{layer}.experts"));
        let [up, down] = self.matrices(g, &module, d)?;
        let both = g.expert_up(x, route, self.experts(up), 2)?;
        let n = self.n_used * self.size;
        let (gate, up) = (g.slice(both, 0, n)?, g.slice(both, n, n)?);
        let h = g.gated(gate, up, self.activation)?;
        let y = g.expert_down(h, route, self.experts(down))?;
        match self.shared {
            Some(shared) => {
                let other = self.build_shared(g, x, &module, shared)?;
                g.add(y, other)
            }
            None => Ok(y),
        }
    }

    fn experts(&self, weight: WeightId) -> Experts {
        Experts {
            weight,
            bias: None,
            n_experts: self.n_experts,
            n_used: self.n_used,
        }
    }

    fn build_shared(
        &self,
        g: &mut Graph,
        x: NodeId,
        module: &str,
        shared: Shared,
    ) -> GraphResult<NodeId> {
        let (d, n) = (g.node(x).cols, shared.size);
        let mlp = format!("{module}.{}", self.names.shared);
        let both = blocks::stacked(g, x, &mlp, &[("gate_proj", n), ("up_proj", n)], false)?;
        let (gate, up) = (g.slice(both, 0, n)?, g.slice(both, n, n)?);
        let h = g.gated(gate, up, self.activation)?;
        let y = blocks::stacked(g, h, &mlp, &[("down_proj", d)], false)?;
        if !shared.is_gated {
            return Ok(y);
        }
        let gate = blocks::stacked(g, x, module, &[(self.names.shared_gate, 1)], false)?;
        g.row_gate(y, gate)
    }

    /// Gate and up `[n_experts · 2 size, d]`, each gate above its up; down `[n_experts · d, size]`.
    fn matrices(&self, g: &mut Graph, module: &str, d: usize) -> GraphResult<[WeightId; 2]> {
        let (count, n) = (self.n_experts, self.size);
        let whole = |name: &str, rows: usize, cols: usize| {
            Part::whole(format!("{module}.{name}.weight"), [rows, cols])
        };
        let (up, down): (Vec<Part>, Vec<Part>) = match self.names.stored {
            Stored::Apart([gate, up, down]) => {
                let each = |names: &[&str], rows, cols| {
                    let experts = (0..count).flat_map(|e| names.iter().map(move |p| (e, *p)));
                    let name = |(e, p)| format!("experts.{e}.{p}");
                    experts.map(|at| whole(&name(at), rows, cols)).collect()
                };
                (each(&[gate, up], n, d), each(&[down], d, n))
            }
            Stored::Stacked([up, down]) => (
                vec![whole(up, count * 2 * n, d)],
                vec![whole(down, count * d, n)],
            ),
            Stored::ByProjection([gate, up, down]) => {
                let part = |e: usize, name| Part {
                    rows: e * n..(e + 1) * n,
                    ..whole(name, count * n, d)
                };
                let both = (0..count).flat_map(|e| [part(e, gate), part(e, up)]);
                (both.collect(), vec![whole(down, count * d, n)])
            }
        };
        Ok([
            g.matrix_of(&format!("{module}.experts.gate+up"), up)?,
            g.matrix_of(&format!("{module}.experts.down"), down)?,
        ])
    }
}

/// Which layers have experts, by two keys of the Qwens: the others have a dense MLP.
///
/// # Errors
/// If a key is not what it should be.
pub(crate) fn sparse_layers(source: &Source<'_>, n_layers: usize) -> Result<Vec<bool>> {
    const DENSE: &str = "mlp_only_layers";
    let step = source.uint("decoder_sparse_step", "")?.unwrap_or(1);
    if step == 0 {
        return Err(source.wrong("decoder_sparse_step", "a positive number"));
    }
    let dense: Vec<usize> = match source.json_value(DENSE) {
        None | Some(serde_json::Value::Null) => vec![],
        Some(list) => serde_json::from_value(list.clone())
            .map_err(|_| source.wrong(DENSE, "a list of layers"))?,
    };
    Ok((0..n_layers)
        .map(|i| !dense.contains(&i) && (i + 1).is_multiple_of(step))
        .collect())
}
