//! Differentiation and adapters as rewrites of a graph: no device.

use siskin_graph::{
    Activation, Checkpointing, Fusion, Graph, LoraSpec, MOMENT_BLOCK, MixSpec, NodeId, Op, Plan,
};
use siskin_models::{Head, Model};

fn model(layers: usize, vocab: usize) -> Model {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocab, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 512,
        "tie_word_embeddings": true,
    });
    Model::from_config(config).unwrap()
}

/// With an adapter on each projection of some layers whose name ends so.
fn training(layers: usize, vocab: usize, ending: &str, checkpointing: Checkpointing) -> Graph {
    let graph = model(layers, vocab).graph(Head::Loss).unwrap();
    let parts = graph.weights.iter().flat_map(|w| &w.parts);
    let modules = parts.filter_map(|p| p.tensor.strip_suffix(".weight"));
    let spec = LoraSpec {
        rank: 4,
        scale: 1.0,
        dropout: 0.0,
        use_dora: false,
        adapter: None,
        modules: modules
            .filter(|m| m.ends_with(ending))
            .map(String::from)
            .collect(),
    };
    let mut graph = graph.with_lora(&spec).without_cache();
    let loss = graph.outputs[0];
    graph.differentiate(loss, checkpointing).unwrap();
    graph
}

fn arena(graph: Graph, rows: usize) -> usize {
    Plan::new(graph, rows, Fusion::NONE, |_| false).arena_len
}

fn count(graph: &Graph, is: fn(&Op) -> bool) -> usize {
    graph.nodes.iter().filter(|n| is(&n.op)).count()
}

/// Logits of all rows would be vocabulary × T: nothing in the plan is.
#[test]
fn the_loss_needs_no_room_for_the_vocabulary() {
    let of = |vocab| arena(training(2, vocab, "_proj", Checkpointing::Off), 256);
    assert_eq!(of(320), of(262_144));
}

#[test]
fn checkpointing_trades_room_for_work() {
    let of = |checkpointing| training(16, 320, "_proj", checkpointing);
    let all = [
        Checkpointing::Off,
        Checkpointing::Every(4),
        Checkpointing::Every(1),
    ]
    .map(of);
    let linears = all
        .each_ref()
        .map(|g| count(g, |op| matches!(op, Op::Linear { .. })));
    assert_eq!(linears[0], 16 * 4);
    assert!(
        linears[1] > linears[0] && linears[2] > linears[0],
        "{linears:?}"
    );
    let room = all.map(|g| arena(g, 64));
    assert!(room[1] * 2 < room[0] && room[2] * 4 < room[0], "{room:?}");
}

/// Nothing before the first adapter is differentiated, and no frozen weight.
#[test]
fn only_what_leads_to_an_adapter_gets_a_gradient() {
    let last = training(4, 320, "layers.3.mlp.down_proj", Checkpointing::Off);
    assert_eq!(last.loras.len(), 1);
    assert_eq!(count(&last, |op| matches!(op, Op::LinearGrad { .. })), 0);
    assert_eq!(
        count(&last, |op| matches!(
            op,
            Op::LoraGradA { .. } | Op::LoraGradB { .. }
        )),
        2
    );
    let first = training(4, 320, "layers.0.self_attn.q_proj", Checkpointing::Off);
    // Every linear of layers 1 to 3, and of layer 0 those after q.
    assert_eq!(
        count(&first, |op| matches!(op, Op::LinearGrad { .. })),
        3 * 4 + 3
    );
    assert_eq!(first.loras[0].spans[0].start, 0);
    assert_eq!(first.loras[0].spans.len(), 1);
}

/// Magnitudes stand behind A and B, and nothing shares a block of the optimiser's.
#[test]
fn magnitudes_have_places_of_their_own() {
    let spec = LoraSpec {
        rank: 3,
        scale: 1.0,
        dropout: 0.0,
        use_dora: true,
        adapter: None,
        modules: vec![
            "model.layers.0.self_attn.v_proj".into(),
            "model.layers.0.mlp.up_proj".into(),
        ],
    };
    let graph = model(1, 320).graph(Head::Next).unwrap().with_lora(&spec);
    let (mut params, mut factors) = (0, 0);
    for lora in &graph.loras {
        let dora = lora.dora.as_ref().unwrap();
        let places = [
            (lora.a, lora.a_len()),
            (lora.b, lora.b_len()),
            (dora.m, lora.outer()),
        ];
        for (at, len) in places {
            assert!(at >= params && at.is_multiple_of(MOMENT_BLOCK), "{lora:?}");
            params = at + len;
        }
        // Every column of the stacked weight has a factor.
        assert_eq!(dora.n, graph.weight(dora.weight).rows());
        assert!(dora.factors >= factors && dora.n > lora.outer());
        factors = dora.factors + dora.n;
    }
    assert!(graph.params_len() >= params && graph.params_len().is_multiple_of(MOMENT_BLOCK));
    assert!(graph.factors_len() >= factors);
    let places = |plan: &Plan, is: fn(&Op) -> bool| -> Vec<usize> {
        let ids = (0..plan.graph.nodes.len()).map(NodeId);
        let found = ids.filter(|id| is(&plan.graph.node(*id).op));
        found.map(|id| plan.view(id).offset).collect()
    };
    let plan = Plan::new(graph, 8, Fusion::NONE, |_| false);
    let up = places(&plan, |op| matches!(op, Op::LoraUp { .. }));
    let scaled = places(&plan, |op| matches!(op, Op::Dora { .. }));
    assert_eq!(up, scaled, "in place");
}

/// However many logits are asked for, the parameters stand where they do.
#[test]
fn a_shared_weight_has_one_adapter() {
    let spec = LoraSpec {
        rank: 4,
        scale: 1.0,
        dropout: 0.0,
        use_dora: false,
        adapter: None,
        modules: vec![
            "model.embed_tokens".into(),
            "model.layers.1.mlp.up_proj".into(),
        ],
    };
    let [next, lens] =
        [Head::Next, Head::Lens].map(|head| model(3, 320).graph(head).unwrap().with_lora(&spec));
    assert_eq!(next.loras, lens.loras);
    assert_eq!(count(&lens, |op| matches!(op, Op::LoraUp { .. })), 1 + 3);
}

#[test]
fn gradients_can_be_tapped() {
    let mut graph = training(2, 320, "_proj", Checkpointing::Every(1));
    for name in [
        "model.layers.0.hidden.grad",
        "model.layers.1.q.grad",
        "model.norm.grad",
    ] {
        graph.tap(name).unwrap();
    }
    assert!(graph.tap("embed.grad").is_err(), "nothing before it learns");
}

#[test]
fn what_has_no_gradient_is_told() {
    let spec = LoraSpec {
        rank: 2,
        scale: 1.0,
        dropout: 0.0,
        use_dora: false,
        adapter: None,
        modules: vec!["model.layers.0.self_attn.q_proj".into()],
    };
    let mut cached = model(1, 320).graph(Head::Loss).unwrap().with_lora(&spec);
    let loss = cached.outputs[0];
    let error = cached
        .differentiate(loss, Checkpointing::Off)
        .unwrap_err()
        .to_string();
    assert!(error.contains("attention"), "{error}");

    let mut g = Graph::default();
    let table = g.matrix("table", &[("table", 10)], 32);
    let x = g.embed(table, 1.0);
    let w = g.matrix("wide", &[("wide.weight", 96)], 32);
    let y = g.linear(x, w, None).unwrap();
    // The middle third is read by nobody.
    let (a, b) = (g.slice(y, 0, 32).unwrap(), g.slice(y, 64, 32).unwrap());
    let h = g.gated(a, b, Activation::Silu).unwrap();
    let loss = g.cross_entropy(h, table, None).unwrap();
    g.output(loss);
    let spec = LoraSpec {
        modules: vec!["wide".into()],
        ..spec
    };
    let mut g = g.with_lora(&spec);
    let loss = g.outputs[0];
    let error = g
        .differentiate(loss, Checkpointing::Off)
        .unwrap_err()
        .to_string();
    assert!(error.contains("32..64"), "{error}");
}

#[test]
fn ops_over_streams_have_no_gradient() {
    let mix = |g: &mut Graph, x: NodeId| {
        let spec = MixSpec {
            n_in: 2,
            n_out: 2,
            constants: g.constant("constants", vec![1.0; 4]),
            weights: None,
        };
        g.mix(x, None, spec).unwrap()
    };
    let rescale = |g: &mut Graph, x: NodeId| g.rescale(x, x, 1e-5).unwrap();
    let top_k = |g: &mut Graph, x: NodeId| g.gaussian_top_k(x, 0.5);
    type Add<'a> = &'a dyn Fn(&mut Graph, NodeId) -> NodeId;
    let ops: [(&str, Add<'_>); 3] = [
        ("mix", &mix),
        ("rescale", &rescale),
        ("gaussian_top_k", &top_k),
    ];
    for (name, op) in ops {
        let mut g = Graph::default();
        let table = g.matrix("table", &[("table", 10)], 32);
        let x = g.embed(table, 1.0);
        let w = g.matrix("linear", &[("linear.weight", 32)], 32);
        let y = g.linear(x, w, None).unwrap();
        let y = op(&mut g, y);
        let loss = g.cross_entropy(y, table, None).unwrap();
        g.output(loss);
        let spec = LoraSpec {
            rank: 2,
            scale: 1.0,
            dropout: 0.0,
            use_dora: false,
            adapter: None,
            modules: vec!["linear".into()],
        };
        let mut g = g.with_lora(&spec);
        let loss = g.outputs[0];
        let error = g.differentiate(loss, Checkpointing::Off).unwrap_err();
        assert_eq!(error.op, name);
    }
}
