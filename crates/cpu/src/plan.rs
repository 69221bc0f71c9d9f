use std::ops::Deref;

use siskin_graph::{BatchPart, Fusion, Graph, NodeId, Plan};

/// A graph prepared for the CPU: each node is a step of its own, and its weights are looked up.
#[derive(Debug)]
pub struct CpuPlan {
    plan: Plan,
    nodes: Vec<NodeId>,
    places: Vec<Option<usize>>,
}

impl CpuPlan {
    /// `most`: rows and chosen tokens of a run; `places`: where the graph's weights are on the device.
    pub(crate) fn new(graph: Graph, most: [usize; 2], places: Vec<Option<usize>>) -> Self {
        let plan = Plan::of_sequences(graph, most, Fusion::NONE, |_| false);
        Self {
            nodes: plan.steps.iter().flat_map(|s| s.nodes()).collect(),
            plan,
            places,
        }
    }

    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The nodes of a part of a plan whose first output is a loss.
    pub(crate) fn nodes_of(&self, part: BatchPart) -> &[NodeId] {
        let loss = self.plan.graph.outputs[0];
        let end = self.nodes.iter().position(|id| *id == loss);
        let end = end.map_or(self.nodes.len(), |at| at + 1);
        match part {
            BatchPart::Whole => &self.nodes,
            BatchPart::Losses => &self.nodes[..end],
            BatchPart::Gradients => &self.nodes[end..],
        }
    }

    pub(crate) fn places(&self) -> &[Option<usize>] {
        &self.places
    }
}

impl Deref for CpuPlan {
    type Target = Plan;
    fn deref(&self) -> &Plan {
        &self.plan
    }
}
