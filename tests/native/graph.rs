//! Shapes, fusion, liveness: no device.

use siskin_formats::Checkpoint;
use siskin_graph::{CacheTypes, Capacity, Fusion, Graph, HeadsSpec, NodeId, Op, Plan, Rows, Step};
use siskin_models::{Head, Model};
use siskin_tests::fixture;

const FUSED: Fusion = Fusion {
    norm: true,
    residual: true,
    gated: true,
    rope: true,
    attention: true,
};

fn model(family: &str) -> Model {
    let folder = fixture(&format!("tiny/{family}"));
    Model::open(&Checkpoint::open(&folder).unwrap()).unwrap()
}

fn graph(family: &str, head: Head) -> Graph {
    model(family).graph(head).unwrap()
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut g = Graph::default();
    let table = g.matrix("table", &[("table", 10)], 64);
    let x = g.embed(table, 1.0);
    let w = g.matrix("proj", &[("proj", 8)], 32);
    let error = g.linear(x, w, None).unwrap_err().to_string();
    assert!(
        error.contains("linear `proj`") && error.contains("64 columns"),
        "{error}"
    );
    let half = g.slice(x, 0, 32).unwrap();
    assert!(g.add(x, half).is_err());
    assert!(g.slice(x, 40, 32).is_err());
}

#[test]
fn a_decode_step_has_five_steps_a_layer() {
    // embed, then norm+qkv, rope+append+attention, o+residual, norm+gate·up, down+residual a layer,
    // then norm+lm_head and choose.
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        let plan = Plan::new(graph(family, Head::Next), 1, FUSED, |_| true);
        assert_eq!(
            plan.steps.len(),
            1 + 5 * 2 + 2,
            "{family}: {:#?}",
            plan.steps
        );
    }
    // Norms after both blocks: two more.
    let plan = Plan::new(graph("gemma3", Head::Next), 1, FUSED, |_| true);
    assert_eq!(plan.steps.len(), 1 + 7 * 3 + 2);
}

#[test]
fn unfused_plans_run_every_node() {
    let g = graph("gemma3", Head::AllLogits);
    let views = g
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Slice { .. }))
        .count();
    let nodes = g.nodes.len();
    let plan = Plan::new(g, 8, Fusion::NONE, |_| true);
    assert_eq!(plan.steps.len(), nodes - views);
    assert!(plan.steps.iter().all(|s| s.nodes().len() == 1));
}

/// Runs through the plan, and checks that no value is overwritten before its last reader.
fn check_liveness(plan: &Plan) {
    let rows = |r: Rows| match r {
        Rows::Last => plan.max_samples,
        _ => plan.max_rows,
    };
    let span = |id: NodeId| {
        let v = plan.view(id);
        (v.offset, v.offset + rows(v.rows) * v.stride)
    };
    let mut written: Vec<(NodeId, (usize, usize))> = vec![];
    for step in &plan.steps {
        let nodes = step.nodes();
        for input in nodes.iter().flat_map(|n| &plan.graph.node(*n).inputs) {
            if nodes.contains(input) {
                continue;
            }
            let s = span(*input);
            let last = written.iter().rev().find(|w| w.1.0 < s.1 && s.0 < w.1.1);
            let (writer, at) = last.unwrap_or_else(|| panic!("{input:?} was never written"));
            assert_eq!(
                *at, s,
                "{input:?} of {step:?} was overwritten by {writer:?}"
            );
        }
        let result = step.result();
        if plan.graph.node(result).cols > 0 {
            let s = span(result);
            assert!(s.1 <= plan.arena_len);
            // In place only where the step itself says so.
            for input in nodes.iter().flat_map(|n| &plan.graph.node(*n).inputs) {
                let in_place = !matches!(step, Step::Single(_));
                let i = span(*input);
                assert!(
                    in_place || i.1 <= s.0 || s.1 <= i.0,
                    "{step:?} over its input"
                );
            }
            written.push((result, s));
        }
    }
    for output in &plan.graph.outputs {
        let s = span(*output);
        let last = written.iter().rev().find(|w| w.1.0 < s.1 && s.0 < w.1.1);
        assert_eq!(last.map(|w| w.1), Some(s), "the output was overwritten");
    }
}

#[test]
fn values_live_as_long_as_they_are_read() {
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma3"] {
        for head in [Head::Next, Head::AllLogits] {
            for rows in [1, 7] {
                for norm in [false, true] {
                    let fusion = Fusion {
                        norm,
                        gated: norm,
                        ..FUSED
                    };
                    // Unfused plans keep inner values that fused ones have no place for.
                    check_liveness(&Plan::new(graph(family, head), rows, Fusion::NONE, |_| {
                        true
                    }));
                    let plan = Plan::new(graph(family, head), rows, fusion, |_| true);
                    assert!(plan.arena_len > 0);
                }
            }
        }
    }
}

#[test]
fn the_arena_does_not_grow_with_depth() {
    let plan = Plan::new(graph("llama", Head::Next), 16, Fusion::NONE, |_| true);
    let all: usize = plan.graph.nodes.iter().map(|n| 16 * n.cols).sum();
    assert!(plan.arena_len * 3 < all, "{} of {all}", plan.arena_len);
}

#[test]
fn the_cache_figure() {
    // 2 layers, keys and values, 2 heads of 16, 100 tokens, f16.
    assert_eq!(
        graph("llama", Head::Next).cache_bytes(Capacity::alone(100), CacheTypes::default()),
        2 * 2 * 2 * 16 * 100 * 2
    );
}

#[test]
fn architectures_and_shapes_that_do_not_fit() {
    let source = fixture("tiny/llama");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read_to_string(source.join("config.json")).unwrap();
    let open = |config: String| {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        Model::open(&checkpoint)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let error = open(config.replace("\"llama\"", "\"rwkv7\""));
    assert!(
        error.contains("`rwkv7`") && error.contains("qwen3"),
        "{error}"
    );
    let error = open(config.replace("\"intermediate_size\": 96", "\"intermediate_size\": 128"));
    assert!(
        error.contains("gate_proj") && error.contains("[128, 64]"),
        "{error}"
    );
    let error = open(config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"));
    assert!(
        error.contains("model.layers.2") && error.contains("no tensor"),
        "{error}"
    );
    let error = open(config.replace("\"hidden_size\": 64", "\"hidden_size\": 99999999999"));
    assert!(error.contains("hidden_size"), "{error}");
    let error = open("{".into());
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn heads_take_no_more_than_there_is() {
    let spec = |width, lens| HeadsSpec {
        n_heads: 4,
        width,
        lens,
        strides: [0, 8],
    };
    let mut g = Graph::default();
    let table = g.matrix("table", &[("table", 10)], 32);
    let x = g.embed(table, 1.0);
    let shared = g.slice(x, 0, 4).unwrap();
    let y = g.join_heads(&[shared, x], spec(12, [4, 8])).unwrap();
    assert_eq!(g.node(y).cols, 48);
    for (inputs, spec) in [
        (vec![shared, x], spec(11, [4, 8])),
        (vec![shared, x], spec(12, [5, 7])),
        (vec![shared, shared], spec(12, [4, 8])),
        (vec![shared], spec(12, [4, 8])),
    ] {
        let error = g.join_heads(&inputs, spec).unwrap_err().to_string();
        assert!(error.contains("join_heads"), "{error}");
    }
}
