//! Sums of what matrices are multiplied by, against hooks on transformers' modules.

use pollster::block_on;
use safetensors::SafeTensors;
use siskin_engine::{CacheType, DeviceRequest, OpenOptions, Precision, Session, Squares};
use siskin_tests::{Tensors, assert_close, fixture};

#[test]
fn column_squares_are_those_of_transformers() {
    let bytes = std::fs::read(fixture("importance.safetensors")).unwrap();
    let wanted = SafeTensors::deserialize(&bytes).unwrap();
    let values = Tensors::open("importance.safetensors");
    for (name, folder) in [("llama", "tiny/llama"), ("mixtral", "families/mixtral")] {
        let ids = Tensors::open(&format!("{folder}/expected.safetensors")).u32("ids");
        let options = OpenOptions {
            device: DeviceRequest::Cpu,
            context: Some(64),
            cache_types: CacheType::F32.into(),
            precision: Precision::F32,
            ..OpenOptions::default()
        };
        let model = fixture(folder).join("model.gguf");
        let mut session = block_on(Session::open(&model, &options, &mut |_| ())).unwrap();
        let mut found = Squares::new();
        block_on(session.add_column_squares(&ids, &mut found)).unwrap();
        let sums = wanted.names();
        let sums = sums.iter().filter_map(|n| {
            n.strip_prefix(name)?
                .strip_prefix('/')?
                .strip_suffix(".sums")
        });
        let mut n = 0;
        for tensor in sums {
            let found = &found[&format!("{tensor}.weight")];
            let wanted = |what: &str| values.f32(&format!("{name}/{tensor}.{what}"));
            assert_eq!(found.counts, wanted("counts"), "{name} {tensor}");
            assert_close(tensor, &found.sums, &wanted("sums"), 1e-4);
            n += 1;
        }
        assert_eq!(n, found.len(), "{name}: {:?}", found.keys());
    }
}
