//! The MLPs of a mixture of experts: what a family says of them, how files store them, and their graph.

use siskin_graph::{
    Activation, Experts, Graph, Map, NodeId, Op, Part, Result as GraphResult, RouteSpec, Score,
    WeightId, WeightKind,
};

use crate::Result;
use crate::blocks;
use crate::config::Source;

/// Names within a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub module: &'static str,
    pub router: &'static str,
    /// The vector that is added to the scores for the choice, where there is one.
    pub choice: &'static str,
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
    /// The same in tensors of these whole names; those of biases end in `_bias`.
    StackedWhole([&'static str; 2]),
    /// Gate, up and down of all experts.
    ByProjection([&'static str; 3]),
}

/// Those of the Qwens, and of most families since.
pub(crate) const NAMES: Names = Names {
    module: "mlp",
    router: "gate",
    choice: "",
    stored: Stored::Apart(["gate_proj", "up_proj", "down_proj"]),
    shared: "shared_expert",
    shared_gate: "shared_expert_gate",
};

/// Those of GGUF files, which are the same for all families.
const GGUF_NAMES: Names = Names {
    module: "mlp",
    router: "router",
    choice: "exp_probs_b.bias",
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
    /// Whether experts, and what is shared, have a gate; else the activation is of up alone.
    pub is_gated: bool,
    pub n_experts: usize,
    pub n_used: usize,
    /// Columns within each expert.
    pub size: usize,
    pub activation: Activation,
    pub score: Score,
    /// Whether a vector is added to the scores for the choice.
    pub has_choice_bias: bool,
    pub renormalise: bool,
    pub eps: f32,
    pub scale: f32,
    /// Of the router and of the experts.
    pub has_biases: bool,
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
        Self::of(source, names, [n_experts, n_used], size)
    }

    /// With these counts, and names of a folder.
    ///
    /// # Errors
    /// If the activation is not known.
    pub fn of(
        source: &Source<'_>,
        names: Names,
        [n_experts, n_used]: [usize; 2],
        size: usize,
    ) -> Result<Self> {
        let has = |tensor: &str| {
            let mut layers = 0..1024;
            layers.any(|i| source.has_tensor(&format!("blk.{i}.{tensor}")))
        };
        let names = match source.is_gguf() {
            false => names,
            true if has("ffn_gate_up_exps.weight") => Names {
                stored: GGUF_STACKED,
                ..GGUF_NAMES
            },
            true => GGUF_NAMES,
        };
        Ok(Self {
            names,
            is_gated: true,
            n_experts,
            n_used,
            size,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
            score: Score::Softmax,
            has_choice_bias: source.is_gguf() && has("exp_probs_b.bias"),
            renormalise: true,
            eps: 0.0,
            scale: 1.0,
            has_biases: false,
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
        let module = self.module(layer);
        let route = self.route(g, x, layer, None)?;
        let y = self.experts(g, x, route, layer)?;
        match self.shared {
            Some(shared) => {
                let other = self.build_shared(g, x, &module, shared)?;
                g.add(y, other)
            }
            None => Ok(y),
        }
    }

    fn module(&self, layer: &str) -> String {
        match self.names.module {
            "" => layer.into(),
            name => format!("{layer}.{name}"),
        }
    }

    /// The choice of experts for x `[T, d]`, with what their weights are multiplied by.
    pub fn route(
        &self,
        g: &mut Graph,
        x: NodeId,
        layer: &str,
        expert_scales: Option<WeightId>,
    ) -> GraphResult<NodeId> {
        let module = self.module(layer);
        let router = [(self.names.router, self.n_experts)];
        let logits = blocks::stacked(g, x, &module, &router, self.has_biases)?;
        let choice = self.has_choice_bias.then(|| {
            let name = format!("{module}.{}", self.names.choice);
            g.vector(&name, &[(&name, self.n_experts)])
        });
        let route = RouteSpec {
            n_used: self.n_used,
            score: self.score,
            bias: choice,
            expert_scales,
            renormalise: self.renormalise,
            eps: self.eps,
            scale: self.scale,
        };
        let route = g.route(logits, route)?;
        g.name(route, format!("{layer}.experts"));
        Ok(route)
    }

    /// What the chosen experts make of x `[T, d]`.
    pub fn experts(
        &self,
        g: &mut Graph,
        x: NodeId,
        route: NodeId,
        layer: &str,
    ) -> GraphResult<NodeId> {
        let module = self.module(layer);
        let d = g.node(x).cols;
        let [up, down] = self.matrices(g, &module, d)?;
        let h = g.expert_up(x, route, up, self.projections().len())?;
        let h = self.activated(g, h, self.n_used * self.size)?;
        g.expert_down(h, route, down)
    }

    /// The projections before the activation.
    fn projections(&self) -> &'static [&'static str] {
        match self.is_gated {
            true => &["gate_proj", "up_proj"],
            false => &["up_proj"],
        }
    }

    /// The activation of `n` columns of gates, with those of ups; or of ups alone.
    fn activated(&self, g: &mut Graph, h: NodeId, n: usize) -> GraphResult<NodeId> {
        if !self.is_gated {
            return Ok(g.map(h, Map::Activation(self.activation)));
        }
        let (gate, up) = (g.slice(h, 0, n)?, g.slice(h, n, n)?);
        g.gated(gate, up, self.activation)
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
        let stack: Vec<_> = self.projections().iter().map(|p| (*p, n)).collect();
        let h = blocks::stacked(g, x, &mlp, &stack, false)?;
        let h = self.activated(g, h, n)?;
        let y = blocks::stacked(g, h, &mlp, &[("down_proj", d)], false)?;
        if !shared.is_gated {
            return Ok(y);
        }
        let gate = blocks::stacked(g, x, module, &[(self.names.shared_gate, 1)], false)?;
        g.row_gate(y, gate)
    }

    /// Gate and up `[n_experts · 2 size, d]`, each gate above its up; down `[n_experts · d, size]`.
    fn matrices(&self, g: &mut Graph, module: &str, d: usize) -> GraphResult<[Experts; 2]> {
        let of = |g: &mut Graph, name: &str, is_up: bool| -> GraphResult<Experts> {
            let name = format!("{module}.experts.{name}");
            let weight = g.matrix_of(&name, self.parts(module, d, is_up, false))?;
            let bias = self.has_biases.then(|| {
                let parts = self.parts(module, d, is_up, true);
                g.vector_of(&format!("{name}.bias"), parts)
            });
            Ok(Experts {
                weight,
                bias: bias.transpose()?,
                n_experts: self.n_experts,
                n_used: self.n_used,
            })
        };
        Ok([of(g, "gate+up", true)?, of(g, "down", false)?])
    }

    /// The tensors of all experts' matrices or biases, expert by expert.
    fn parts(&self, module: &str, d: usize, is_up: bool, is_bias: bool) -> Vec<Part> {
        let (count, n) = (self.n_experts, self.size);
        let (rows, cols) = if is_up { (n, d) } else { (d, n) };
        let cols = if is_bias { 1 } else { cols };
        let suffix = if is_bias { "bias" } else { "weight" };
        let dotted = |name: &str| format!("{module}.{name}.{suffix}");
        // Of a tensor of all experts, the rows of one.
        let one = |tensor: String, e: usize, rows: usize| Part {
            rows: e * rows..(e + 1) * rows,
            ..Part::whole(tensor, [count * rows, cols])
        };
        let both = match is_up {
            true => self.projections().len() * rows,
            false => rows,
        };
        // Of gate, up and down.
        let wanted = |names: &[&'static str; 3]| match (is_up, self.is_gated) {
            (true, true) => names[..2].to_vec(),
            (true, false) => names[1..2].to_vec(),
            (false, _) => names[2..].to_vec(),
        };
        let experts = 0..count;
        match &self.names.stored {
            Stored::Apart(names) => {
                let names = wanted(names);
                let each = experts.flat_map(|e| names.iter().map(move |p| (e, p)));
                let whole = |(e, p)| Part::whole(dotted(&format!("experts.{e}.{p}")), [rows, cols]);
                each.map(whole).collect()
            }
            Stored::Stacked(names) => {
                let name = dotted(names[usize::from(!is_up)]);
                experts.map(|e| one(name.clone(), e, both)).collect()
            }
            Stored::ByProjection(names) => {
                let names = wanted(names);
                let each = experts.flat_map(|e| names.iter().map(move |p| (e, p)));
                each.map(|(e, p)| one(dotted(p), e, rows)).collect()
            }
            Stored::StackedWhole(names) => {
                let ending = if is_bias { "_bias" } else { "" };
                let name = names[usize::from(!is_up)];
                let name = format!("{module}.{name}{ending}");
                experts.map(|e| one(name.clone(), e, both)).collect()
            }
        }
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

/// The experts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertCounts {
    /// How many there are in a layer.
    pub count: usize,
    /// How many of them process a token.
    pub used: usize,
    /// The parameters of the model that process a token.
    pub active_parameters: u64,
}

/// Of a graph with experts.
pub(crate) fn expert_counts(graph: &Graph) -> Option<ExpertCounts> {
    let mut found = None;
    // Of each weight, the part that is read.
    let mut shares = vec![(1, 1); graph.weights.len()];
    for node in &graph.nodes {
        if let Op::ExpertUp { experts, .. } | Op::ExpertDown { experts } = node.op {
            let share = (experts.n_used, experts.n_experts);
            found = Some(share);
            let bias = experts.bias.into_iter();
            bias.chain([experts.weight])
                .for_each(|w| shares[w.0] = share);
        }
    }
    let (used, count) = found?;
    let weights = graph.weights.iter().zip(shares);
    let active = weights.map(|(weight, (used, of))| match weight.kind {
        WeightKind::Constant(_) => 0,
        _ => (weight.rows() * weight.cols * used / of) as u64,
    });
    Some(ExpertCounts {
        count,
        used,
        active_parameters: active.sum(),
    })
}
