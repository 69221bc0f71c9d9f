//! The ops that have a recurrent state. Their kernels take a thread for each column, and a step's tokens in turn.

use siskin_graph::{NodeId, Op, Rows, StateId, View};

use super::{Bindings, Lowering, code};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Result};

impl Lowering<'_> {
    /// The bindings of the step and the state, which it reads and writes.
    fn state(&self, state: StateId) -> Bindings {
        let state = self.device.states[state.0].clone();
        vec![(0, self.step_uniform(Rows::All)), (1, state.into())]
    }

    /// Queues a kernel with a thread for each column of a node's value.
    fn push_columns(
        &mut self,
        id: NodeId,
        kernel: &Kernel,
        state: StateId,
        entries: &[(u32, super::Bound)],
    ) -> Result<()> {
        let cols = self.graph().node(id).cols;
        let bytes = self.traffic(id) + 8 * self.graph().states[state.0] as u64;
        let size = Size::Fixed([cols.div_ceil(64) as u32, 1, 1]);
        self.push(kernel, size, Rows::All, bytes, entries)?;
        Ok(())
    }

    /// Refuses inputs that a kernel would bind twice.
    pub(super) fn check_apart(&self, id: NodeId, inputs: &[View]) -> Result<()> {
        let mut offsets: Vec<usize> = inputs.iter().map(|v| v.offset).collect();
        offsets.sort_unstable();
        if offsets.windows(2).any(|pair| pair[0] == pair[1]) {
            let name = self.graph().node(id).op.name();
            return Err(Error::Unsupported(format!("{name} of slices of one value")));
        }
        Ok(())
    }

    pub(super) fn recurrent(&mut self, id: NodeId) -> Result<()> {
        match self.graph().node(id).op {
            Op::CausalConv { .. } => self.causal_conv(id),
            Op::DeltaRule { .. } => self.delta_rule(id),
            _ => self.selective_scan(id),
        }
    }

    fn causal_conv(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id);
        let Op::CausalConv {
            weight,
            bias,
            state,
            activation,
        } = node.op
        else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let (x, cols) = (self.input(id, 0), node.cols);
        let kernel = Kernel::new("causal_conv")
            .size("N", cols)
            .size("KERNEL", self.graph().weight(weight).rows() / cols)
            .size("STRIDE", x.stride)
            .size("START", x.start)
            .flag("HAS_BIAS", bias.is_some())
            .set("ACTIVATION", code(activation));
        let mut entries = self.state(state);
        entries.extend([
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (5, self.vector(bias)?),
            (6, self.bound(self.plan.view(id))),
        ]);
        self.push_columns(id, &kernel, state, &entries)
    }

    fn delta_rule(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id);
        let Op::DeltaRule {
            spec,
            a,
            dt_bias,
            state,
        } = node.op
        else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let inputs = [0, 1, 2].map(|i| self.input(id, i));
        self.check_apart(id, &inputs)?;
        let [qk, v, gates] = inputs;
        let kernel = Kernel::new("delta_rule")
            .size("N_K_HEADS", spec.n_k_heads)
            .size("N_V_HEADS", spec.n_v_heads)
            .size("K_DIM", spec.k_dim)
            .size("V_DIM", spec.v_dim)
            .set("SCALE", spec.scale)
            .flag("TILED", spec.tiled)
            .size("QK_STRIDE", qk.stride)
            .size("QK_START", qk.start)
            .size("V_STRIDE", v.stride)
            .size("V_START", v.start)
            .size("GATES_STRIDE", gates.stride)
            .size("GATES_START", gates.start);
        let mut entries = self.state(state);
        entries.extend([
            (2, self.vector(Some(a))?),
            (3, self.bound(qk)),
            (4, self.bound(v)),
            (5, self.bound(gates)),
            (6, self.bound(self.plan.view(id))),
            (7, self.vector(Some(dt_bias))?),
        ]);
        self.push_columns(id, &kernel, state, &entries)
    }

    fn selective_scan(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id);
        let Op::SelectiveScan {
            spec,
            a,
            dt_bias,
            d,
            state,
        } = node.op
        else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let [x, steps, bc] = [0, 1, 2].map(|i| self.input(id, i));
        // Mamba 2 has x, B and C side by side.
        let bc_in_x = x.offset == bc.offset;
        match bc_in_x {
            true => self.check_apart(id, &[x, steps])?,
            false => self.check_apart(id, &[x, steps, bc])?,
        }
        let [min, max] = spec.step_limits;
        let kernel = Kernel::new("selective_scan")
            .size("N_HEADS", spec.n_heads)
            .size("HEAD_DIM", spec.head_dim)
            .size("N_GROUPS", spec.n_groups)
            .size("STATE_DIM", spec.state_dim)
            .flag("A_PER_STATE", self.graph().weight(a).rows() != spec.n_heads)
            .flag("HAS_BIAS", dt_bias.is_some())
            .flag("BC_IN_X", bc_in_x)
            .set("MIN_STEP", min)
            // A constant must be finite.
            .set("MAX_STEP", max.min(f32::MAX))
            .size("X_STRIDE", x.stride)
            .size("X_START", x.start)
            .size("STEPS_STRIDE", steps.stride)
            .size("STEPS_START", steps.start)
            .size("BC_STRIDE", bc.stride)
            .size("BC_START", bc.start);
        let bound_bc = match bc_in_x {
            true => self.vector(None)?,
            false => self.bound(bc),
        };
        let mut entries = self.state(state);
        entries.extend([
            (2, self.vector(Some(a))?),
            (3, self.bound(x)),
            (4, self.bound(steps)),
            (5, bound_bc),
            (6, self.bound(self.plan.view(id))),
            (7, self.vector(dt_bias)?),
            (8, self.vector(Some(d))?),
        ]);
        self.push_columns(id, &kernel, state, &entries)
    }
}
