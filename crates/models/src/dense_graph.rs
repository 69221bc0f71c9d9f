//! The graph of a [`Dense`]: norms, projections as files store them, attention or what is in its place, MLP or experts.

use siskin_graph::{
    Activation, AttentionSpec, Graph, Map, NodeId, Part, Result as GraphResult, RopeSpec,
};

use crate::blocks;
use crate::dense::{Dense, Norm, Order, Parts, QkNorm, Stored, label};
use crate::mixers::Mixer;
use crate::rope::Rope;

impl Dense {
    pub(crate) fn norm(&self, g: &mut Graph, x: NodeId, name: &str) -> GraphResult<NodeId> {
        let (n, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let weight = |g: &mut Graph, suffix: &str| {
            let name = format!("{name}.{suffix}");
            g.vector(&name, &[(&name, n)])
        };
        match self.norm {
            Norm::Rms => blocks::norm(g, x, name, n, eps),
            Norm::Layer { bias } => {
                let bias = bias.then(|| weight(g, "bias"));
                let weight = weight(g, "weight");
                g.layer_norm(x, weight, bias, eps)
            }
            Norm::Plain => {
                let ones = g.constant("ones", vec![1.0; n]);
                g.layer_norm(x, ones, None, eps)
            }
        }
    }

    /// A linear over projections of these many rows each.
    fn projections(
        &self,
        g: &mut Graph,
        x: NodeId,
        module: &str,
        stored: Stored,
        rows: &[usize],
        bias: bool,
    ) -> GraphResult<NodeId> {
        let cols = g.node(x).cols;
        let (name, tensor) = match stored {
            Stored::Apart(names) => {
                let named: Vec<_> = names.iter().copied().zip(rows.iter().copied()).collect();
                return blocks::stacked(g, x, module, &named, bias);
            }
            Stored::Stacked(name) => {
                return blocks::stacked(g, x, module, &[(name, rows.iter().sum())], bias);
            }
            Stored::ByHead(name) => (name, format!("{module}.{name}")),
        };
        let ranges = self.by_head();
        let shape = [rows.iter().sum(), cols];
        let parts = |suffix: &str, shape: [usize; 2]| -> Vec<Part> {
            let part = |rows: &std::ops::Range<usize>| Part {
                rows: rows.clone(),
                ..Part::whole(format!("{tensor}.{suffix}"), shape)
            };
            ranges.iter().map(part).collect()
        };
        let weight = g.matrix_of(&format!("{module}.{name}.weight"), parts("weight", shape))?;
        let bias = bias.then(|| {
            g.vector_of(
                &format!("{module}.{name}.bias"),
                parts("bias", [shape[0], 1]),
            )
        });
        g.linear(x, weight, bias.transpose()?)
    }

    /// Rows of a tensor that has q, k and v head by head, in the order q, k, v.
    fn by_head(&self) -> Vec<std::ops::Range<usize>> {
        let (n, d) = (self.dims.n_kv_heads, self.dims.head_dim);
        let q = self.dims.n_heads / n;
        let range = |first: usize, heads: usize, group: usize| {
            let at = (group * (q + 2) + first) * d;
            at..at + heads * d
        };
        [(0, q), (q, 1), (q + 1, 1)]
            .into_iter()
            .flat_map(|(first, heads)| (0..n).map(move |group| range(first, heads, group)))
            .collect()
    }

    pub(crate) fn rope(&self, g: &mut Graph, i: usize) -> RopeSpec {
        let spec = |inv_freq, scale| RopeSpec {
            inv_freq,
            head_dim: self.dims.head_dim,
            pairs: self.pairs,
            scale,
        };
        match self.layers[i].rope {
            // A rotation by nothing.
            None => spec(g.constant("no_rope", vec![0.0]), 1.0),
            Some(at) => {
                let name = match at {
                    0 => "inv_freq".into(),
                    at => format!("inv_freq.{at}"),
                };
                let Rope {
                    inv_freq, scale, ..
                } = &self.ropes[at];
                spec(g.constant(&name, inv_freq.clone()), *scale)
            }
        }
    }

    fn attention(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let dims = self.dims.layer(i);
        let (n_heads, n_kv_heads, head_dim) = (dims.n_heads, dims.n_kv_heads, dims.head_dim);
        let (nq, nkv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let module = format!("{}.{}", self.layer_name(i), self.names.attention);
        let qkv = match self.has_attention_gate {
            true => self.gated_qkv(g, x, &module, [nq, nkv])?,
            false => self.projections(g, x, &module, self.qkv, &[nq, nkv, nkv], self.biases.qkv)?,
        };
        let q = g.slice(qkv, 0, nq)?;
        let k = g.slice(qkv, nq, nkv)?;
        let v = g.slice(qkv, nq + nkv, nkv)?;
        let eps = dims.rms_norm_eps;
        let qk = |g: &mut Graph, q: NodeId, k: NodeId, n: [usize; 2]| -> GraphResult<[NodeId; 2]> {
            Ok([
                blocks::norm(
                    g,
                    q,
                    &format!("{module}.{}", self.names.qk_norms[0]),
                    n[0],
                    eps,
                )?,
                blocks::norm(
                    g,
                    k,
                    &format!("{module}.{}", self.names.qk_norms[1]),
                    n[1],
                    eps,
                )?,
            ])
        };
        let [q, k] = match self.qk_norm {
            QkNorm::Heads => qk(g, q, k, [head_dim; 2])?,
            QkNorm::All => qk(g, q, k, [nq, nkv])?,
            QkNorm::None | QkNorm::HeadsAfterRope => [q, k],
        };
        let rope = self.rope(g, i);
        let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
        let [q, k] = match self.qk_norm {
            QkNorm::HeadsAfterRope => qk(g, q, k, [head_dim; 2])?,
            _ => [q, k],
        };
        for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
            g.name(x, format!("{}.{name}", label(i)));
        }
        let cache = g.cache(n_kv_heads, head_dim);
        g.kv_append(k, v, cache)?;
        let sinks = self.has_sinks.then(|| {
            let name = format!("{module}.sinks");
            g.vector(&name, &[(&name, n_heads)])
        });
        let spec = AttentionSpec {
            n_heads,
            n_kv_heads,
            head_dim,
            scale: self.attention_scale,
            window: self.layers[i].window,
            causal: true,
            soft_cap: self.soft_cap,
            sinks,
        };
        let mut mixed = g.attention(q, cache, spec)?;
        g.name(mixed, format!("{}.attention", label(i)));
        if self.has_attention_gate {
            let gate = g.slice(qkv, nq + 2 * nkv, nq)?;
            mixed = g.gated(gate, mixed, Activation::Sigmoid)?;
        }
        if let Some([norm, _]) = self.inner_norms {
            mixed = blocks::norm(g, mixed, &format!("{module}.{norm}"), nq, eps)?;
        }
        let o = [(self.names.o, dims.hidden_size)];
        let y = blocks::stacked(g, mixed, &module, &o, self.biases.o)?;
        Ok(self.scaled(g, y, self.residual_scale))
    }

    /// q, k, v and the gate, whose rows are between those of q's heads in the file.
    fn gated_qkv(
        &self,
        g: &mut Graph,
        x: NodeId,
        module: &str,
        [nq, nkv]: [usize; 2],
    ) -> GraphResult<NodeId> {
        let (cols, d) = (g.node(x).cols, self.dims.head_dim);
        let parts = |suffix: &str, cols: usize| -> Vec<Part> {
            let heads = |side: usize| {
                (0..nq / d).map(move |head| {
                    let at = (2 * head + side) * d;
                    at..at + d
                })
            };
            let of_q = |rows| Part {
                rows,
                ..Part::whole(format!("{module}.q_proj.{suffix}"), [2 * nq, cols])
            };
            let whole = |name: &str| Part::whole(format!("{module}.{name}.{suffix}"), [nkv, cols]);
            let mut parts: Vec<Part> = heads(0).map(of_q).collect();
            parts.extend([whole("k_proj"), whole("v_proj")]);
            parts.extend(heads(1).map(of_q));
            parts
        };
        let name = format!("{module}.q_proj+k_proj+v_proj");
        let weight = g.matrix_of(&format!("{name}.weight"), parts("weight", cols))?;
        let bias = self.biases.qkv;
        let bias = bias.then(|| g.vector_of(&format!("{name}.bias"), parts("bias", 1)));
        g.linear(x, weight, bias.transpose()?)
    }

    /// Attention, or what a layer has in its place.
    fn mix(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let module = format!("{}.{}", self.layer_name(i), self.names.mixer);
        let y = match self.layers[i].mixer {
            Mixer::Attention => return self.attention(g, x, i),
            Mixer::Latent(latent) => self.latent(g, x, i, latent),
            Mixer::ShortConv(conv) => conv.build(g, x, &module),
            Mixer::DeltaNet(net) => net.build(g, x, &module),
            Mixer::Mamba(mamba) => mamba.build(g, x, &module),
            Mixer::Mamba2(mamba) => mamba.build(g, x, &module),
        }?;
        Ok(self.scaled(g, y, self.residual_scale))
    }

    fn mlp(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let dims = self.dims.layer(i);
        let (n, mlp) = (dims.intermediate_size, &self.mlp);
        let layer = self.layer_name(i);
        let experts = match self.moe.filter(|_| self.layers[i].is_sparse) {
            None => None,
            Some(moe) => {
                let y = moe.build(g, x, &layer)?;
                if !moe.is_beside_mlp {
                    return Ok(self.scaled(g, y, self.residual_scale));
                }
                Some(y)
            }
        };
        let module = match self.names.mlp {
            "" => layer,
            name => format!("{layer}.{name}"),
        };
        let bias = self.biases.gate_up;
        let mut h = if mlp.is_gated {
            let both = self.projections(g, x, &module, mlp.up, &[n, n], bias)?;
            let gate = g.slice(both, 0, n)?;
            let up = g.slice(both, n, n)?;
            g.gated(gate, up, mlp.activation)?
        } else {
            let h = self.projections(g, x, &module, mlp.up, &[n], bias)?;
            match &self.xielu {
                Some(xielu) => xielu.build(g, h, &module, i)?,
                None => g.map(h, Map::Activation(mlp.activation)),
            }
        };
        if let Some([_, norm]) = self.inner_norms {
            h = blocks::norm(g, h, &format!("{module}.{norm}"), n, dims.rms_norm_eps)?;
        }
        let down = [(mlp.down, dims.hidden_size)];
        let y = blocks::stacked(g, h, &module, &down, self.biases.down)?;
        let y = match experts {
            Some(experts) => g.add(experts, y)?,
            None => y,
        };
        Ok(self.scaled(g, y, self.residual_scale))
    }

    pub(crate) fn scaled(&self, g: &mut Graph, x: NodeId, by: f32) -> NodeId {
        if by == 1.0 {
            return x;
        }
        g.map(x, Map::Scale(by))
    }

    pub(crate) fn layer_name(&self, i: usize) -> String {
        format!("{}.{i}", self.names.layers)
    }

    pub(crate) fn block(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let layer = self.layer_name(i);
        let norm = |g: &mut Graph, x, at: usize| {
            self.norm(g, x, &format!("{layer}.{}", self.names.norms[at]))
        };
        let (before, after) = match self.order {
            Order::Before | Order::Parallel => (true, false),
            Order::After => (false, true),
            Order::Around => (true, true),
        };
        let input = if before { norm(g, x, 0)? } else { x };
        if self.layers[i].parts != Parts::Both {
            let h = match self.layers[i].parts {
                Parts::Mlp => self.mlp(g, input, i)?,
                _ => self.mix(g, input, i)?,
            };
            return g.add(x, h);
        }
        let h = self.mix(g, input, i)?;
        let h = if after { norm(g, h, 1)? } else { h };
        if self.order == Order::Parallel {
            let [first, _, second, _] = self.names.norms;
            let input = if first == second {
                input
            } else {
                norm(g, x, 2)?
            };
            let m = self.mlp(g, input, i)?;
            let both = g.add(h, m)?;
            return g.add(x, both);
        }
        let x = g.add(x, h)?;
        let input = if before { norm(g, x, 2)? } else { x };
        let h = self.mlp(g, input, i)?;
        let h = if after { norm(g, h, 3)? } else { h };
        g.add(x, h)
    }
}
